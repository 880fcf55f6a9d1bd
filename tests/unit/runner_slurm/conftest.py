"""What the tests of the dialect share: a job, and the recorded answers of a real SLURM."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from dfm.api.batch import CommandOutput, WorkerJob

TRANSCRIPTS = Path(__file__).parents[2] / "data" / "slurm" / "22.05"


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


@pytest.fixture
def recorded() -> Callable[[str], CommandOutput]:
    """The answer of SLURM 22.05.8 that tests/cluster/record_transcripts.py wrote down under a name."""

    def read(name: str) -> CommandOutput:
        told = yaml.safe_load((TRANSCRIPTS / f"{name}.yaml").read_text(encoding="utf-8"))
        return CommandOutput(status=told["status"], stdout=told["stdout"], stderr=told["stderr"])

    return read
