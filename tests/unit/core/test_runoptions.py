"""The command that runs one task of a run again."""

import pytest

from dfm.core.config.layers import CliOptions
from dfm.core.reading import FlowOptions
from dfm.core.runfacts import DaemonUse
from dfm.core.runoptions import RunOptions, rerun_command


@pytest.mark.parametrize(
    ("use", "words"), [(DaemonUse.AUTO, ""), (DaemonUse.ALWAYS, " --daemon"), (DaemonUse.NEVER, " --no-daemon")]
)
def test_a_task_is_run_again_where_the_run_had_it_run(use: DaemonUse, words: str) -> None:
    options = RunOptions(
        flow=FlowOptions(definitions=["seed=1 2"]),
        tasks=["all"],
        settings=CliOptions(runner="lsf", runner_options=["queue=night"]),
        daemon=use,
    )
    wanted = f"dfm run p.sim -D 'seed=1 2' --runner lsf --runner-opt queue=night{words}"
    assert rerun_command(options)("p.sim") == wanted
