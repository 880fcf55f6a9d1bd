"""Worker processes on this host in the dialect of a batch system, so that a pool needs no cluster.

A "job" is a process in a session of its own, its id the process id; whether it still is that process is judged by the
name of the job in its command line, so that an id that was given to somebody else is never taken for it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from dfm.api.batch import (
    CancelAnswer,
    CancelState,
    Command,
    CommandOutput,
    EndCause,
    FailureKind,
    JobKey,
    JobState,
    JobStatus,
    Listed,
    Probe,
    QueryAnswer,
    QueryFailed,
    SubmitAnswer,
    SubmitFailed,
    Submitted,
    WorkerJob,
)
from dfm.api.errors import RunnerError

_START = (
    'cd "$1" || exit 1; mkdir -p "${2%/*}"; n=$3; log=$2; shift 3; '
    'setsid sh -c \'n=$1; shift; exec "$@"\' "$n" "$n" "$@" </dev/null >>"$log" 2>&1 & echo "$!"'
)
"""Starts the worker behind a shell that is replaced by it: `setsid` forks only where it must, so `$!` is the worker."""

_NAME_OF = (
    'name_of() { for i in 1 2 3; do e=$(tr "\\0" "\\n" <"/proc/$1/environ"); [ -z "$e" ] || break; done 2>/dev/null; '
    'printf "%s\\n" "$e" | sed -n "s/^DFM_JOB_NAME=//p"; }; '
)
"""Tells the name of the job that a process is; one in the midst of an exec shows no environment, and is asked again."""
_LIST = _NAME_OF + 'for p; do n=$(name_of "$p"); [ -z "$n" ] || echo "$p $n"; done; exit 0'
_KILL = _NAME_OF + (
    'for pair; do p=${pair%%=*}; n=${pair#*=}; if [ "$(name_of "$p")" = "$n" ]; '
    'then kill -TERM "$p" && kill -CONT "$p" && echo "$p stopping"; else echo "$p gone"; fi; done; exit 0'
)
_ROW = re.compile(r"^(?P<pid>\d+) (?P<word>\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class ProcessDialect:
    """Worker processes of this host.

    Attributes:
        max_cores: what one worker may ask for at most: the processors of this host.
    """

    max_cores: int
    name: str = "local"

    def validate(self, job: WorkerJob) -> None:
        """Refuse a worker that is larger than this host."""
        if job.cores > self.max_cores:
            raise RunnerError(
                f"a task asks for {job.cores} cores, and this host has {self.max_cores}",
                hint="ask for fewer, or use a runner with larger hosts",
            )

    def submit(self, job: WorkerJob) -> Command:
        """Start the process and print its id."""
        words = ("/bin/sh", "-c", _START, "sh", job.directory, job.log, job.name, *job.argv)
        return Command(argv=words, set_env={"DFM_JOB_NAME": job.name}, timeout_seconds=30.0)

    def parse_submit(self, job: WorkerJob, output: CommandOutput) -> SubmitAnswer:  # noqa: ARG002  (the contract)
        """Read the process id."""
        pid = output.stdout.strip()
        if output.is_timed_out:
            return SubmitFailed(kind=FailureKind.AMBIGUOUS, text="starting a worker took too long")
        if output.status != 0 or not pid.isdigit():
            return SubmitFailed(kind=FailureKind.TRANSIENT, text=output.stderr.strip() or f"status {output.status}")
        return Submitted(id=pid)

    def query(self, prefix: str, jobs: Sequence[JobKey]) -> Sequence[Command]:  # noqa: ARG002  (the contract)
        """Look into /proc for all of them at once."""
        asked = tuple(job for job in jobs if job.id is not None)
        pids = [job.id for job in asked if job.id is not None]
        return [Command(argv=("/bin/sh", "-c", _LIST, "sh", *pids), asked=tuple(jobs))] if pids else []

    def parse_query(self, command: Command, output: CommandOutput) -> QueryAnswer:
        """Those that live run; the others are gone, and how they went is not known."""
        if output.is_timed_out or output.status != 0:
            return QueryFailed(text=output.stderr.strip() or "looking at processes took too long")
        living = {row["word"]: row["pid"] for row in _ROW.finditer(output.stdout)}
        found = [(job, living.get(job.name)) for job in command.asked]
        return Listed(
            jobs=tuple(_status(job, pid) for job, pid in found if pid is not None or job.id is not None),
            missing=tuple(job for job, pid in found if pid is None and job.id is None),
        )

    def find(self, name: str) -> Command:
        """Look for a process that bears the name."""
        script = (
            'for e in /proc/[0-9]*/environ; do if tr "\\0" "\\n" <"$e" 2>/dev/null | grep -qx "DFM_JOB_NAME=$1"; '
            'then p=${e#/proc/}; echo "${p%/environ} $1"; break; fi; done; exit 0'
        )
        return Command(argv=("/bin/sh", "-c", script, "sh", name), asked=(JobKey(name=name),))

    def history(self, job: JobKey) -> Command | None:  # noqa: ARG002  (the contract)
        """There is none."""
        return None

    def parse_history(self, job: JobKey, output: CommandOutput) -> JobStatus | None:  # noqa: ARG002  (the contract)
        """There is none."""
        return None

    def cancel(self, jobs: Sequence[JobKey]) -> Sequence[Command]:
        """Tell them to go, if they are still the processes that we know."""
        pairs = [f"{job.id}={job.name}" for job in jobs if job.id is not None]
        return [Command(argv=("/bin/sh", "-c", _KILL, "sh", *pairs), asked=tuple(jobs))] if pairs else []

    def parse_cancel(self, command: Command, output: CommandOutput) -> CancelAnswer:  # noqa: ARG002  (the contract)
        """One line a process."""
        words = {"stopping": CancelState.STOPPING, "gone": CancelState.GONE}
        return CancelAnswer(states={row["pid"]: words[row["word"]] for row in _ROW.finditer(output.stdout)})

    def probes(self) -> Sequence[Probe]:
        """This host needs no check."""
        return ()

    def shown(self, job: WorkerJob) -> str:
        """Show the worker's command."""
        return " ".join(job.argv)


def _status(job: JobKey, pid: str | None) -> JobStatus:
    if pid is not None:
        return JobStatus(id=pid, name=job.name, state=JobState.RUNNING)
    assert job.id is not None
    return JobStatus(id=job.id, name=job.name, state=JobState.ENDED, cause=EndCause.FAILED)
