"""What the lsf runner says of itself, and what it opens."""

import pytest

from dfm.api.batch import BatchDialect
from dfm.api.runner import API_VERSION, Runner, RunnerContext
from dfm.runner.lsf.dialect import LsfDialect
from dfm.runner.lsf.options import LsfOptions
from dfm.runner.lsf.plugin import dfm_runner


class Lent(Exception):  # noqa: N818  (what a pool was asked for, not an error)
    """The pool that was lent."""

    def __init__(self, dialect: BatchDialect) -> None:
        super().__init__()
        self.dialect = dialect


def lend(dialect: BatchDialect) -> Runner:
    raise Lent(dialect)


CONTEXT = RunnerContext(root_rundir="/r", run_id="1", jobs=None, notice=print, pool=lend)


def test_it_announces_its_name_and_options() -> None:
    plugin = dfm_runner()
    assert (plugin.name, plugin.options, plugin.api_version) == ("lsf", LsfOptions, API_VERSION)


def test_opening_it_lends_the_pool_to_the_dialect_of_the_site() -> None:
    options = LsfOptions(queue="regr")
    with pytest.raises(Lent) as lent:
        dfm_runner().open(CONTEXT, options)
    assert lent.value.dialect == LsfDialect(options)
