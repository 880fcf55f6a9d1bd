"""What the runners of the suite share: assertions that tell what they compared, and a project with quick settings."""

import uuid
from collections.abc import Iterator

import pytest

from dfm.testing.project import QUICK_POOL, Project, wait_until

pytest.register_assert_rewrite("dfm.testing.conformance")


@pytest.fixture
def run_id() -> str:
    return uuid.uuid4().hex


@pytest.fixture(scope="class")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """Return a project with a quick pool; at its end no process of it is left."""
    found = Project(tmp_path_factory.mktemp("project"))
    found.write_flow({"a": "true"})
    found.write_settings({"pool": dict(QUICK_POOL)})
    yield found
    wait_until(lambda: not found.processes(), "the processes of the project to be gone")


@pytest.fixture
def own_places(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Let a pool in this process keep its journals and keys with the project."""
    for name in ("DFM_STATE_DIR", "DFM_ACCESS_DIR", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, project.environ[name])
    return project
