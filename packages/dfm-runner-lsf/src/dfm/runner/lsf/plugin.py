"""The LSF runner as a plugin. This version announces itself and its options; it cannot submit jobs yet."""

from dfm.api.errors import RunnerError
from dfm.api.hookspecs import hookimpl
from dfm.api.runner import Runner, RunnerContext, RunnerPlugin
from dfm.runner.lsf.__about__ import __version__
from dfm.runner.lsf.options import LsfOptions


@hookimpl
def dfm_runner() -> RunnerPlugin:
    """Announce the LSF runner."""
    return RunnerPlugin(
        name="lsf",
        summary="LSF clusters (this version announces itself and cannot submit jobs yet)",
        options=LsfOptions,
        open=_open,
    )


def _open(context: RunnerContext, options: LsfOptions) -> Runner:  # noqa: ARG001  (the contract's signature)
    raise RunnerError(
        f"dfm-runner-lsf {__version__} cannot submit jobs to LSF yet: its worker pool is not part of this version",
        hint="run on this machine with --runner local",
    )
