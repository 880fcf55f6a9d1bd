"""What the tests of the dialect share: a job, and the recorded answers of a real SLURM."""

import pytest
from tests.data.slurm.recording import VERSIONS, Recording

from dfm.api.batch import WorkerJob


@pytest.fixture
def job() -> WorkerJob:
    """A worker with nothing special about it."""
    return WorkerJob(
        name="dfm-ab12-p-7-1",
        slot="s-0007",
        argv=("/opt/dfm/bin/dfm", "worker", "/net/run/access.json", "--slot", "s-0007"),
        directory="/net/proj",
        log="/net/run/workers/s-0007.log",
        cores=2,
        memory_bytes=3 << 30,
        wall_seconds=5400.0,
    )


@pytest.fixture(params=VERSIONS)
def recorded(request: pytest.FixtureRequest) -> Recording:
    """The answers of each version of SLURM that was recorded."""
    return Recording(request.param)
