"""A real SLURM on this machine; where it cannot be started the tests are skipped, with the reason."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cluster.runs import IMPATIENT, Submitted, project_on

from dfm.testing.project import Project
from dfm.testing.slurm_cluster import SlurmCluster, missing_programs


@pytest.fixture(scope="session", autouse=True)
def programs() -> None:
    if missing := missing_programs():
        pytest.skip(f"no SLURM on this machine: {', '.join(missing)} not found")


@pytest.fixture(scope="session")
def shared_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    """One cluster for all tests of a process: clusters are cheap, and need no lock between processes."""
    with SlurmCluster(tmp_path_factory.mktemp("slurm")) as cluster:
        yield cluster


@pytest.fixture
def cluster(shared_cluster: SlurmCluster) -> Iterator[SlurmCluster]:
    """The shared cluster; what a test leaves in it is ended."""
    yield shared_cluster
    left = [job.id for job in shared_cluster.jobs() if job.is_live]
    if left:
        shared_cluster.cancel(*left)


@pytest.fixture
def checked_accounts(cluster: SlurmCluster) -> None:
    """Let the test's cluster be one that looks at accounts."""
    if not cluster.checks_accounts:
        pytest.skip("this version of SLURM knows accounts from its accounting only, which the cluster does not have")


@pytest.fixture
def project(tmp_path: Path, cluster: SlurmCluster) -> Iterator[Project]:
    """A project on the shared cluster; at its end nothing of it is left there or here."""
    with project_on(cluster, tmp_path) as project:
        yield project


@pytest.fixture
def submitted(cluster: SlurmCluster) -> Submitted:
    known = {job.id for job in cluster.jobs()}
    return lambda: [job for job in cluster.jobs(name_prefix="dfm-") if job.id not in known]


@pytest.fixture
def own_cluster(tmp_path: Path) -> Iterator[SlurmCluster]:
    """A cluster that the test may break."""
    with SlurmCluster(tmp_path / "slurm", IMPATIENT) as cluster:
        yield cluster


@pytest.fixture
def own_project(tmp_path: Path, own_cluster: SlurmCluster) -> Iterator[Project]:
    """A project on the test's own cluster; at its end nothing of it is left there or here."""
    with project_on(own_cluster, tmp_path) as project:
        yield project
