"""Projects with a quick pool, for tests with real daemons and workers; nothing of them may be left."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from dfm.testing.project import QUICK_POOL, Project, wait_until


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """Return a project; at the end of the test its daemon is stopped, and no process or socket of it is left."""
    found = Project(tmp_path)
    found.write_settings({"pool": dict(QUICK_POOL)})
    yield found
    found.dfm("daemon", "stop")
    wait_until(lambda: not found.processes(), "the processes of the project to be gone")
    left = sorted(path.name for path in (tmp_path / ".dfm").iterdir())
    assert not {"daemon.sock", "daemon.json"} & set(left)
    assert not list(found.private.rglob("access.json"))
