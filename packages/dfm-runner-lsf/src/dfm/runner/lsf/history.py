"""bhist -l: how a job ended that bjobs no longer knows.

Source: IBM Spectrum LSF 10.1 command reference, bhist. The answer wraps at about 80 columns, in the middle of words,
and indents what goes on; it may hold several jobs where an id was used again.
"""

import re
from dataclasses import dataclass
from itertools import pairwise

from dfm.api.batch import Command, CommandOutput, JobKey, JobState, JobStatus
from dfm.runner.lsf.commands import Commands, Tool
from dfm.runner.lsf.states import ending_of

_WRAPPED = re.compile(r"\n {21}|\n {10,20}(?=\S)")
_RECORD = re.compile(r"^Job(?: Id)? ?<(?P<id>[^>]+)>", re.MULTILINE)
_NAME = re.compile(r"Job Name <([^>]*)>")
_HOST = re.compile(r"(?:Dispatched\s*to|[Dd]ispatched\b.*?on\s*Host\(s\)) <(?:\d+\*)?([^>]+)>")
_ALIVE = re.compile(r"Dispatched\s*to|[Dd]ispatched \d+|Starting\s*\(Pid|Running;|[Rr]equeued|Unknown;\s*unable")
_EVENT = re.compile(
    r"(?P<done>Done\s*successfully)"
    r"|Exited\s*with\s*exit\s*code\s*(?P<status>[0-9]{1,5})"
    r"|Exited\s*by\s*signal\s*(?P<signal>[0-9]{1,3})"
    r"|(?P<forced>Exited;\s*job\s*has\s*been\s*forced\s*to\s*exit)"
    r"|(?P<killed>Exited[;.]|Completed\s*<exit>)"
)
"""`Exited;` alone is a job killed before it ran; `Completed <exit>` repeats an end that was told better."""
_TERM = re.compile(r"TERM_[A-Z_]+[^.;\n]*")
_FIRST_SIGNAL = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """What a history tells of an end."""

    word: str
    exit_status: int | None = None
    signal: int | None = None


def question(job: JobKey, commands: Commands) -> Command:
    """Return the command that tells the history of a job with an id."""
    return commands.make(Tool.BHIST, ("-l", str(job.id)), asked=(job,))


def parse(job: JobKey, output: CommandOutput) -> JobStatus | None:
    """Return how the job ended; None where it has not, or where the history knows no such job of this name."""
    if output.is_timed_out:
        return None
    record = _record_of(job, _WRAPPED.sub("", output.stdout))
    last_run = _last_run(record)
    told = _end(last_run)
    if told is None:
        return None
    reasons = _TERM.findall(last_run)
    reason = reasons[-1].strip() if reasons else ""
    hosts = _HOST.findall(record)
    ending = ending_of(told.word, has_run=bool(hosts), exit_status=told.exit_status, signal=told.signal, reason=reason)
    return JobStatus(
        id=str(job.id),
        name=job.name,
        state=JobState.ENDED,
        cause=ending.cause,
        exit_status=told.exit_status if told.signal is None else _FIRST_SIGNAL + told.signal,
        host=hosts[-1] if hosts else "",
        reason=reason or _words(told, has_run=bool(hosts)),
        is_requeued=ending.is_requeued,
    )


def _record_of(job: JobKey, text: str) -> str:
    """Return the last record of this job: of its id, and of its name where the record tells one."""
    bounds = [*(match.start() for match in _RECORD.finditer(text)), len(text)]
    records = [text[start:end] for start, end in pairwise(bounds)]
    return next((record for record in reversed(records) if _is_of(job, record)), "")


def _is_of(job: JobKey, record: str) -> bool:
    number, name = _RECORD.match(record), _NAME.search(record)
    if number is None or number["id"].replace(" ", "") != job.id:
        return False
    return name is None or name[1].partition("[")[0] == job.name.partition("[")[0]


def _last_run(record: str) -> str:
    """Return what follows the last sign of life: a job that was requeued ended before, and ends again."""
    return record[max((match.end() for match in _ALIVE.finditer(record)), default=0) :]


def _end(last_run: str) -> _Told | None:
    match = _EVENT.search(last_run)
    if match is None:
        return None
    if match["done"]:
        return _Told(word="DONE", exit_status=0)
    if match["forced"]:
        return _Told(word="ZOMBI")
    status, signal = match["status"], match["signal"]
    return _Told(word="EXIT", exit_status=int(status) if status else None, signal=int(signal) if signal else None)


def _words(told: _Told, *, has_run: bool) -> str:
    match told:
        case _Told(signal=int(signal)):
            return f"exited by signal {signal}"
        case _Told(word="ZOMBI"):
            return "forced to exit; its process may be alive"
        case _Told(exit_status=int(status)):
            return f"exit code {status}"
        case _:
            return "exited" if has_run else "killed before it ran"
