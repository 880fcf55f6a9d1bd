"""Our own runner, announced through the same door as everybody's."""

from dfm.api.hookspecs import hookimpl
from dfm.api.runner import Runner, RunnerContext, RunnerPlugin
from dfm.core.plugins.options import LocalOptions


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

    return LocalRunner(context, options)
