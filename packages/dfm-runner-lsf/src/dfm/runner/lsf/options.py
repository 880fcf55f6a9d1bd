"""Options of the LSF runner, as `--runner-opt` sets them."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class LsfOptions:
    """What a person may choose for a run."""

    queue: str | None = field(default=None, metadata={"help": "queue that jobs go to, where a task names none"})
    project: str | None = field(default=None, metadata={"help": "project that jobs are charged to"})
    bsub_cmd: str = field(default="bsub", metadata={"help": "command that submits jobs"})
