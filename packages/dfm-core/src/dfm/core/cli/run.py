"""`dfm run`: run tasks and all they need."""

import os
import sys

import click

from dfm.api.errors import ExitCode, NothingSelectedError, UsageError
from dfm.core.cli.once import once_option
from dfm.core.cli.options import flow_options, settings_options
from dfm.core.compose import run
from dfm.core.config.layers import CliOptions
from dfm.core.flow.model import Flow
from dfm.core.graph.select import listed_tasks
from dfm.core.reading import FlowOptions, load
from dfm.core.report.make import make_sinks
from dfm.core.runfacts import DaemonUse
from dfm.core.runoptions import RunOptions


@click.command(name="run")
@click.argument("tasks", nargs=-1)
@flow_options
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(min=1),
    envvar="DFM_JOBS",
    metavar="N",
    help="Run at most N things at once, makes and ninjas inside tasks included. Default: the number of CPUs. "
    "On workers: have at most N tasks in flight. Default there: as many as the pool takes.",
)
@click.option(
    "--rundir",
    metavar="DIR",
    help="Directory for all run directories. Default: ./rundir.",
)
@once_option(
    "--base-rundir",
    metavar="DIR",
    help="Take results of tasks that ended well in the run directory DIR, without comparing anything.",
)
@click.option("--clean", is_flag=True, help="Empty the run directory first.")
@click.option("-f", "--force", is_flag=True, help="Take nothing as up to date.")
@click.option("-n", "--dry-run", is_flag=True, help="Tell what would run and why; run nothing, write nothing.")
@click.option("--explain", is_flag=True, help="Tell for each task why it runs.")
@click.option("-k", "--keep-going", is_flag=True, help="Go on with what does not need a failed task.")
@click.option("--max-fail", type=click.IntRange(min=1), metavar="N", help="Stop after N failed tasks.")
@settings_options
@click.option(
    "--daemon/--no-daemon",
    "is_daemon_used",
    default=None,
    help="Use the workers of the project's daemon, or never. Default: where one serves a remote runner.",
)
@click.option(
    "-u",
    "--ui",
    type=click.Choice(["log", "progress"]),
    help="Lines, or a status line on a terminal.",
)
@click.option("-v", "--verbose", count=True, help="Tell more: starts, reasons, what is up to date.")
@click.option("-q", "--quiet", is_flag=True, help="Tell failures only.")
@click.option(
    "--json",
    "is_json",
    is_flag=True,
    help="Print one JSON object on stdout; all else goes to stderr.",
)
def command(
    *,
    tasks: tuple[str, ...],
    flow: FlowOptions,
    jobs: int | None,
    rundir: str | None,
    base_rundir: str | None,
    clean: bool,
    force: bool,
    dry_run: bool,
    explain: bool,
    keep_going: bool,
    max_fail: int | None,
    settings: CliOptions,
    is_daemon_used: bool | None,
    ui: str | None,
    verbose: int,
    quiet: bool,
    is_json: bool,
) -> int:
    """Run TASKS and all they need; without TASKS, list what can be run.

    A task that is up to date does not run again. After a failure what runs is let finish and nothing new starts,
    unless -k or --max-fail say otherwise. Ctrl-C stops everything; a second one kills.

    Exit status: 0 all well, 1 a task failed, 2 wrong use, 3 invalid flow, 4 nothing to run, 6 the machine failed us,
    7 the runner cannot be used, 70 a bug, 130 and 143 stopped.
    """
    if keep_going and max_fail is not None:
        raise UsageError(
            "-k and --max-fail contradict each other",
            hint="-k never stops, --max-fail N stops after N",
        )
    if quiet and verbose:
        raise UsageError("-q and -v contradict each other")
    loaded = load(flow, os.environ)
    for warning in loaded.warnings:
        click.echo(warning, err=True)
    if not tasks:
        _list(loaded.flow, is_json=is_json)
        return ExitCode.OK
    options = RunOptions(
        flow=flow,
        tasks=tasks,
        jobs=jobs,
        rundir=rundir,
        base_rundir=base_rundir,
        is_clean=clean,
        is_forced=force,
        is_dry=dry_run,
        max_failures=None if keep_going else max_fail or 1,
        settings=settings,
        daemon={None: DaemonUse.AUTO, True: DaemonUse.ALWAYS, False: DaemonUse.NEVER}[is_daemon_used],
    )
    sinks = make_sinks(
        ui=ui,
        verbosity=-1 if quiet else verbose,
        is_explaining=explain,
        is_dry=dry_run,
        is_json=is_json,
        stdout=sys.stdout,
        stderr=sys.stderr,
        environ=os.environ,
    )
    return run(options, loaded, sinks, os.environ)


def _list(flow: Flow, *, is_json: bool) -> None:
    tasks = listed_tasks(flow)
    if not tasks:
        raise NothingSelectedError(f"package {flow.root.name!r} has no tasks")
    prefix = f"{flow.root.name}."
    if is_json:
        import json

        print(
            json.dumps(
                {
                    "schema": "dfm-tasks/1",
                    "package": flow.root.name,
                    "tasks": [{"name": task.name, "desc": task.desc} for task in tasks],
                }
            )
        )
        return
    width = max(len(task.name.removeprefix(prefix)) for task in tasks)
    print(f"tasks of package {flow.root.name}:")
    for task in tasks:
        name = task.name.removeprefix(prefix)
        print(f"  {name:<{width}}  {task.desc}".rstrip())
    print("run one with: dfm run TASK")
