"""The states of a job in LSF, and why a job ended.

Source: IBM Spectrum LSF 10.1, bjobs and "termination reasons". RUN is also shown while a job is being killed. A
suspended job is alive, and so is one whose state is UNKWN. ZOMBI is given up by LSF; its process may be alive.
"""

import re
from dataclasses import dataclass

from dfm.api.batch import EndCause, JobState

STATES = {
    "PEND": JobState.PENDING,
    "PROV": JobState.PENDING,
    "WAIT": JobState.PENDING,
    "PSUSP": JobState.HELD,
    "RUN": JobState.RUNNING,
    "USUSP": JobState.SUSPENDED,
    "SSUSP": JobState.SUSPENDED,
    "DONE": JobState.ENDED,
    "EXIT": JobState.ENDED,
    "POST_DONE": JobState.ENDED,
    "POST_ERR": JobState.ENDED,
    "UNKWN": JobState.UNKNOWN,
    "ZOMBI": JobState.ENDED,
}
WARNINGS = {
    "WAIT": "the job waits behind another one of its chunk, which may never end: use a queue without CHUNK_JOB_SIZE",
    "PSUSP": "the job is held: bresume releases it",
    "ZOMBI": "LSF has given the job up, and its process may be alive",
    "POST_ERR": "the post-exec of the queue failed",
}
CAUSES = {
    "PREEMPT": EndCause.PREEMPTED,
    "WINDOW": EndCause.PREEMPTED,
    "LOAD": EndCause.PREEMPTED,
    "RUNLIMIT": EndCause.WALLTIME,
    "DEADLINE": EndCause.WALLTIME,
    "CPULIMIT": EndCause.WALLTIME,
    "PROCESSLIMIT": EndCause.FAILED,
    "THREADLIMIT": EndCause.FAILED,
    "FORCE_OWNER": EndCause.KILLED_BY_OWNER,
    "REQUEUE_OWNER": EndCause.KILLED_BY_OWNER,
    "OWNER": EndCause.KILLED_BY_OWNER,
    "FORCE_ADMIN": EndCause.KILLED_BY_ADMIN,
    "REQUEUE_ADMIN": EndCause.KILLED_BY_ADMIN,
    "ADMIN": EndCause.KILLED_BY_ADMIN,
    "ORPHAN_SYSTEM": EndCause.KILLED_BY_ADMIN,
    "MEMLIMIT": EndCause.MEMORY,
    "SWAP": EndCause.MEMORY,
    "CHKPNT": EndCause.PREEMPTED,
    "RC_RECLAIM": EndCause.PREEMPTED,
    "RC": EndCause.PREEMPTED,
    "ZOMBIE": EndCause.LOST,
    "CWD_NOTEXIST": EndCause.LAUNCH,
    "PRE_EXEC_FAIL": EndCause.LAUNCH,
    "REMOVE_HUNG_JOB": EndCause.NODE,
}
"""By the keyword after `TERM_`. OTHER and EXTERNAL_SIGNAL say nothing of the cause; the exit status is asked then."""
_REQUEUES = ("REQUEUE_OWNER", "REQUEUE_ADMIN")
_TERM = re.compile(r"TERM_([A-Z_]+)")
_RUN_LIMIT_STATUS = 140
_LAUNCH_STATUSES = (127, 126, 2)
_SIGUSR2 = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a job ended; `is_requeued` where it runs again under the same id."""

    cause: EndCause
    is_requeued: bool = False


def state_of(word: str) -> tuple[JobState, str | None]:
    """Return the class of LSF's state `word`, and a warning where a person should know; an unknown one is UNKNOWN."""
    if word in STATES:
        return STATES[word], WARNINGS.get(word)
    return JobState.UNKNOWN, f"LSF tells a state that is not known here: {word!r}"


def ending_of(
    word: str, *, has_run: bool, exit_status: int | None, signal: int | None = None, reason: str = ""
) -> Ending:
    """Return why a job in the ended state `word` ended.

    Args:
        word: LSF's state.
        has_run: whether it had a host; one that had none and exited was killed before it ran.
        exit_status: None where LSF tells none, as the short tables of bjobs do.
        signal: the signal that ended the job's own process.
        reason: text that may hold `TERM_...`.
    """
    if word in ("DONE", "POST_DONE", "POST_ERR"):
        return Ending(cause=EndCause.DONE)
    if word == "ZOMBI":
        return Ending(cause=EndCause.LOST)
    keyword = _keyword(reason)
    if keyword in CAUSES:
        return Ending(cause=CAUSES[keyword], is_requeued=keyword in _REQUEUES)
    if signal is not None:
        return Ending(cause=EndCause.WALLTIME if signal == _SIGUSR2 else EndCause.FAILED)
    if exit_status is None and not has_run:
        return Ending(cause=EndCause.KILLED_BY_OWNER)
    return Ending(cause=_cause_of_status(exit_status))


def words_of_status(exit_status: int | None) -> str:
    """Return what a person should know of an exit status that LSF gives no reason for; empty where it says nothing."""
    words = {127: "the command was not found on the host", 126: "the command cannot be executed on the host"}
    return f"exit status {exit_status}: {words[exit_status]}" if exit_status in words else ""


def _keyword(reason: str) -> str:
    found = _TERM.search(reason)
    return found[1].rstrip("_") if found else ""


def _cause_of_status(exit_status: int | None) -> EndCause:
    if exit_status == _RUN_LIMIT_STATUS:
        return EndCause.WALLTIME
    return EndCause.LAUNCH if exit_status in _LAUNCH_STATUSES else EndCause.FAILED
