"""What a real SLURM of one version answered: the transcripts that tests/cluster/record_transcripts.py wrote down."""

from dataclasses import dataclass
from pathlib import Path

import yaml

from dfm.api.batch import CommandOutput, JobKey

VERSIONS = ("22.05", "24.11")


@dataclass(frozen=True, slots=True)
class Recording:
    """The answers of one version.

    Attributes:
        version: year and month.
    """

    version: str

    def __call__(self, name: str) -> CommandOutput:
        """Return the answer that was written down under the name."""
        path = Path(__file__).parent / self.version / f"{name}.yaml"
        told = yaml.safe_load(path.read_text(encoding="utf-8"))
        return CommandOutput(status=told["status"], stdout=told["stdout"], stderr=told["stderr"])

    def key(self, number: int, table: str = "squeue-full") -> JobKey:
        """Return the job that the recorder submitted as the number, with the id that it has in the table."""
        name = f"dfm-ab-p-{number}-1"
        rows = [line.split("|") for line in self(table).stdout.splitlines()]
        ids = {row[0].partition("_")[0] for row in rows if row[1:2] == [name] and row[3] != "BadConstraints"}
        [identifier] = ids
        return JobKey(name=name, id=identifier)

    def id(self, number: int, table: str = "squeue-full") -> str:
        """Return the id of the job that the recorder submitted as the number."""
        return str(self.key(number, table).id)
