"""How soon a pool without workers has one."""

import asyncio
import os
from pathlib import Path

import pytest

from dfm.api.runner import Outcome
from dfm.core.pool import engine
from dfm.testing.opening import opened_pool
from dfm.testing.project import Project
from dfm.testing.tasks import Workspace


@pytest.mark.asyncio
async def test_the_first_task_does_not_wait_for_the_next_tick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = Project(tmp_path)
    for name in ("DFM_STATE_DIR", "DFM_ACCESS_DIR", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, project.environ[name])
    monkeypatch.setattr(engine, "TICK_SECONDS", 3600.0)
    workspace = Workspace(tmp_path)
    async with asyncio.timeout(60), opened_pool(workspace, environ=os.environ, project=str(tmp_path)) as runner:
        result = await runner.run(workspace.shell("true"))
    assert result.outcome is Outcome.SUCCEEDED
