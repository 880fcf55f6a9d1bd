"""The local runner as a plugin, announced through the same entry points as everybody's."""

from dataclasses import dataclass

from dfm.api.hookspecs import hookimpl
from dfm.api.options import Unit, option
from dfm.api.runner import Runner, RunnerContext, RunnerPlugin


@dataclass(frozen=True, slots=True)
class LocalOptions:
    """Options of the local runner."""

    kill_grace: float = option(3.0, unit=Unit.DURATION, doc="time between SIGTERM and SIGKILL when a task is stopped")


@hookimpl
def dfm_runner() -> RunnerPlugin:
    """Announce the local runner."""
    return RunnerPlugin(
        name="local",
        summary="runs tasks on this machine under DFM's jobserver",
        options=LocalOptions,
        open=_open,
    )


def _open(context: RunnerContext, options: LocalOptions) -> Runner:
    from dfm.core.local.runner import LocalRunner  # noqa: PLC0415  (listing runners must not load the engine)

    return LocalRunner(context, kill_grace=options.kill_grace)
