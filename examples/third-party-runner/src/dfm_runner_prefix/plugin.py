"""What DFM sees of this distribution: the runner's name, its options, its checks, and how it is opened."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass

from dfm.api.batch import Finding, Standing
from dfm.api.hookspecs import hookimpl
from dfm.api.options import Unit, option
from dfm.api.runner import Runner, RunnerContext, RunnerPlugin


@dataclass(frozen=True, slots=True)
class PrefixOptions:
    """What `--runner-opt` and `runner.prefix` in settings files may set."""

    command: tuple[str, ...] = option(
        ("nice", "-n", "10"), unit=Unit.ARGV, doc="command that each task is run through; it gets the task's words"
    )
    stop_time: float = option(
        30.0, unit=Unit.DURATION, doc="time for a task that was stopped, before it is left to the system"
    )


@hookimpl
def dfm_runner() -> RunnerPlugin:
    """Announce the runner."""
    return RunnerPlugin(
        name="prefix",
        summary="runs each task through a command, such as nice",
        options=PrefixOptions,
        open=open_runner,
        checks=look_at_command,
        resources=frozenset({"cores"}),
        help="-j says how many tasks run at once; a make in a task gets as many jobs as the task has cores.",
    )


def open_runner(context: RunnerContext, options: PrefixOptions) -> Runner:
    """Make the runner. It starts nothing yet."""
    from dfm_runner_prefix.runner import PrefixRunner  # noqa: PLC0415  (listing runners must not load what runs tasks)

    return PrefixRunner(context, options.command, options.stop_time)


def look_at_command(options: PrefixOptions) -> Sequence[Finding]:
    """Look for the command, for `dfm doctor`."""
    if not options.command:
        return [Finding(standing=Standing.OK, text="tasks run without a prefix")]
    path = shutil.which(options.command[0])
    if path is None:
        text = f"there is no {options.command[0]} on the PATH"
        return [Finding(standing=Standing.ERROR, text=text, hint="install it, or set runner.prefix.command")]
    return [Finding(standing=Standing.OK, text=f"tasks run through {path}")]
