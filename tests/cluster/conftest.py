"""A real SLURM on this machine; where it cannot be started the tests are skipped, with the reason."""

from collections.abc import Iterator

import pytest

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
    left = [job.id for job in shared_cluster.jobs() if job.state in ("PENDING", "RUNNING", "SUSPENDED")]
    if left:
        shared_cluster.cancel(*left)
