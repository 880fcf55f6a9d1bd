"""The suite that every runner must pass."""

from pathlib import Path

import pytest

pytest.register_assert_rewrite("dfm.testing.conformance")

from dfm.testing.conformance import OpenRunner, RunnerConformance  # noqa: E402  (after the line that makes it tell more)
from dfm.testing.opening import opened  # noqa: E402
from dfm.testing.tasks import Workspace  # noqa: E402


class TestPrefixRunner(RunnerConformance):
    """The suite, with two slots."""

    has_jobserver = True

    @pytest.fixture
    def open_runner(self, workspace: Workspace) -> OpenRunner:
        return lambda: opened("prefix", workspace, jobs=2, options=["command=nice -n 1"])


async def nice_of(workspace: Workspace, *options: str) -> bytes:
    request = workspace.shell("nice")
    async with opened("prefix", workspace, jobs=1, options=options) as runner:
        await runner.run(request)
    return workspace.log(request)


@pytest.mark.asyncio
async def test_tasks_run_through_the_command(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    plain = int(await nice_of(workspace, "command=env"))
    assert int(await nice_of(workspace, "command=nice -n 3")) == plain + 3
