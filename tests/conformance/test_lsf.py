"""The suite that every runner must pass, on the fake LSF: each run with workers of its own, and with a daemon's."""

import os
from collections.abc import Iterator

import pytest

from dfm.core.runfacts import DaemonUse
from dfm.testing.conformance import OpenRunner, RunnerConformance
from dfm.testing.fake_lsf import FakeLsf
from dfm.testing.opening import opened
from dfm.testing.project import Project, wait_until
from dfm.testing.tasks import Workspace

SPEED = 100
"""The fake's scheduler looks every 10 s of LSF's."""


@pytest.fixture(scope="class")
def lsf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeLsf]:
    """Return a cluster; at its end no job is left, and nobody did what annoys an administrator."""
    with FakeLsf(tmp_path_factory.mktemp("cluster"), speed=SPEED) as cluster:
        yield cluster
        wait_until(lambda: not any(job.is_live for job in cluster.jobs()), "the jobs to be gone")
        cluster.assert_polite(max_status_calls_per=0)


@pytest.fixture
def commands(lsf: FakeLsf, monkeypatch: pytest.MonkeyPatch) -> FakeLsf:
    monkeypatch.setenv("PATH", f"{lsf.bin}:{os.environ['PATH']}")
    return lsf


@pytest.fixture(scope="class")
def served(project: Project, lsf: FakeLsf) -> Iterator[Project]:
    project.environ["PATH"] = lsf.environ["PATH"]
    with project.daemon("--runner", "lsf"):
        yield project


@pytest.mark.usefixtures("commands")
class TestLsf(RunnerConformance):
    has_jobserver = True
    carries_questions = True

    @pytest.fixture
    def open_runner(self, workspace: Workspace, own_places: Project, run_id: str) -> OpenRunner:
        directory = str(own_places.directory)
        return lambda: opened("lsf", workspace, environ=os.environ, project=directory, run_id=run_id)


@pytest.mark.usefixtures("commands")
class TestLsfWithDaemon(RunnerConformance):
    has_jobserver = True
    carries_questions = True

    @pytest.fixture
    def open_runner(self, workspace: Workspace, served: Project, run_id: str) -> OpenRunner:
        return lambda: opened(
            "lsf",
            workspace,
            environ=os.environ,
            project=str(served.directory),
            use=DaemonUse.ALWAYS,
            run_id=run_id,
        )
