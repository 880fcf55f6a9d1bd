"""The SLURM runner as a plugin: its name, its options, and a dialect for the pool that the core lends."""

from dfm.api.hookspecs import hookimpl
from dfm.api.runner import Runner, RunnerContext, RunnerPlugin
from dfm.runner.slurm.dialect import SlurmDialect
from dfm.runner.slurm.options import SlurmOptions, check_options


@hookimpl
def dfm_runner() -> RunnerPlugin:
    """Announce the SLURM runner."""
    return RunnerPlugin(
        name="slurm",
        summary="clusters managed by SLURM, through a pool of warm workers",
        options=SlurmOptions,
        open=_open,
    )


def _open(context: RunnerContext, options: SlurmOptions) -> Runner:
    check_options(options)
    return context.pool(SlurmDialect(options))
