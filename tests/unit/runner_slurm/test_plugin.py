"""What the slurm runner says of itself, and how it is opened."""

import pytest

from dfm.api.batch import BatchDialect
from dfm.api.errors import RunnerError
from dfm.api.runner import API_VERSION, Runner, RunnerContext
from dfm.runner.slurm.dialect import SlurmDialect
from dfm.runner.slurm.options import SlurmOptions
from dfm.runner.slurm.plugin import dfm_runner


class Lender:
    """Stands for the core: remembers which dialects the pool was lent for, and lends nothing."""

    def __init__(self) -> None:
        self.dialects: list[BatchDialect] = []

    def __call__(self, dialect: BatchDialect) -> Runner:
        self.dialects.append(dialect)
        raise RunnerError("nothing to lend")


def context(lender: Lender) -> RunnerContext:
    return RunnerContext(root_rundir="/r", run_id="1", jobs=None, notice=print, pool=lender)


def test_it_announces_its_name_and_options() -> None:
    plugin = dfm_runner()
    assert (plugin.name, plugin.options, plugin.api_version) == ("slurm", SlurmOptions, API_VERSION)


def test_opening_it_borrows_the_pool_for_its_dialect() -> None:
    lender = Lender()
    options = SlurmOptions(partition="regr")
    with pytest.raises(RunnerError, match="nothing to lend"):
        dfm_runner().open(context(lender), options)
    assert lender.dialects == [SlurmDialect(options)]


def test_an_option_that_slurm_would_misread_is_refused_before_anything_is_asked_of_the_core() -> None:
    lender = Lender()
    with pytest.raises(RunnerError) as caught:
        dfm_runner().open(context(lender), SlurmOptions(account="-Q"))
    assert caught.value.message == (
        "option account of runner slurm: '-Q' begins with '-', which sbatch would take for an option of its own:"
        " write the name alone"
    )
    assert lender.dialects == []
