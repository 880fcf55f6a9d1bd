"""What the slurm runner says of itself, and what it says it cannot do yet."""

import pytest

from dfm.api.batch import BatchDialect
from dfm.api.errors import RunnerError
from dfm.api.runner import API_VERSION, Runner, RunnerContext
from dfm.runner.slurm.options import SlurmOptions
from dfm.runner.slurm.plugin import dfm_runner


def test_it_announces_its_name_and_options() -> None:
    plugin = dfm_runner()
    assert (plugin.name, plugin.options, plugin.api_version) == ("slurm", SlurmOptions, API_VERSION)


def no_pool(dialect: BatchDialect) -> Runner:
    raise AssertionError(f"{dialect.name} asked for a pool")


def test_opening_it_says_what_is_missing_and_what_to_do() -> None:
    context = RunnerContext(root_rundir="/r", run_id="1", jobs=None, notice=print, pool=no_pool)
    with pytest.raises(RunnerError) as caught:
        dfm_runner().open(context, SlurmOptions(partition="regr"))
    assert "cannot submit jobs" in caught.value.message
    assert caught.value.hint == "run on this machine with --runner local"
