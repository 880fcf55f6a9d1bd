"""The suite that every runner must pass, on a real SLURM: each run with workers of its own, and with a daemon's."""

import os
from collections.abc import Iterator

import pytest

from dfm.core.runfacts import DaemonUse
from dfm.testing.conformance import OpenRunner, RunnerConformance
from dfm.testing.opening import opened
from dfm.testing.project import Project
from dfm.testing.slurm_cluster import SlurmCluster, missing_programs
from dfm.testing.tasks import Workspace

GONE_SECONDS = 30.0
"""So long may it take from the end of a run to the end of its last job."""


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    """Return a cluster of this process of the tests; at its end no job is left."""
    if missing := missing_programs():
        pytest.skip(f"no SLURM on this machine: {', '.join(missing)} not found")
    with SlurmCluster(tmp_path_factory.mktemp("slurm")) as cluster:
        yield cluster
        left = "jobs of ended runs are in squeue"
        cluster.wait_until(lambda: not any(job.is_live for job in cluster.jobs()), left, GONE_SECONDS)


@pytest.fixture
def commands(cluster: SlurmCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the commands of a pool in this process find the cluster."""
    for name, value in cluster.environ.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="class")
def served(project: Project, cluster: SlurmCluster) -> Iterator[Project]:
    project.environ.update(cluster.environ)
    with project.daemon("--runner", "slurm"):
        yield project


@pytest.mark.cluster
@pytest.mark.usefixtures("commands")
class TestSlurm(RunnerConformance):
    has_jobserver = True
    carries_questions = True

    @pytest.fixture
    def open_runner(self, workspace: Workspace, own_places: Project, run_id: str) -> OpenRunner:
        directory = str(own_places.directory)
        return lambda: opened("slurm", workspace, environ=os.environ, project=directory, run_id=run_id)


@pytest.mark.cluster
@pytest.mark.usefixtures("commands")
class TestSlurmWithDaemon(RunnerConformance):
    has_jobserver = True
    carries_questions = True

    @pytest.fixture
    def open_runner(self, workspace: Workspace, served: Project, run_id: str) -> OpenRunner:
        return lambda: opened(
            "slurm",
            workspace,
            environ=os.environ,
            project=str(served.directory),
            use=DaemonUse.ALWAYS,
            run_id=run_id,
        )
