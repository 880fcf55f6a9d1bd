"""The composition root: the only module that knows every concrete class, and how one command becomes one run."""

import asyncio
import contextlib
import os
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeGuard

import msgspec

from dfm.api.errors import DfmError, ExitCode, FlowError, InfrastructureError, RunnerError, UsageError
from dfm.api.events import EventSink, RunFinished, RunnerNotice, RunStarted
from dfm.api.runner import Ask, Runner, RunnerContext, RunnerPlugin
from dfm.core.config.layers import CliOptions
from dfm.core.config.load import Settings as RunnerSettings
from dfm.core.config.load import load_settings
from dfm.core.config.settings import DEFAULT_RUNNER
from dfm.core.crashpoint import crash_point
from dfm.core.execute.guard import start_guard
from dfm.core.flow.model import Flow
from dfm.core.granting import Grants
from dfm.core.graph.growth import Growth
from dfm.core.graph.node import Graph, Node
from dfm.core.plugins.dialect import dialect_of
from dfm.core.plugins.discovery import load_runner
from dfm.core.pool.trace import has_trace
from dfm.core.reading import LoadedFlow, as_utf8, growing_graph_of, locate_root, root_rundir
from dfm.core.record.cache import cache_from
from dfm.core.record.lock import RunLock
from dfm.core.runfacts import DaemonUse, RunFacts
from dfm.core.runoptions import RunOptions, rerun_command
from dfm.core.schedule.lifecycle import Settings
from dfm.core.schedule.policy import MAX_ATTEMPTS, FailurePolicy
from dfm.core.session import Desk, NoRunner, Session
from dfm.core.standalone.command import task_command

if TYPE_CHECKING:
    from dfm.api.batch import BatchDialect
    from dfm.core.daemon.endpoint import Discovery, Endpoint
    from dfm.core.pool.reap import Reaped, Speakers
    from dfm.core.pool.runner import PooledRunner

_AFTERMATH_POLL_SECONDS = 2.0
"""How soon after jobs were told to end a batch system is asked whether they have."""
NOT_FOR_TASKS = (
    "MAKEFLAGS",
    "MFLAGS",
    "MAKELEVEL",
    "GNUMAKEFLAGS",
    "DFM_CRASHPOINT",
    "DFM_CRASHPOINT_ARMED",
)


def chosen_runner(settings: RunnerSettings) -> tuple[RunnerPlugin, object]:
    """Return the plugin of the chosen runner and its decoded options.

    Raises:
        UsageError: the runner or an option is unknown.
        FlowError: a settings file chose an unknown one, or has faults in the runner's options.
        RunnerError: its plugin cannot be loaded.
    """
    try:
        plugin = load_runner(settings.runner_name)
    except UsageError as error:
        origin = settings.runner.origin
        if origin.location is None:
            raise
        raise FlowError(error.message, hint=error.hint, location=origin.location) from error
    return plugin, settings.runner_options(plugin)


def run(options: RunOptions, loaded: LoadedFlow, sink: EventSink, environ: Mapping[str, str]) -> int:
    """Run the tasks and return the exit code.

    Raises:
        DfmError: the run could not begin or could not go on.
    """
    settings = load_settings(environ, loaded.flow.root.srcdir, options.settings)
    plugin, runner_options = chosen_runner(settings)
    growing = growing_graph_of(loaded, options.tasks, environ, options.rundir)
    grants = Grants(settings.resolve_resources)
    grants.check(growing[0].nodes)
    directory = root_rundir(options.rundir)
    run_id = uuid.uuid4().hex
    crash_point("run.graph_built")
    desk = Desk()
    facts = RunFacts(
        run_id=run_id,
        project=loaded.flow.root.srcdir,
        root_rundir=directory,
        environ=_task_environment(options, environ),
        notice=lambda text: sink.emit(RunnerNotice(text=text)),
        ask=desk.ask,
        tell=sink.emit,
        use=options.daemon,
        jobs=options.jobs,
    )
    if options.is_dry:
        show = _shower(plugin, runner_options, settings, facts, grants)
        return _run_graph(options, loaded.flow, growing, NoRunner(), plugin.name, grants, facts, desk, sink, show)
    _make_root_rundir(directory)
    with RunLock(directory) as lock:
        crash_point("run.locked")
        if has_trace(directory):
            _end_last_run(directory, settings, options.settings, facts)
        if options.is_clean:
            _clean(directory)
        guard = start_guard(run_id, [lock.fd])
        try:
            crash_point("run.guarded")
            runner = open_runner(plugin, runner_options, settings, facts)
            return _run_graph(options, loaded.flow, growing, runner, plugin.name, grants, facts, desk, sink)
        finally:
            guard.dismiss()


def _end_last_run(directory: str, settings: RunnerSettings, cli_options: CliOptions, facts: RunFacts) -> None:
    """End what a run that was killed in this directory has left with workers."""
    from dfm.core.aftermath import Aftermath  # noqa: PLC0415  (a run without a pool must not load it)
    from dfm.core.pooled import access_base  # noqa: PLC0415  (a run without a pool must not load it)
    from dfm.core.wire.access import refuse_relative_places  # noqa: PLC0415  (a run without a pool must not load it)

    refuse_relative_places(os.environ)
    Aftermath(
        speakers=_speakers(settings, cli_options, facts.project, os.environ, _AFTERMATH_POLL_SECONDS, facts.notice),
        environ=os.environ,
        settings=settings.pool,
        access_base=access_base(settings),
        notice=facts.notice,
    ).end(directory)


def _speakers(
    settings: RunnerSettings,
    cli_options: CliOptions,
    project: str,
    environ: Mapping[str, str],
    poll_seconds: float,
    notice: Callable[[str], None],
) -> "Speakers":
    """Return who speaks to the batch systems of runners, whichever this command has chosen.

    Args:
        settings: of this command.
        cli_options: of which `--runner-opt` are those of the chosen runner.
        project: directory of the root flow file.
        environ: of this process.
        poll_seconds: longest time between two questions; less where `runner.pool.poll_interval` is.
        notice: is told of runners that cannot be used.
    """
    from dfm.core.pool.reap import Speaker  # noqa: PLC0415  (a run without a pool must not load it)
    from dfm.core.pooled import local_dialect  # noqa: PLC0415  (a run without a pool must not load it)

    seconds = min(settings.pool.poll_interval * settings.pool.time_scale, poll_seconds)

    def speaker(name: str) -> Speaker | None:
        if name == DEFAULT_RUNNER:
            return Speaker(local_dialect(), min(seconds, 1.0))
        try:
            plugin = load_runner(name)
            is_chosen = name == settings.runner_name
            of_runner = settings if is_chosen else load_settings(environ, project, _without_runner(cli_options))
            dialect = dialect_of(plugin, of_runner.runner_options(plugin))
        except DfmError as error:
            notice(f"jobs of runner {name} are left as they are: {error}")
            return None
        return None if dialect is None else Speaker(dialect, seconds)

    return speaker


def _without_runner(options: CliOptions) -> CliOptions:
    return msgspec.structs.replace(options, runner=None, runner_options=())


def open_runner(plugin: RunnerPlugin, runner_options: object, settings: RunnerSettings, facts: RunFacts) -> Runner:
    """Return the runner, not yet entered; the local one on the daemon's workers where that was asked for.

    Raises:
        RunnerError: it cannot be used.
    """
    if plugin.name == DEFAULT_RUNNER and facts.use is DaemonUse.ALWAYS:
        return _pooled_locally(settings, facts)
    context = lend(
        root_rundir=facts.root_rundir,
        run_id=facts.run_id,
        jobs=facts.jobs,
        notice=facts.notice,
        pool=lambda dialect: _pooled(dialect, settings, facts),
        ask=facts.ask,
    )
    return plugin.open(context, runner_options)


def _pooled_locally(settings: RunnerSettings, facts: RunFacts) -> Runner:
    from dfm.core.pooled import local_dialect  # noqa: PLC0415  (a run without a pool must not load it)

    return _pooled(local_dialect(), settings, facts)


def _pooled(dialect: "BatchDialect", settings: RunnerSettings, facts: RunFacts) -> Runner:
    from dfm.core.pooled import pooled_runner  # noqa: PLC0415  (a run without a pool must not load it)

    return pooled_runner(dialect, settings, facts)


def _environment(runner: Runner, facts: RunFacts) -> Mapping[str, str]:
    """Return what tasks begin with: on a pool, what of the run's environment travels."""
    return runner.environment if _is_pooled(runner) else facts.environ


def _is_pooled(runner: Runner) -> "TypeGuard[PooledRunner]":
    """Whether the runner hands its tasks to a pool, which tries again by itself what it loses."""
    pooled = sys.modules.get("dfm.core.pool.runner")  # what was never imported has made no runner
    return pooled is not None and isinstance(runner, pooled.PooledRunner)


def _shower(
    plugin: RunnerPlugin, runner_options: object, settings: RunnerSettings, facts: RunFacts, grants: Grants
) -> Callable[[Sequence[Node]], None]:
    """Return what tells how the workers of the nodes that would run would be submitted: one of each shape."""
    dialect = dialect_of(plugin, runner_options)

    def show(nodes: Sequence[Node]) -> None:
        if dialect is None:
            return
        from dfm.core.pooled import shown_submissions  # noqa: PLC0415  (a run without a pool must not load it)

        asked = [(node.name, grants(node)) for node in nodes]
        for tasks, text in shown_submissions(dialect, settings, facts, asked):
            others = f" and {len(tasks) - 3} more" if len(tasks) > 4 else ""
            names = ", ".join(tasks[: 3 if others else 4])
            facts.notice(f"for {names}{others} a worker would be submitted with:\n{text}")

    return show


def _run_graph(
    options: RunOptions,
    flow: Flow,
    growing: tuple[Graph, Growth],
    runner: Runner,
    runner_name: str,
    grants: Grants,
    facts: RunFacts,
    desk: Desk,
    sink: EventSink,
    show: Callable[[Sequence[Node]], None] | None = None,
) -> int:
    run_id, directory = facts.run_id, facts.root_rundir
    graph, growth = growing
    settings = Settings(
        run_id=run_id,
        root_rundir=directory,
        root_pkgdir=flow.root.srcdir,
        environ=_environment(runner, facts),
        rerun=rerun_command(options),
        is_forced=options.is_forced,
        is_dry=options.is_dry,
        max_attempts=1 if _is_pooled(runner) else MAX_ATTEMPTS,
        cache=cache_from(os.environ),
        grant=grants,
        base_rundir=_base_rundir(options.base_rundir),
    )
    sink.emit(
        RunStarted(
            run_id=run_id,
            tasks=[graph.nodes[index].name for index in graph.targets],
            nodes=sum(node.is_visible for node in graph.nodes),
            runner=runner_name,
            rundir=directory,
            at=datetime.now(UTC),
        )
    )
    started = time.monotonic()
    session = Session(graph, growth, settings, runner, sink, FailurePolicy(options.max_failures))
    desk.session = session
    exit_code: int = ExitCode.INTERNAL
    try:
        exit_code = asyncio.run(session.run())
        for task, option in () if options.is_dry else growth.idle_overrides():
            facts.notice(f"{option} had no effect: task {task!r} is not part of this run")
        if show is not None:
            show(session.would_run())
    except DfmError as error:
        exit_code = error.exit_code
        raise
    finally:
        sink.emit(
            RunFinished(
                run_id=run_id,
                exit_code=exit_code,
                seconds=time.monotonic() - started,
                counts=session.counts(),
                at=datetime.now(UTC),
            )
        )
    return exit_code


def lend(
    *,
    root_rundir: str,
    run_id: str,
    jobs: int | None,
    notice: Callable[[str], None],
    pool: "Callable[[BatchDialect], Runner]",
    ask: Ask,
) -> RunnerContext:
    """Return what the core lends to a runner; the directory exists."""
    return RunnerContext(
        root_rundir=root_rundir,
        run_id=run_id,
        jobs=jobs,
        notice=notice,
        pool=pool,
        task_command=task_command,
        ask=ask,
    )


def _base_rundir(given: str | None) -> str | None:
    if given is None:
        return None
    path = os.path.abspath(given)
    if not os.path.isdir(path):
        raise UsageError(f"--base-rundir {given!r} is no directory")
    return as_utf8(path, "the path of --base-rundir")


def _task_environment(options: RunOptions, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment that tasks begin with."""
    result = {name: value for name, value in environ.items() if name not in NOT_FOR_TASKS}
    base = _base_rundir(options.base_rundir)
    return result if base is None else result | {"DFM_BASE_RUNDIR": base}


_MARK = ".dfm-rundir"


def _make_root_rundir(directory: str) -> None:
    try:
        is_new = not os.path.isdir(directory)
        os.makedirs(directory, exist_ok=True)
        if is_new or not os.listdir(directory):
            with open(os.path.join(directory, _MARK), "x", encoding="utf-8") as mark:
                mark.write("DFM made this directory; `dfm run --clean` may empty it.\n")
    except FileExistsError:
        if not os.path.isdir(directory):
            raise InfrastructureError(f"{directory} exists and is not a directory") from None
    except OSError as error:
        raise InfrastructureError(
            f"cannot write in the run directory {directory}: {error.strerror}",
            hint="--rundir names another one",
        ) from error


def _clean(directory: str) -> None:
    """Empty the run directory, if it is one that DFM made."""
    if not os.path.isfile(os.path.join(directory, _MARK)):
        raise UsageError(
            f"--clean would empty {directory}, which DFM did not make",
            hint=f"remove it by hand, or create the file {_MARK} in it",
        )
    for entry in os.scandir(directory):
        if entry.name in (_MARK, ".dfm.lock"):
            continue
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            os.unlink(entry.path)


def daemon_endpoint(root: str | None, environ: Mapping[str, str]) -> "Endpoint":
    """Return the places of the daemon of the project that `root`, or the current directory, belongs to.

    Raises:
        UsageError: there is no flow file, or a variable names a relative directory.
    """
    from dfm.core.daemon.endpoint import Endpoint  # noqa: PLC0415  (a run without a pool must not load it)
    from dfm.core.wire.access import refuse_relative_places  # noqa: PLC0415  (a run without a pool must not load it)

    refuse_relative_places(environ)
    return Endpoint(os.path.dirname(locate_root(root, environ)))


def serve_daemon(
    endpoint: "Endpoint",
    cli_options: CliOptions,
    environ: Mapping[str, str],
    ready: "Callable[[Discovery], None]",
) -> None:
    """Be the daemon of a project until it is told to stop.

    Raises:
        DfmError: it cannot be one.
    """
    from dfm.core.daemon.serve import serve  # noqa: PLC0415  (a run without a pool must not load it)
    from dfm.core.pooled import daemon_plan, local_dialect  # noqa: PLC0415  (a run without a pool must not load it)

    settings = load_settings(environ, endpoint.project, cli_options)
    plugin, options = chosen_runner(settings)
    dialect = local_dialect() if plugin.name == DEFAULT_RUNNER else dialect_of(plugin, options)
    if dialect is None:
        raise RunnerError(f"runner {plugin.name} has no workers that a daemon could keep warm")
    serve(endpoint, lambda place: daemon_plan(dialect, settings, endpoint, place), ready)


def reap_jobs(
    endpoint: "Endpoint",
    cli_options: CliOptions,
    environ: Mapping[str, str],
    notice: Callable[[str], None],
    *,
    is_for_all: bool,
) -> "Reaped":
    """Cancel what daemons and runs of this project that are gone have left, or of all of this user on this host.

    Raises:
        DfmError: the settings have faults.
    """
    from dfm.core.daemon.endpoint import state_root  # noqa: PLC0415  (a run without a pool must not load it)
    from dfm.core.pool.reap import reap  # noqa: PLC0415  (a run without a pool must not load it)
    from dfm.core.pooled import access_base, own_pool_private  # noqa: PLC0415  (a run without a pool must not load it)

    settings = load_settings(environ, endpoint.project, cli_options)
    base = access_base(settings)
    speakers = _speakers(settings, cli_options, endpoint.project, environ, float("inf"), notice)
    with contextlib.ExitStack() as stack:
        has_snapshot = os.path.isfile(endpoint.snapshot_path) and stack.enter_context(endpoint.locked())
        return asyncio.run(
            reap(
                speakers,
                environ,
                state_root(),
                project=None if is_for_all else endpoint.project,
                snapshots=[endpoint.snapshot_path] if has_snapshot else [],
                private_of=lambda directory, found: own_pool_private(directory, found, base),
            )
        )
