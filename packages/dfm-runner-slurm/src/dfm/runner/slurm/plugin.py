"""The SLURM runner as a plugin. This version announces itself and its options; it cannot submit jobs yet."""

from dfm.api.errors import RunnerError
from dfm.api.hookspecs import hookimpl
from dfm.api.runner import Runner, RunnerContext, RunnerPlugin
from dfm.runner.slurm.__about__ import __version__
from dfm.runner.slurm.options import SlurmOptions


@hookimpl
def dfm_runner() -> RunnerPlugin:
    """Announce the SLURM runner."""
    return RunnerPlugin(
        name="slurm",
        summary="SLURM clusters (this version announces itself and cannot submit jobs yet)",
        options=SlurmOptions,
        open=_open,
    )


def _open(context: RunnerContext, options: SlurmOptions) -> Runner:  # noqa: ARG001  (the contract's signature)
    raise RunnerError(
        f"dfm-runner-slurm {__version__} cannot submit jobs to SLURM yet: its worker pool is not part of this version",
        hint="run on this machine with --runner local",
    )
