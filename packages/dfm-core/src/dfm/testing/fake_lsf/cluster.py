"""A fake cluster for a fixture: `with FakeLsf(tmp_path) as lsf: subprocess.run(["bsub", ...], env=lsf.environ)`."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from dfm.testing.fake_lsf import faults, invocations, site
from dfm.testing.fake_lsf.config import ClusterConfig, Dialect, Host, Params, Queue, default_hosts, default_queues
from dfm.testing.fake_lsf.invocations import Invocation

WAIT_SECONDS = 30.0
ENDED = ("DONE", "EXIT")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """A job as mbatchd knows it; see `jobs.Job` for the fields."""

    serial: int
    id: int
    index: int
    label: str
    name: str
    state: str
    queue: str
    command: str
    hosts: tuple[str, ...]
    pid: int
    start_count: int
    exit_code: int | None
    exit_signal: int | None
    reason: str
    pend_reason: str
    submitted_at: float
    started_at: float
    finished_at: float
    is_cleaned: bool
    abandoned_pids: tuple[int, ...]

    @property
    def is_live(self) -> bool:
        """Whether it has not ended."""
        return self.state not in ENDED


class Ctl:
    """What happens to a cluster from outside. Jobs are ids or `id[index]`, seconds are LSF seconds."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def __call__(self, *words: object) -> str:
        """Do what `fakelsf WORD...` does."""
        return site.control(self._directory, *(str(word) for word in words))

    def suspend(self, job: int | str) -> None:
        """SSUSP: stop the job as the system does."""
        self("suspend", job)

    def resume(self, job: int | str) -> None:
        """Let it go on."""
        self("resume", job)

    def unknown(self, job: int | str) -> None:
        """UNKWN: nothing is heard of the job."""
        self("unknown", job)

    def zombie(self, job: int | str) -> None:
        """ZOMBI: the job is lost, and its processes go on."""
        self("zombie", job)

    def preempt(self, job: int | str, how: str = "suspend") -> None:
        """Suspend, requeue or kill the job for another of a higher priority."""
        self("preempt", job, how)

    def kill(self, job: int | str, reason: str = "TERM_ADMIN") -> None:
        """Kill the job as the administrator or LSF itself does."""
        self("kill", job, reason)

    def forget(self, job: int | str) -> None:
        """Let bjobs never again know the job."""
        self("forget", job)

    def lose_host(self, host: str, *, twin: bool = False, dies: bool = False) -> None:
        """Lose contact to a host; rerunnable jobs start anew, with `twin` beside their old processes."""
        self("lose-host", host, *(["--twin"] if twin else []), *(["--dies"] if dies else []))

    def recover(self, host_or_job: int | str) -> None:
        """Contact is back."""
        self("recover", host_or_job)

    def break_host(self, host: str, code: int = 1) -> None:
        """Let each job on the host exit at once."""
        self("break-host", host, code)

    def mend_host(self, host: str) -> None:
        """End of `break_host`."""
        self("mend-host", host)

    def close_host(self, host: str) -> None:
        """Let no new job start on the host."""
        self("close-host", host)

    def open_host(self, host: str) -> None:
        """End of `close_host`."""
        self("open-host", host)

    def close_queue(self, queue: str) -> None:
        """Let the queue take no new job."""
        self("close-queue", queue)

    def open_queue(self, queue: str) -> None:
        """End of `close_queue`."""
        self("open-queue", queue)

    def stop_queue(self, queue: str) -> None:
        """Let no job of the queue start."""
        self("stop-queue", queue)

    def start_queue(self, queue: str) -> None:
        """End of `stop_queue`."""
        self("start-queue", queue)

    def down(self) -> None:
        """Let mbatchd be away; jobs go on."""
        site.stop(self._directory)

    def up(self, *, unknown_seconds: float = 0) -> None:
        """Start mbatchd again; it takes the jobs up again, which are UNKWN for so long at first."""
        site.start(self._directory, unknown_seconds)

    def restart_mbatchd(self, *, unknown_seconds: float = 0) -> None:
        """Stop mbatchd and start it again."""
        self.down()
        self.up(unknown_seconds=unknown_seconds)


class FakeLsf:
    """A fake LSF cluster in a directory of its own, from `with` to the end of it.

    At the end everything that its jobs began is killed; processes that had left their job behind are an error.

    Args:
        parent: an existing directory; the cluster lives in `fake-lsf` below it.
        speed: LSF seconds per second of this machine; at 100 the scheduler's tick of 10 s takes 0.1 s.
        params: fields of `Params`.
        leaks_are_errors: whether processes that outlived their job raise FakeLsfError at the end.
    """

    def __init__(
        self,
        parent: str | os.PathLike[str],
        *,
        speed: float = 100,
        dialect: Dialect = "ibm10",
        hosts: Sequence[Host] | None = None,
        queues: Sequence[Queue] | None = None,
        licences: Mapping[str, int] | None = None,
        params: Params | None = None,
        leaks_are_errors: bool = True,
    ) -> None:
        self.directory = os.path.join(os.path.realpath(parent), "fake-lsf")
        self.config = ClusterConfig(
            dialect=dialect,
            speed=speed,
            hosts=tuple(hosts) if hosts is not None else default_hosts(),
            queues=tuple(queues) if queues is not None else default_queues(),
            licences=dict(licences or {}),
            params=params or Params(),
        )
        self.ctl = Ctl(self.directory)
        self._leaks_are_errors = leaks_are_errors

    def __enter__(self) -> Self:
        site.lay_out(self.directory, self.config)
        site.start(self.directory)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        found = site.leaks(self.directory) if self._leaks_are_errors else []
        site.end_everything(self.directory)
        if found and kind is None:
            raise site.FakeLsfError("outlived their jobs:\n" + "\n".join(found))

    @property
    def environ(self) -> dict[str, str]:
        """This process's environment with the commands on PATH, and without LSF's variables."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("LSB_", "LSF_", "BSUB_"))}
        return kept | {"PATH": f"{self.bin}:{os.environ.get('PATH', os.defpath)}", "FAKE_LSF_DIR": self.directory}

    @property
    def bin(self) -> str:
        """Directory of the commands."""
        return os.path.join(self.directory, "bin")

    def seconds(self, lsf_seconds: float) -> float:
        """Return how long LSF seconds last on this machine."""
        return self.config.seconds(lsf_seconds)

    def run(
        self,
        command: str,
        *words: object,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        stdin: str = "",
        timeout: float = WAIT_SECONDS,
    ) -> subprocess.CompletedProcess[str]:
        """Call a command as a user does.

        Args:
            command: `bsub` and so on.
            words: its arguments.
            env: variables to add.
            cwd: the parent of the cluster's directory, if not given.
            stdin: text for it.
            timeout: seconds of this machine.
        """
        return subprocess.run(
            [os.path.join(self.bin, command), *(str(word) for word in words)],
            env={**self.environ, **(env or {})},
            cwd=cwd or os.path.dirname(self.directory),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def inject(self, command: str, kind: str, **settings: object) -> None:
        """Order a fault: `inject("bsub", "hang", seconds=5, times=1)`; see `faults.Kind`, seconds are LSF seconds.

        Raises:
            faults.OrderError: there is no such command, kind or setting.
        """
        words = [command, kind, *(f"{name}={value}" for name, value in settings.items())]
        faults.order(words)
        self.ctl("inject", *words)

    def clear_faults(self) -> None:
        """Take back all orders that have not hit yet."""
        self.ctl("clear-faults")

    def jobs(self) -> list[JobRecord]:
        """Return all jobs there ever were, oldest first; elements of arrays each by itself."""
        return self._listing("jobs")[1]

    def job(self, label: int | str) -> JobRecord:
        """Return the newest job of that id, or that element of an array."""
        return _newest(self.jobs(), label)

    def wait_for(self, label: int | str, *states: str, timeout: float = WAIT_SECONDS) -> JobRecord:
        """Wait until the job is in one of the states (DONE or EXIT, without any), and return it.

        Raises:
            TimeoutError: it was not within `timeout` seconds of this machine.
        """
        wanted = states or ENDED
        found = self.wait_until(
            lambda jobs: any(job.label == str(label) for job in jobs) and _newest(jobs, label).state in wanted,
            timeout=timeout,
            what=f"job {label} to be {' or '.join(wanted)}",
        )
        return _newest(found, label)

    def wait_until(
        self, holds: Callable[[list[JobRecord]], bool], *, timeout: float = WAIT_SECONDS, what: str = "the jobs"
    ) -> list[JobRecord]:
        """Wait until something holds for the jobs, looking at each change, and return them.

        Raises:
            TimeoutError: it did not hold within `timeout` seconds of this machine.
        """
        deadline = time.monotonic() + timeout
        revision, found = self._listing("jobs")
        while not holds(found):
            try:
                revision, found = self._listing("jobs", str(revision), seconds=deadline - time.monotonic())
            except (TimeoutError, ValueError) as fault:
                states = ", ".join(f"{job.label} {job.state}" for job in found) or "none"
                raise TimeoutError(f"waited {timeout:g} s for {what}; jobs: {states}") from fault
        return found

    def _listing(self, *words: str, seconds: float = WAIT_SECONDS) -> tuple[int, list[JobRecord]]:
        document = json.loads(site.control(self.directory, *words, seconds=seconds))
        names = JobRecord.__dataclass_fields__
        rows = [{name: _frozen(row[name]) for name in names} for row in document["jobs"]]
        return document["revision"], [JobRecord(**row) for row in rows]  # type: ignore[arg-type]  # mbatchd's own JSON

    def invocations(self, command: str | None = None) -> list[Invocation]:
        """Return the calls so far, of one command or of all, in the order of their start."""
        return [call for call in invocations.read(self.directory) if command in {None, call.command}]

    def assert_polite(self, *, max_status_calls_per: float = 15.0, max_submits: int | None = None) -> None:
        """Fail the test if the calls so far would annoy an administrator.

        At most one bjobs, bhist or bacct per that many LSF seconds and never two at a time; no `-K`, `-I`, `-E`; no
        `bkill` of all jobs or without ids; no more than `max_submits` bsub.
        """
        found = invocations.impoliteness(
            self.invocations(),
            seconds_between_status_calls=self.seconds(max_status_calls_per),
            most_submissions=max_submits,
        )
        if found:
            raise AssertionError("\n".join(found))

    def leaks(self) -> list[str]:
        """Return the processes that outlived their jobs, a line each."""
        return site.leaks(self.directory)


def _newest(jobs: Sequence[JobRecord], label: int | str) -> JobRecord:
    found = [job for job in jobs if job.label == str(label)]
    if not found:
        raise KeyError(f"no job {label}")
    return found[-1]


def _frozen(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value
