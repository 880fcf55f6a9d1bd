"""A pool that the run itself hosts, in this process."""

import asyncio
import os
from pathlib import Path

import pytest

from dfm.api.runner import Outcome
from dfm.core.pool import engine
from dfm.testing.opening import opened_pool
from dfm.testing.project import Project
from dfm.testing.tasks import Workspace


@pytest.fixture
def own_places(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Let the pool keep its journal and key with the project."""
    for name in ("DFM_STATE_DIR", "DFM_ACCESS_DIR", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, project.environ[name])
    return project


async def test_the_first_task_does_not_wait_for_the_clock_to_get_its_worker(
    own_places: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "TICK_SECONDS", 3600.0)
    workspace = Workspace(tmp_path / "work")
    async with (
        asyncio.timeout(60),
        opened_pool(workspace, environ=os.environ, project=str(own_places.directory)) as runner,
    ):
        results = await asyncio.gather(runner.run(workspace.shell("true")), runner.run(workspace.shell("true")))
    assert [result.outcome for result in results] == [Outcome.SUCCEEDED] * 2
