"""Options of the SLURM runner, as `--runner-opt` sets them."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class SlurmOptions:
    """What a person may choose for a run."""

    partition: str | None = field(default=None, metadata={"help": "partition that jobs go to, where a task names none"})
    account: str | None = field(default=None, metadata={"help": "account that jobs are charged to"})
    sbatch_cmd: str = field(default="sbatch", metadata={"help": "command that submits jobs"})
