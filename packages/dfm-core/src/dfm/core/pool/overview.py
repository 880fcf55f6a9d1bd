"""What people are shown of a pool: its status, why a task is not done, what ended of late.

Owns what is known of running and ended tasks for people only; no decision depends on it. All texts are redacted.
"""

import functools
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime

import msgspec

from dfm.core.__about__ import __version__
from dfm.core.pool.batch import BatchJobs
from dfm.core.pool.events import Assign
from dfm.core.pool.jobs import Phase
from dfm.core.pool.ledger import Ledger
from dfm.core.pool.reactor import Reactor
from dfm.core.pool.standing import Stage
from dfm.core.wire.messages import Result, Shape
from dfm.core.wire.redaction import Redaction

RECENT = 100
"""How many ended tasks are shown to people."""
RATE_WINDOW = 10_000
RATE_SECONDS = 10.0
_HOLDING = frozenset({Phase.RUNNING, Phase.SUSPENDED, Phase.UNKNOWN})
"""Where a job stands that has what it asked for."""


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """A task that has ended, for people."""

    task: str
    outcome: str
    seconds: float
    worker: str
    host: str
    at: str


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """A task that its client has submitted and that is not taken in yet.

    Attributes:
        check_seconds: how soon it is looked at again.
    """

    task: str
    client: str
    reason: str
    since: float
    check_seconds: float


class Overview:
    """Looks at the reactor and the ledger for people.

    Args:
        clock: seconds, monotonic; the uptime counts from now.
    """

    def __init__(
        self,
        reactor: Reactor,
        ledger: Ledger,
        epoch: int,
        redaction: Redaction,
        clock: Callable[[], float],
    ) -> None:
        self._reactor = reactor
        self._ledger = ledger
        self._epoch = epoch
        self._redaction = redaction
        self._clock = clock
        self._started = clock()
        self._running: dict[int, tuple[Assign, float]] = {}
        self._ended_at: deque[float] = deque(maxlen=RATE_WINDOW)
        self._recent: deque[Ended] = deque(maxlen=RECENT)

    def begin(self, assign: Assign) -> None:
        """Take note of an attempt that is sent to a worker."""
        self._running[assign.attempt] = (assign, self._clock())

    def end(self, slot: str, host: str | None, result: Result) -> None:
        """Take note of a result; `host` is of its worker, None where that is not connected."""
        assigned, since = self._running.pop(result.attempt, (None, 0.0))
        now = self._clock()
        self._ended_at.append(now)
        if assigned is not None and host is not None:
            self._recent.append(
                Ended(
                    task=assigned.task,
                    outcome=result.outcome,
                    seconds=now - since,
                    worker=slot,
                    host=host,
                    at=datetime.now(UTC).isoformat(timespec="seconds"),
                )
            )

    def drop(self, attempt: int) -> None:
        """Forget an attempt that does not run any more."""
        self._running.pop(attempt, None)

    def status(self, batch: BatchJobs, directories: Mapping[str, str]) -> dict[str, object]:
        """Return the workers, jobs, tasks and clients; docs/reference/daemon-status.md describes it.

        Args:
            batch: what runs the commands of the batch system.
            directories: of the clients that are attached, by name.
        """
        return self._redaction.hide_in(self._status(batch, directories))

    def _status(self, batch: BatchJobs, directories: Mapping[str, str]) -> dict[str, object]:
        now = self._clock()
        workers, jobs, tasks = self._reactor.workers(), self._ledger.jobs(), self._reactor.tasks()
        stages = {stage: sum(task.state is stage for task in tasks) for stage in Stage}
        since = {task: self._clock() - started for task, started in self._started_by_slot()}
        return {
            "epoch": self._epoch,
            "version": __version__,
            "runner": batch.dialect.name,
            "uptime_seconds": now - self._started,
            "paused": self._ledger.pause_reason(now),
            "excluded_hosts": self._ledger.excluded_hosts(now),
            "held_tokens": {
                name: count * sum(job.is_connected or job.phase in _HOLDING for job in jobs)
                for name, count in batch.held_tokens.items()
            },
            "workers": [
                {
                    "slot": worker.slot,
                    "host": worker.host,
                    "slots": worker.slots,
                    "state": _state_of(worker.busy, worker.is_connected, worker.is_draining, worker.is_suspended),
                    "running": [
                        {"task": task, "seconds": since.get((worker.slot, task), 0.0)} for task in worker.tasks
                    ],
                    "heard_seconds_ago": now - worker.heard_at,
                }
                for worker in workers
            ],
            "jobs": [
                {
                    "name": job.name,
                    "slot": job.slot,
                    "id": job.id,
                    "state": str(job.phase),
                    "reason": job.reason,
                    "host": job.host,
                    "is_connected": job.is_connected,
                    "since_seconds": now - job.since,
                }
                for job in jobs
            ],
            "workers_count": {
                "total": len(jobs),
                "connected": sum(worker.is_connected for worker in workers),
                "busy": sum(worker.busy > 0 for worker in workers),
                "idle": sum(worker.busy == 0 and worker.is_connected for worker in workers),
                "pending": sum(not job.is_connected and not job.is_stopping for job in jobs),
            },
            "tasks_count": {
                "queued": stages[Stage.QUEUED],
                "running": sum(stages[stage] for stage in Stage if stage not in (Stage.QUEUED, Stage.ENDED)),
                "done": self._reactor.counters().committed,
            },
            "tasks_per_second": self._rate(now),
            "counters": msgspec.structs.asdict(self._reactor.counters()),
            "clients": [
                {
                    "run_id": name,
                    "directory": directory,
                    "unfinished": sum(task.client == name and task.state is not Stage.ENDED for task in tasks),
                }
                for name, directory in directories.items()
            ],
            "recent": [msgspec.structs.asdict(ended) for ended in self._recent],
        }

    def why(self, needle: str, held: Iterable[Held]) -> list[dict[str, object]]:
        """Return where every unfinished task stands whose name is, or holds, `needle`; an empty one means all."""
        now = self._clock()
        why_no_worker = functools.cache(lambda shape: self.why_no_worker(now, shape))  # many tasks, few shapes
        found: list[dict[str, object]] = []
        for task in self._reactor.tasks():
            if task.state is Stage.ENDED or (needle and needle not in task.task):
                continue
            standing = self._reactor.pending_reason(task.client, task.ticket, now)
            if standing is None:
                continue
            reason = standing.reason
            if standing.state is Stage.QUEUED:
                reason = "; ".join(filter(None, [reason, why_no_worker(task.shape)]))
            found.append(
                {
                    "task": task.task,
                    "run_id": task.client,
                    "state": str(standing.state),
                    "reason": reason,
                    "since_seconds": now - standing.since,
                    "checked_again_in_seconds": max(0.0, standing.deadline - now),
                    "host": task.host,
                    "worker": task.slot,
                    "attempt": task.number,
                }
            )
        return self._redaction.hide_in(found + [_why_held(task, now) for task in held if needle in task.task])

    def why_no_worker(self, now: float, shape: Shape | None = None) -> str:
        """Return why tasks, of one shape where it is given, are queued beside that no worker is free."""
        reasons = [self._ledger.pause_reason(now, shape), self._pending_jobs(now, shape)]
        return self._redaction.hide("; ".join(filter(None, reasons)))

    def _pending_jobs(self, now: float, shape: Shape | None) -> str:
        """Say how the jobs stand from which no worker has come yet."""
        coming = [job for job in self._ledger.jobs() if not job.is_connected and not job.is_stopping]
        waiting = [job for job in coming if shape in (None, job.shape)]
        if not waiting:
            return "all worker jobs on their way are for tasks of other shapes" if coming else ""
        eldest = max(waiting, key=lambda job: now - job.since)
        reason = f" ({eldest.reason})" if eldest.reason else ""
        phase = "starting" if eldest.phase is Phase.RUNNING else str(eldest.phase)
        since = f"{phase} for {now - eldest.since:.0f} s{reason}"
        if len(waiting) == 1:
            return f"a worker job is on its way, {since}"
        return f"{len(waiting)} worker jobs are on their way, the eldest {since}"

    def _started_by_slot(self) -> list[tuple[tuple[str, str], float]]:
        return [((assign.slot, assign.task), started) for assign, started in self._running.values()]

    def _rate(self, now: float) -> float:
        recent = [at for at in self._ended_at if now - at <= RATE_SECONDS]
        return len(recent) / RATE_SECONDS


def _why_held(held: Held, now: float) -> dict[str, object]:
    return {
        "task": held.task,
        "run_id": held.client,
        "state": str(Stage.QUEUED),
        "reason": held.reason,
        "since_seconds": now - held.since,
        "checked_again_in_seconds": held.check_seconds,
        "host": "",
        "worker": "",
        "attempt": 0,
    }


def _state_of(busy: int, is_connected: bool, is_draining: bool, is_suspended: bool) -> str:  # noqa: FBT001  (a table)
    if is_suspended:
        return "suspended"
    if not is_connected:
        return "silent"
    if is_draining:
        return "draining"
    return "busy" if busy else "idle"
