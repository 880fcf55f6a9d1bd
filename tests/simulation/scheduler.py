"""A batch system that lies: loses answers, takes a job twice, lists nothing, is slow, requeues, suspends, kills."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.simulation.worker import OUT_OF_MEMORY, Worker
from tests.simulation.world import World

from dfm.api.batch import (
    CancelState,
    EndCause,
    FailureKind,
    JobKey,
    JobState,
    JobStatus,
    Listed,
    QueryFailed,
    SubmitAnswer,
    SubmitFailed,
    Submitted,
)
from dfm.core.wire.messages import Shape

HOSTS = 6


@dataclass(slots=True)
class Job:
    id: str
    name: str
    slot: str
    slots: int
    shape: Shape
    excluded: tuple[str, ...]
    state: JobState = JobState.PENDING
    cause: EndCause | None = None
    host: str = ""
    worker: Worker | None = None
    restarts: int = 0
    is_hidden: bool = False
    is_hopeless: bool = False
    is_twin: bool = False
    ends_at: float | None = None

    @property
    def is_alive(self) -> bool:
        return self.state is not JobState.ENDED


class Scheduler:
    """All jobs of all daemons; its memory survives them."""

    def __init__(self, world: World, make_worker: Callable[[Job], Worker]) -> None:
        self.world = world
        self.make_worker = make_worker
        self.jobs: dict[str, Job] = {}
        self.submits: list[float] = []
        self.bad_host = "h0" if "black-hole" in world.faults else ""
        self._disturb()

    def alive(self) -> list[Job]:
        return [job for job in self.jobs.values() if job.is_alive]

    # Commands. Each answers later, or in a way that tells nothing.

    def submit(
        self,
        name: str,
        slot: str,
        slots: int,
        shape: Shape,
        excluded: tuple[str, ...],
        answer: Callable[[SubmitAnswer], None],
    ) -> None:
        world = self.world
        self.submits.append(world.now)
        if world.strikes("submit-refused", 0.2):
            self._answer(lambda: answer(SubmitFailed(kind=FailureKind.TRANSIENT, text="LSF is down")))
            return
        job = self._accept(name, slot, slots, shape, excluded)
        if world.strikes("submit-twice", 0.15):
            self._accept(name, slot, slots, shape, excluded).is_twin = True
            job.is_twin = True
        if world.strikes("submit-answer-lost", 0.25):
            if world.random.random() < 0.3:
                job.state, job.cause, job.is_hidden = JobState.ENDED, EndCause.KILLED_BY_OWNER, True
            self._answer(lambda: answer(SubmitFailed(kind=FailureKind.AMBIGUOUS, text="timed out")), 20.0)
            return
        self._answer(lambda: answer(Submitted(id=job.id)))

    def query(self, keys: Sequence[JobKey], answer: Callable[[Listed | QueryFailed], None]) -> None:
        if self.world.strikes("query-fails", 0.2):
            self._answer(lambda: answer(QueryFailed(text="no answer")))
        elif self.world.strikes("list-empty", 0.2):
            self._answer(lambda: answer(Listed(jobs=(), missing=tuple(keys))))
        else:
            self._answer(lambda: answer(self._listed(keys)))

    def find(self, name: str, answer: Callable[[Listed | QueryFailed], None]) -> None:
        if self.world.strikes("query-fails", 0.2):
            self._answer(lambda: answer(QueryFailed(text="no answer")))
            return
        self._answer(
            lambda: answer(
                Listed(jobs=tuple(_status(job) for job in self.jobs.values() if job.name == name and not job.is_hidden))
            )
        )

    def history(self, key: JobKey, answer: Callable[[JobStatus | None], None]) -> None:
        job = self.jobs.get(key.id or "")
        self._answer(lambda: answer(None if job is None else _status(job)))

    def cancel(self, keys: Sequence[JobKey], answer: Callable[[dict[str, CancelState]], None]) -> None:
        if self.world.strikes("cancel-lost", 0.3):
            self._answer(lambda: answer({}), 10.0)
            return
        states = {}
        for key in keys:
            job = self.jobs.get(key.id or "")
            if job is None or not job.is_alive:
                states[key.id or ""] = CancelState.GONE
            else:
                assert job.name == key.name, "a job of another name is cancelled"
                states[job.id] = CancelState.STOPPING
                self.world.after(self.world.random.uniform(0.1, 2.0), lambda job=job: self._kill(job))  # type: ignore[misc]
        self._answer(lambda: answer(states))

    def _answer(self, say: Callable[[], None], seconds: float = 0.0) -> None:
        slow = 40.0 if self.world.strikes("slow-answers", 0.1) else 0.0
        self.world.after(seconds + slow + self.world.random.uniform(0.05, 1.0), say)

    def _listed(self, keys: Sequence[JobKey]) -> Listed:
        asked = {key.id for key in keys}
        live = tuple(_status(job) for job in self.jobs.values() if job.is_alive)
        shown = {status.id for status in live}
        ended = tuple(
            _status(job) for job in self.jobs.values() if not job.is_alive and job.id in asked and not job.is_hidden
        )
        told = shown | {status.id for status in ended}
        return Listed(jobs=live + ended, missing=tuple(key for key in keys if key.id not in told))

    # What happens to jobs.

    def _accept(self, name: str, slot: str, slots: int, shape: Shape, excluded: tuple[str, ...]) -> Job:
        job = Job(str(100 + len(self.jobs)), name, slot, slots, shape, excluded)
        self.jobs[job.id] = job
        self.world.after(self.world.random.uniform(0.5, 20.0), lambda: self._begin(job))
        return job

    def _begin(self, job: Job) -> None:
        if job.state is not JobState.PENDING:
            return
        hosts = [f"h{number}" for number in range(HOSTS) if f"h{number}" not in job.excluded]
        job.is_hopeless = not hosts
        if job.is_hopeless:
            self.world.after(30.0, lambda: self._begin(job))
            return
        job.state = JobState.RUNNING
        job.host = self.world.random.choice(hosts)
        if "walltime" in self.world.faults and not self.world.is_calm:
            job.ends_at = self.world.now + self.world.random.uniform(60, 300)
            ends_at = job.ends_at
            self.world.after(ends_at - self.world.now, lambda: self._limit(job, ends_at))
        else:
            job.ends_at = None
        job.worker = self.make_worker(job)
        self.world.log(f"job {job.id} runs on {job.host}")

    def worker_ended(self, job: Job, worker: Worker, status: int) -> None:
        """The process of a job ended by itself; the scheduler notices a little later, or the job goes on without it."""
        if self.world.strikes("job-lingers", 0.2):
            self.world.log(f"job {job.id} goes on without its worker")
            return

        causes = {0: EndCause.DONE, OUT_OF_MEMORY: EndCause.MEMORY}

        def end() -> None:
            if job.worker is worker and job.is_alive:
                self._end(job, causes.get(status, EndCause.FAILED))

        self.world.after(self.world.random.uniform(0.1, 3.0), end)

    def _end(self, job: Job, cause: EndCause) -> None:
        job.state, job.cause = JobState.ENDED, cause
        job.is_hidden = self.world.random.random() < 0.3
        self.world.log(f"job {job.id} ended {cause.value}")

    def _limit(self, job: Job, ends_at: float) -> None:
        if job.is_alive and job.ends_at == ends_at and job.worker is not None:
            job.worker.crash()
            self._end(job, EndCause.WALLTIME)

    def _kill(self, job: Job) -> None:
        if job.is_alive:
            if job.worker is not None:
                job.worker.terminate("signal")
            self._end(job, EndCause.KILLED_BY_OWNER)

    def _disturb(self) -> None:
        world = self.world
        running = [job for job in self.jobs.values() if job.state is JobState.RUNNING]
        for job in running:
            if world.strikes("requeue", 0.01):
                self._requeue(job)
            elif world.strikes("suspend", 0.04):
                self._suspend(job)
            elif world.strikes("node-loss", 0.005):
                for other in running:
                    if other.host == job.host and other.is_alive and other.worker is not None:
                        other.worker.crash()
                        self.world.after(10.0, lambda other=other: self._fail_node(other))  # type: ignore[misc]
        world.after(5.0, self._disturb)

    def _fail_node(self, job: Job) -> None:
        if job.state is JobState.RUNNING and job.worker is not None and not job.worker.is_alive:
            self._end(job, EndCause.NODE)

    def _requeue(self, job: Job) -> None:
        """Start the job again under the same id; its old process may live on."""
        if job.worker is not None and self.world.random.random() < 0.7:
            job.worker.crash()
        job.state, job.worker, job.host = JobState.PENDING, None, ""
        job.restarts += 1
        job.ends_at = None
        self.world.log(f"job {job.id} requeued")
        self.world.after(self.world.random.uniform(1, 20), lambda: self._begin(job))

    def _suspend(self, job: Job) -> None:
        worker = job.worker
        if worker is None:
            return
        job.state = JobState.SUSPENDED
        worker.freeze()
        self.world.log(f"job {job.id} suspended")

        def resume() -> None:
            if job.state is JobState.SUSPENDED and self.world.strikes("node-loss", 0.5):
                worker.vanish()
                self._end(job, EndCause.NODE)
                job.is_hidden = True
                return
            worker.thaw()
            if job.state is JobState.SUSPENDED:
                job.state = JobState.RUNNING

        self.world.after(self.world.random.uniform(30, 150), resume)


def _status(job: Job) -> JobStatus:
    return JobStatus(
        id=job.id, name=job.name, state=job.state, cause=job.cause, host=job.host, is_hopeless=job.is_hopeless
    )
