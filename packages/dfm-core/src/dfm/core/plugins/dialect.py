"""The dialect of a batch runner, without opening the runner: what `dfm doctor` and `--dry-run` ask questions of."""

from typing import TYPE_CHECKING

from dfm.api.runner import Runner, RunnerContext, RunnerPlugin

if TYPE_CHECKING:
    from dfm.api.batch import BatchDialect


class _DialectFound(Exception):  # noqa: N818  (no error: it carries the answer past the plugin)
    def __init__(self, dialect: "BatchDialect") -> None:
        super().__init__(dialect.name)
        self.dialect = dialect


def dialect_of(plugin: RunnerPlugin, options: object) -> "BatchDialect | None":
    """Return the dialect in which the runner would ask for a pool; None where it asks for none.

    Opening a runner does no I/O, so that it may be opened just to see.

    Raises:
        RunnerError: the runner cannot be used with these options.
    """
    context = RunnerContext(root_rundir="/", run_id="none", jobs=None, notice=_ignore, pool=_found)
    try:
        plugin.open(context, options)
    except _DialectFound as found:
        return found.dialect
    return None


def _found(dialect: "BatchDialect") -> Runner:
    raise _DialectFound(dialect)


def _ignore(text: str) -> None:
    """Take no notice: nothing runs."""
