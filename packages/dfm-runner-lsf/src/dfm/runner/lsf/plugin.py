"""The LSF runner as a plugin: the core's pool of workers, spoken to LSF in the dialect of the site."""

from dfm.api.hookspecs import hookimpl
from dfm.api.runner import Runner, RunnerContext, RunnerPlugin
from dfm.runner.lsf.dialect import LsfDialect
from dfm.runner.lsf.options import LsfOptions


@hookimpl
def dfm_runner() -> RunnerPlugin:
    """Announce the LSF runner."""
    return RunnerPlugin(
        name="lsf",
        summary="clusters managed by LSF: tasks run on warm workers that bsub starts",
        options=LsfOptions,
        open=_open,
    )


def _open(context: RunnerContext, options: LsfOptions) -> Runner:
    return context.pool(LsfDialect(options))
