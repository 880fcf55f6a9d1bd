"""`dfm daemon`: start, stop, look at and tidy up after the process that keeps a project's workers warm."""

import asyncio
import json
import os
import sys

import click
import msgspec

from dfm.api.errors import DfmError, ExitCode, RunnerError, UsageError
from dfm.core.cli.errors import shown
from dfm.core.cli.once import once_option
from dfm.core.cli.options import root_option, settings_options
from dfm.core.compose import daemon_endpoint, reap_jobs, serve_daemon
from dfm.core.config.layers import CliOptions
from dfm.core.daemon.client import ask_daemon, living_daemon
from dfm.core.daemon.endpoint import Discovery, Endpoint
from dfm.core.daemon.remains import remains_of
from dfm.core.daemon.start import say_failed, say_ready, start_in_background
from dfm.core.daemon.view import resumed_lines, status_lines, stop_lines
from dfm.core.wire.messages import Ask

STOP_SECONDS = 30.0


@click.group(name="daemon")
def command() -> None:
    """Keep workers warm between runs, and share them among several.

    One daemon a project. `dfm run` with a remote runner finds it by itself; `--runner local` gives a pool of worker
    processes on this machine, which `dfm run --daemon` uses.
    """


@command.command()
@root_option
@settings_options
@click.option(
    "--pool-size", type=click.IntRange(min=1), metavar="N", help="Most workers at once: runner.pool.max_workers."
)
@click.option("--foreground", is_flag=True, help="Stay in the foreground; Ctrl-C stops it.")
@click.option("--monitor", "is_monitored", is_flag=True, help="Show the monitor; leaving it leaves the daemon running.")
@click.option("--ready-fd", type=int, hidden=True)
def start(
    *,
    root: str | None,
    settings: CliOptions,
    pool_size: int | None,
    foreground: bool,
    is_monitored: bool,
    ready_fd: int | None,
) -> int:
    """Start the daemon of this project."""
    endpoint = daemon_endpoint(root, os.environ)
    if foreground and is_monitored:
        raise UsageError("--foreground and --monitor contradict each other")
    settings = msgspec.structs.replace(settings, pool_size=pool_size)
    if ready_fd is None:  # who started the process in the background has looked
        _refuse_second(endpoint)
    if foreground:
        return _serve(endpoint, settings, ready_fd)
    if is_monitored:
        _refuse_no_terminal()
    discovery = start_in_background(endpoint, _words(root, settings))
    click.echo(f"daemon of {discovery.project} is ready: pid {discovery.pid}, runner {discovery.runner}", err=True)
    if is_monitored:
        _monitor(endpoint)
    return ExitCode.OK


@command.command()
@root_option
@click.option("--drain", is_flag=True, help="Let what runs finish first.")
def stop(*, root: str | None, drain: bool) -> int:
    """Stop the daemon; its workers go, its jobs are cancelled.

    Running tasks are cut off and begin anew on the next daemon; runs wait a minute for one.
    """
    endpoint = daemon_endpoint(root, os.environ)
    discovery = _living(endpoint)
    if discovery is None:
        _tidy(endpoint)
        click.echo("\n".join(remains_of(endpoint).lines()), err=True)
        return ExitCode.OK
    if drain:
        asyncio.run(_drained(endpoint))
    for line in stop_lines(asyncio.run(ask_daemon(endpoint, Ask(verb="status")))):
        click.echo(line, err=True)
    asyncio.run(ask_daemon(endpoint, Ask(verb="stop")))
    _wait_gone(endpoint)
    click.echo(f"daemon of {endpoint.project} has stopped", err=True)
    return ExitCode.OK


@command.command()
@root_option
@click.option("--json", "is_json", is_flag=True, help="Print one JSON object.")
def status(*, root: str | None, is_json: bool) -> int:
    """Tell whether the daemon runs, and what its workers do."""
    endpoint = daemon_endpoint(root, os.environ)
    if _living(endpoint) is None:
        found = endpoint.read()
        _tidy(endpoint)
        remains = remains_of(endpoint)
        if is_json:
            told = {"running": False, "project": endpoint.project, "jobs_left": remains.jobs}
            print(json.dumps({"schema": "dfm-daemon-status/1", **told}))
        elif found is not None and found.host != os.uname().nodename:
            print(f"the daemon of {endpoint.project} is on host {found.host}; ask there")
        else:
            print("\n".join(remains.lines()))
        return ExitCode.OK
    content = asyncio.run(ask_daemon(endpoint, Ask(verb="status")))
    if is_json:
        print(json.dumps({**content, "running": True}, indent=1))
        return ExitCode.OK
    print("\n".join(status_lines(content)))
    return ExitCode.OK


@command.command()
@root_option
@settings_options
@click.option("--all", "is_for_all", is_flag=True, help="Those of all your projects on this host.")
def reap(*, root: str | None, settings: CliOptions, is_for_all: bool) -> int:
    """Cancel what daemons and runs of this project that are gone have left on the cluster.

    Those of projects whose directory is not there any more are of every project.
    """
    endpoint = daemon_endpoint(root, os.environ)
    is_there = _living(endpoint) is not None
    if is_there:
        content = asyncio.run(ask_daemon(endpoint, Ask(verb="reap")))
        click.echo(f"{content['cancelled']} jobs without a worker are being cancelled", err=True)
    reaped = reap_jobs(endpoint, settings, os.environ, lambda text: click.echo(text, err=True), is_for_all=is_for_all)
    for name in reaped.ended:
        click.echo(f"ended: {name}", err=True)
    for name in reaped.left:
        click.echo(f"not known to have ended: {name}", err=True)
    if reaped.gone:
        click.echo(f"{len(reaped.gone)} had ended before", err=True)
    if not (is_there or reaped.ended or reaped.left or reaped.gone):
        click.echo("nothing was left", err=True)
    return ExitCode.INFRASTRUCTURE if reaped.left else ExitCode.OK


@command.command()
@root_option
def resume(*, root: str | None) -> int:
    """Submit workers again: what had made the pool pause is mended."""
    endpoint = daemon_endpoint(root, os.environ)
    before = asyncio.run(ask_daemon(endpoint, Ask(verb="status")))
    asyncio.run(ask_daemon(endpoint, Ask(verb="resume")))
    click.echo("\n".join(resumed_lines(before)), err=True)
    return ExitCode.OK


@command.command()
@root_option
@click.option("-n", "--lines", type=click.IntRange(min=1), default=50, show_default=True, help="How many lines.")
@once_option("--worker", metavar="NAME", help="The log of a worker in place of the daemon's; `all` names them.")
def logs(*, root: str | None, lines: int, worker: str | None) -> int:
    """Print the end of the daemon's log, or of a worker's."""
    endpoint = daemon_endpoint(root, os.environ)
    directory = os.path.join(endpoint.directory, "workers")
    if worker == "all":
        names = _logged_workers(directory)
        print("".join(f"{name}\n" for name in names), end="")
        if not names:
            click.echo(f"no worker of {endpoint.project} has left a log", err=True)
        return ExitCode.OK
    path = endpoint.log_path if worker is None else os.path.join(directory, f"{os.path.basename(worker)}.log")
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            sys.stdout.writelines(file.readlines()[-lines:])
    except FileNotFoundError:
        raise UsageError(f"there is no log {path}", hint=_where_logs_are(directory, worker)) from None
    return ExitCode.OK


def _logged_workers(directory: str) -> list[str]:
    found = os.listdir(directory) if os.path.isdir(directory) else []
    return sorted(name.removesuffix(".log") for name in found if name.endswith(".log"))


def _where_logs_are(directory: str, worker: str | None) -> str:
    """Return what to do about a log that is not there."""
    if _logged_workers(directory):
        return "dfm daemon logs --worker all names the workers"
    if worker is not None:
        return "no worker has left a log yet"
    return "dfm daemon start begins one; with --foreground the daemon speaks to its terminal"


@command.command()
@root_option
def monitor(*, root: str | None) -> int:
    """Watch the workers as top does; q detaches and harms nothing."""
    endpoint = daemon_endpoint(root, os.environ)
    if _living(endpoint) is None:
        raise RunnerError(f"no daemon of {endpoint.project} runs", hint="dfm daemon start starts one")
    _refuse_no_terminal()
    _monitor(endpoint)
    return ExitCode.OK


def _serve(endpoint: Endpoint, settings: CliOptions, ready_fd: int | None) -> int:
    def ready(discovery: Discovery) -> None:
        if ready_fd is not None:
            say_ready(ready_fd, discovery)

    try:
        serve_daemon(endpoint, settings, os.environ, ready)
    except DfmError as error:
        if ready_fd is None:
            raise
        from dfm.core.daemon.serve import write_log

        say_failed(ready_fd, error)
        write_log(shown(error))
        return error.exit_code
    return ExitCode.OK


def _words(root: str | None, settings: CliOptions) -> list[str]:
    """Return the options of this call, for the daemon to be called with."""
    words = [] if root is None else ["--root", os.path.abspath(root)]
    words += [] if settings.is_file_read else ["--no-config"]
    words += [] if settings.config_file is None else ["--config-file", os.path.abspath(settings.config_file)]
    words += [] if settings.runner is None else ["--runner", settings.runner]
    for option in settings.runner_options:
        words += ["--runner-opt", option]
    return words if settings.pool_size is None else [*words, "--pool-size", str(settings.pool_size)]


def _living(endpoint: Endpoint) -> Discovery | None:
    return living_daemon(endpoint)


def _tidy(endpoint: Endpoint) -> None:
    """Remove what a daemon that is gone has left; the lock shows that it is gone."""
    if os.path.isdir(endpoint.directory) and endpoint.read() is not None:
        with endpoint.locked() as is_ours:
            found = endpoint.read()
            if is_ours and found is not None and found.host == os.uname().nodename:
                endpoint.withdraw()


async def _drained(endpoint: Endpoint) -> None:
    await ask_daemon(endpoint, Ask(verb="drain"))
    while True:
        content = await ask_daemon(endpoint, Ask(verb="status"))
        counts = content["tasks_count"]
        assert isinstance(counts, dict)
        if not counts["running"]:
            return
        await asyncio.sleep(0.5)


def _wait_gone(endpoint: Endpoint) -> None:
    """Wait until the daemon has let its lock go."""
    import time

    deadline = time.monotonic() + STOP_SECONDS
    while time.monotonic() < deadline:
        with endpoint.locked() as is_ours:
            if is_ours:
                return
        time.sleep(0.05)
    raise RunnerError(f"the daemon of {endpoint.project} does not stop", hint=f"its log is {endpoint.log_path}")


def _refuse_second(endpoint: Endpoint) -> None:
    """Refuse to start a daemon where one answers, and tell which; of two starts at once the lock decides."""
    found = _living(endpoint)
    if found is not None:
        raise RunnerError(
            f"{endpoint.project} has a daemon already (pid {found.pid} on {found.host}), of runner {found.runner}",
            hint="dfm daemon stop stops it",
        )


def _refuse_no_terminal() -> None:
    """Refuse to paint into a file or a pipe, where nobody could press q either."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):  # textual paints on the standard error
        raise UsageError("the monitor needs a terminal", hint="dfm daemon status prints the same once")


def _monitor(endpoint: Endpoint) -> None:
    try:
        from dfm.core.daemon.monitor import Monitor
    except ImportError as error:
        raise RunnerError("the monitor needs textual", hint="pip install 'dfm-core[monitor]'") from error

    async def ask() -> dict[str, object]:
        return await ask_daemon(endpoint, Ask(verb="status"))

    Monitor(ask).run()
