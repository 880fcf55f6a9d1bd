"""Jobs as mbatchd keeps them: plain data, a file each, so that a restart finds them again."""

import dataclasses
import enum
import json
import os
from dataclasses import dataclass, field


class State(enum.StrEnum):
    """The STAT column."""

    PEND = "PEND"
    PSUSP = "PSUSP"
    WAIT = "WAIT"
    RUN = "RUN"
    USUSP = "USUSP"
    SSUSP = "SSUSP"
    UNKWN = "UNKWN"
    ZOMBI = "ZOMBI"
    DONE = "DONE"
    EXIT = "EXIT"


PENDING = frozenset({State.PEND, State.PSUSP})
STARTED = frozenset({State.RUN, State.USUSP, State.SSUSP, State.UNKWN})
SUSPENDED = frozenset({State.PSUSP, State.USUSP, State.SSUSP})
ENDED = frozenset({State.DONE, State.EXIT})


@dataclass(slots=True, kw_only=True)
class Submission:
    """What bsub was asked for, checked.

    Attributes:
        script: the user's part of the job file.
        command: what bjobs and the report show of it.
        first_word: first word of the command, None for a script from stdin.
        memory_limit_mb: of `-M`.
        usages: (resource, amount per job on each host or in total, per what, minutes) of all rusage sections.
        suspend_at_once: `-H`.
    """

    script: str
    command: str
    first_word: str | None
    environ: dict[str, str]
    cwd: str
    from_host: str
    user: str
    queue: str
    project: str
    name: str
    group: str = ""
    application: str = ""
    service_class: str = ""
    slots: int = 1
    most_slots: int = 1
    selects: list[str] = field(default_factory=list)
    usages: list[tuple[str, float, str, float | None]] = field(default_factory=list)
    single_host: bool = False
    tasks_per_host: int | None = None
    wanted_hosts: list[str] = field(default_factory=list)
    is_exclusive: bool = False
    memory_limit_mb: float | None = None
    run_limit_seconds: float | None = None
    cpu_limit_seconds: float | None = None
    warning_signal: str = ""
    warning_seconds: float = 0
    output: str = ""
    error: str = ""
    input: str = ""
    overwrites_output: bool = False
    overwrites_error: bool = False
    writes_directly: bool = False
    exits_without_cwd: bool = False
    is_rerunnable: bool = False
    suspend_at_once: bool = False
    not_before: float = 0
    depends: str = ""
    user_priority: int = 0
    array_limit: int = 0


@dataclass(slots=True, kw_only=True)
class Job:
    """One job, or one element of an array. Times are seconds since the epoch, 0 for never.

    Attributes:
        serial: never used twice, unlike `id`.
        batch: serial of the first job of the same submission; the elements of an array share it.
        index: of an array element, else 0.
        start_count: how often it was started; the first start is 1.
        pid: of the job's shell, which leads its own session; 0 before it is known.
        kill_stage: how many signals of the kill sequence were sent, None outside of one.
        next_signal_at: when the next one is due.
        after_kill: what becomes of the job then: EXIT, or PEND for a requeue.
        reason: TERM_ keyword.
        is_hidden: bjobs does not know it (`forget`).
        is_cleaned: CLEAN_PERIOD is over; only bhist and bacct know it.
        abandoned_pids: sessions that were left running on purpose.
        waits_for: serials of those before it in its chunk.
    """

    serial: int
    batch: int
    id: int
    index: int
    submission: Submission
    submitted_at: float
    state: State = State.PEND
    start_count: int = 0
    started_at: float = 0
    finished_at: float = 0
    suspended_at: float = 0
    suspended_seconds: float = 0
    hosts: list[str] = field(default_factory=list)
    pid: int = 0
    supervisor: int = 0
    exit_code: int | None = None
    exit_signal: int | None = None
    cpu_seconds: float = 0
    memory_mb: float = 0
    reason: str = ""
    pend_reason: str = "new"
    kill_stage: int | None = None
    next_signal_at: float = 0
    after_kill: State = State.EXIT
    warned: bool = False
    limit_signaled_at: float = 0
    visible_from: float = 0
    is_hidden: bool = False
    is_cleaned: bool = False
    is_unreachable: bool = False
    abandoned_pids: list[int] = field(default_factory=list)
    waits_for: list[int] = field(default_factory=list)
    history: list[tuple[float, str]] = field(default_factory=list)
    spells: list[tuple[float, str]] = field(default_factory=list)

    @property
    def label(self) -> str:
        """Id as commands take and show it: `12`, or `12[3]`."""
        return f"{self.id}[{self.index}]" if self.index else str(self.id)

    @property
    def name(self) -> str:
        """JOB_NAME, with the index of an array element."""
        return f"{self.submission.name}[{self.index}]" if self.index else self.submission.name

    @property
    def is_live(self) -> bool:
        """Whether it has not ended."""
        return self.state not in ENDED

    @property
    def run_directory(self) -> str:
        """Directory of the present start, below FAKE_LSF_DIR."""
        return f"runs/{self.serial}.{self.start_count}"

    def enter(self, state: State, now: float) -> None:
        """Change the state, and remember since when."""
        self.state = state
        self.spells.append((now, str(state)))


_CHANGING = tuple(each.name for each in dataclasses.fields(Job) if each.name != "submission")
_submissions: dict[int, str] = {}


def save(job: Job) -> None:
    """Write the job's file below the current directory, as a whole or not at all."""
    if job.batch not in _submissions:  # it never changes, and holds a whole environment
        _submissions[job.batch] = json.dumps(dataclasses.asdict(job.submission))
    changing = json.dumps({name: getattr(job, name) for name in _CHANGING})
    path = f"jobs/{job.serial}.json"
    with open(path + ".new", "w", encoding="utf-8") as stream:
        stream.write(f'{{"submission":{_submissions[job.batch]},{changing[1:]}')
    os.replace(path + ".new", path)


def load_all(directory: str = ".") -> list[Job]:
    """Read all jobs of FAKE_LSF_DIR, oldest first."""
    place = os.path.join(directory, "jobs")
    found = [name for name in os.listdir(place) if name.endswith(".json")]
    return sorted((_load(os.path.join(place, name)) for name in found), key=lambda job: job.serial)


def _load(path: str) -> Job:
    with open(path, encoding="utf-8") as stream:
        values = json.load(stream)
    submission = values.pop("submission")
    submission["usages"] = [tuple(each) for each in submission["usages"]]
    values["history"] = [tuple(each) for each in values["history"]]
    values["spells"] = [tuple(each) for each in values["spells"]]
    return Job(submission=Submission(**submission), **(values | {"state": State(values["state"])}))
