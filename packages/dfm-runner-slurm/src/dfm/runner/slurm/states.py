"""States, reasons and exit codes of SLURM, and what they are to DFM.

Before 23.02 JobLaunchFailure is the reason both of a job whose output could not be opened (signal 53) and of one that
was killed with SIGKILL, so the signal decides where it is known; since then the reason itself names it, as
`RaisedSignal:53(Real-time signal 19)`. A state of another version is *unknown*, never an end.

Source: squeue(1) "JOB STATE CODES" and "JOB REASON CODES", SLURM 22.05 and 24.11, and the answers of 22.05.8 and
24.11.5; job_state_reason.c of 24.11 for all reasons.
"""

import re
from dataclasses import dataclass

from dfm.api.batch import EndCause, JobState, JobStatus

LAUNCH_SIGNAL = 53
"""What SLURM reports as the signal where a step could not be set up: `ExitCode=0:53`."""

_LIVE = {
    "PENDING": JobState.PENDING,
    "CONFIGURING": JobState.PENDING,
    "RUNNING": JobState.RUNNING,
    "COMPLETING": JobState.RUNNING,
    "SIGNALING": JobState.RUNNING,
    "RESIZING": JobState.RUNNING,
    "STAGE_OUT": JobState.RUNNING,
    "SUSPENDED": JobState.SUSPENDED,
    "STOPPED": JobState.SUSPENDED,
}
_ENDED = {
    "COMPLETED": EndCause.DONE,
    "FAILED": EndCause.FAILED,
    "CANCELLED": EndCause.KILLED_BY_OWNER,
    "TIMEOUT": EndCause.WALLTIME,
    "DEADLINE": EndCause.WALLTIME,
    "OUT_OF_MEMORY": EndCause.MEMORY,
    "NODE_FAIL": EndCause.NODE,
    "BOOT_FAIL": EndCause.NODE,
    "LAUNCH_FAILED": EndCause.LAUNCH,
    "PREEMPTED": EndCause.PREEMPTED,
    "REVOKED": EndCause.LOST,
}
_REQUEUED = {
    "REQUEUED": JobState.PENDING,
    "REQUEUE_FED": JobState.PENDING,
    "REQUEUE_HOLD": JobState.HELD,
    "SPECIAL_EXIT": JobState.HELD,
    "RESV_DEL_HOLD": JobState.HELD,
}
_RAISED = re.compile(r"RaisedSignal:(\d+)", re.ASCII)
_CODE = re.compile(r"(?P<code>\d+)(?::(?P<signal>\d+))?\Z", re.ASCII)
_MAY_BE_REQUEUED = ("PREEMPTED", "NODE_FAIL", "BOOT_FAIL")
_HELD = re.compile(r"JobHeld|JobHoldMaxRequeue|held state|requeued held", re.IGNORECASE)
_HOPELESS = re.compile(
    r"PartitionConfig|PartitionTimeLimit|PartitionNodeLimit|BadConstraints|AccountNotAllowed|QOSNotAllowed"
    r"|InvalidAccount|InvalidQOS|MaxMemPerLimit|DependencyNeverSatisfied|Reservation(?:Deleted|Invalid)"
    r"|JobHoldMaxRequeue"
    r"|requeued held|AssociationTimeLimit|QOSTimeLimit|can't use this partition|not permitted to use this partition"
    r"|(?:Assoc|QOS)(?:Max|Min)\w*Per(?:Job|Node)|QOSMin\w+|MaxBillingPerJob",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What any of SLURM's tools says of one job; what it does not say is None or empty.

    Attributes:
        state: in full, `CANCELLED by 0` included.
        exit_code: the program's, where no signal ended it.
        signal: that ended it, 0 for none.
        restarts: how often it was started anew under this id.
        owner: numeric id of the job's owner.
    """

    id: str
    name: str
    state: str
    reason: str = ""
    host: str = ""
    cluster: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    restarts: int = 0
    owner: str = ""


def exit_of(text: str) -> tuple[int | None, int | None]:
    """Return exit code and signal of `3:0`, or of a wait status such as `768`; None for what is neither."""
    match = _CODE.match(text)
    if match is None:
        return None, None
    if match["signal"] is not None:
        return int(match["code"]), int(match["signal"])
    wait_status = int(match["code"])
    return wait_status >> 8, wait_status & 0x7F


def status(facts: Facts, *, may_requeue: bool) -> JobStatus:
    """Return what the facts mean.

    Args:
        facts: of one job, from one answer.
        may_requeue: the job was submitted to be started anew, so that a preemption is no end while it is listed.
    """
    word = facts.state.split()[0].rstrip("+") if facts.state.strip() else ""
    if word in _REQUEUED:
        return _live(facts, _REQUEUED[word], is_requeued=True)
    if may_requeue and word in _MAY_BE_REQUEUED:
        return _live(facts, JobState.PENDING, is_requeued=True)
    if word in _ENDED:
        return _ended(facts, word)
    if word in _LIVE:
        return _live(facts, _LIVE[word], is_requeued=_LIVE[word] is JobState.PENDING and facts.restarts > 0)
    return _live(
        facts, JobState.UNKNOWN, is_requeued=False, warning=f"SLURM says {facts.state!r} of job {facts.id}, a new state"
    )


def _live(facts: Facts, state: JobState, *, is_requeued: bool, warning: str | None = None) -> JobStatus:
    waits = state in (JobState.PENDING, JobState.HELD)
    if state is JobState.PENDING and _HELD.search(facts.reason):
        state = JobState.HELD
    return JobStatus(
        id=facts.id,
        name=facts.name,
        state=state,
        host="" if waits else facts.host,
        reason=facts.reason or (facts.state if state is not JobState.PENDING else ""),
        cluster=facts.cluster,
        is_hopeless=waits and bool(_HOPELESS.search(facts.reason)),
        is_requeued=is_requeued,
        warning=warning,
    )


def _ended(facts: Facts, word: str) -> JobStatus:
    cause, reason = _cause(facts, word)
    return JobStatus(
        id=facts.id,
        name=facts.name,
        state=JobState.ENDED,
        cause=cause,
        exit_status=_exit_status(facts),
        host=facts.host,
        reason=reason,
        cluster=facts.cluster,
    )


def _cause(facts: Facts, word: str) -> tuple[EndCause, str]:
    reason = f"{facts.state} ({facts.reason})" if facts.reason else facts.state
    if word == "CANCELLED":
        by = re.search(r"by (\d+)", facts.state)
        is_foreign = by is not None and facts.owner not in ("", by[1])
        return (EndCause.KILLED_BY_ADMIN if is_foreign else EndCause.KILLED_BY_OWNER), reason
    if word == "FAILED":
        return _failure(facts, reason)
    return _ENDED[word], reason


def _failure(facts: Facts, reason: str) -> tuple[EndCause, str]:
    where, signal = facts.host or "its node", _signal(facts)
    if signal == LAUNCH_SIGNAL or (signal is None and "JobLaunchFailure" in facts.reason):
        return EndCause.LAUNCH, f"{reason}: its directory or output path is not usable on {where}"
    if facts.reason == "BadConstraints":
        return EndCause.LAUNCH, f"{reason}: no node can be what it asks for"
    if facts.exit_code in (126, 127) and not signal:
        return EndCause.LAUNCH, f"{reason}: its command was not found on {where}, or cannot be run there"
    return EndCause.FAILED, f"{reason}: ended by signal {signal}" if signal else reason


def _exit_status(facts: Facts) -> int | None:
    signal = _signal(facts)
    if signal == LAUNCH_SIGNAL:
        return None
    return 128 + signal if signal else facts.exit_code


def _signal(facts: Facts) -> int | None:
    """Return the signal that ended the job: of the exit code, or, where that was not told, of the reason."""
    if facts.signal is not None:
        return facts.signal
    raised = _RAISED.search(facts.reason)
    return None if raised is None else int(raised[1])
