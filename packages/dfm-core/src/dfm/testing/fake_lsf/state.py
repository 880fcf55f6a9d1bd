"""All that mbatchd knows: jobs, hosts, queues, faults; and how it finds and keeps them.

The current directory of the process is FAKE_LSF_DIR. Each change goes through `changed`, which writes the job's file
and moves the revision on, so that a watcher can wait for the next change.
"""

import dataclasses
import fnmatch
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from dfm.testing.fake_lsf import jobs
from dfm.testing.fake_lsf.config import ClusterConfig, Host, Queue
from dfm.testing.fake_lsf.jobs import Job, State, Submission
from dfm.testing.fake_lsf.supervise import now, write_whole


@dataclass(slots=True)
class System:
    """What is not of one job, and outlives a restart as well.

    Attributes:
        broken_hosts: exit code of each black hole.
        unknown_until: jobs of before a restart are UNKWN until then.
    """

    next_id: int
    next_serial: int = 1
    closed_queues: list[str] = field(default_factory=list)
    inactive_queues: list[str] = field(default_factory=list)
    closed_hosts: list[str] = field(default_factory=list)
    lost_hosts: list[str] = field(default_factory=list)
    broken_hosts: dict[str, int] = field(default_factory=dict)
    unknown_until: float = 0
    faults: list[dict[str, object]] = field(default_factory=list)


class Cluster:
    """The state of one fake cluster."""

    def __init__(self, config: ClusterConfig, directory: str) -> None:
        self.config = config
        self.directory = directory
        self.hosts: dict[str, Host] = {host.name: host for host in config.hosts}
        self.queues: dict[str, Queue] = {queue.name: queue for queue in config.queues}
        self.jobs: dict[int, Job] = {job.serial: job for job in jobs.load_all()}
        self._live: dict[int, Job] = {serial: job for serial, job in self.jobs.items() if job.is_live}
        self.system = self._load_system()
        self.revision = 0
        self.on_change: Callable[[], None] = lambda: None

    def _load_system(self) -> System:
        try:
            with open("system.json", encoding="utf-8") as stream:
                return System(**json.load(stream))
        except FileNotFoundError:
            broken = {host.name: host.broken for host in self.config.hosts if host.broken is not None}
            return System(next_id=self.config.params.first_jobid, broken_hosts=broken)

    def save_system(self) -> None:
        """Write down what is not of one job."""
        write_whole("system.json", json.dumps(dataclasses.asdict(self.system)))
        self._move_on()

    def changed(self, job: Job) -> None:
        """Write down a job."""
        jobs.save(job)
        if job.is_live:
            self._live[job.serial] = job
        else:
            self._live.pop(job.serial, None)
        self._move_on()

    def _move_on(self) -> None:
        self.revision += 1
        self.on_change()

    def note(self, job: Job, text: str) -> None:
        """Add an event to the job's history."""
        job.history.append((now(), text))

    def add(self, submission: Submission, indexes: Iterable[int]) -> int:
        """Take jobs in, the elements of one array or a single one of index 0; return their id."""
        identity = self._take_id()
        batch = self.system.next_serial
        params = self.config.params
        for index in indexes:
            at = now()
            job = Job(
                serial=self.system.next_serial,
                batch=batch,
                id=identity,
                index=index,
                submission=submission,
                submitted_at=at,
                visible_from=at + self.config.seconds(params.newjob_refresh),
            )
            job.enter(State.PSUSP if submission.suspend_at_once else State.PEND, at)
            job.pend_reason = "held" if submission.suspend_at_once else "new"
            self.system.next_serial += 1
            self.jobs[job.serial] = job
            self.changed(job)
        self.save_system()
        return identity

    def _take_id(self) -> int:
        """Return the next id that no job uses which bjobs still knows; ids start again at 1 after MAX_JOBID."""
        used = {job.id for job in self.jobs.values() if not job.is_cleaned}
        identity = self.system.next_id
        while identity in used or identity > self.config.params.max_jobid:
            identity = identity + 1 if identity < self.config.params.max_jobid else 1
        self.system.next_id = identity + 1
        return identity

    def live(self) -> list[Job]:
        """Return all jobs that have not ended, oldest first."""
        return list(self._live.values())

    def with_label(self, label: str, *, cleaned: bool = False) -> list[Job]:
        """Return the jobs that `12` or `12[3]` names: of ids that were reused, those of the latest use only."""
        identity, _, index = label.partition("[")
        if not identity.isdigit() or (index and not index.rstrip("]").isdigit()):
            return []
        found = [job for job in self.jobs.values() if job.id == int(identity) and (cleaned or not job.is_cleaned)]
        latest = max((job.batch for job in found), default=0)
        found = [job for job in found if job.batch == latest]
        return [job for job in found if not index or job.index == int(index.rstrip("]"))]

    def named(self, pattern: str) -> list[Job]:
        """Return the jobs whose name matches, wildcards allowed; `name` of an array means all of its elements."""
        wanted = pattern.replace("[", "[[]")
        return [
            job
            for job in self.jobs.values()
            if not job.is_cleaned
            and (fnmatch.fnmatchcase(job.name, wanted) or fnmatch.fnmatchcase(job.submission.name, wanted))
        ]

    def path(self, relative: str) -> str:
        """Return an absolute path below FAKE_LSF_DIR."""
        return os.path.join(self.directory, relative)
