"""bjobs: one question for all jobs, in the richest form that the site's bjobs knows, and the states in its answer.

Source: IBM Spectrum LSF 10.1 command reference, bjobs. Four forms, each simpler than the one before:

    JSON        -json -o FIELDS             10.1.0.2 and later
    DELIMITED   -noheader -o FIELDS^        9.1.3 and later
    COLUMNS     -o "jobid stat exec_host job_name"
    WIDE        -w                          any, and the look-alikes

The exit status says nothing: it differs between versions and settings for the same answer. Both streams are read. A
question by ids is answered when each id is either listed or said not to be found; "No unfinished job found" is an
answer; silence and "LSF is down" are none.
"""

import enum
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from dfm.api.batch import Command, CommandOutput, JobKey, JobState, JobStatus, Listed, QueryFailed
from dfm.runner.lsf.commands import Commands, Tool
from dfm.runner.lsf.failures import NOT_FOUND, is_no_answer, words_of
from dfm.runner.lsf.states import ending_of, state_of, words_of_status

IDS_PER_COMMAND = 200
_FIELDS = ("jobid", "jobindex", "stat", "exec_host", "exit_code", "exit_reason", "pend_reason", "job_name")
_FEW_FIELDS = ("jobid", "stat", "exec_host", "job_name")
_JOB_ID = re.compile(r"[1-9][0-9]*(?:\[[1-9][0-9]*\])?\Z")
_NUMBER = re.compile(r"[1-9][0-9]*\Z")
_EXIT_CODE = re.compile(r"[0-9]{1,5}\Z")
_STATE_WORD = re.compile(r"[A-Z_]+\Z")
_NOT_FOUND = re.compile(r"Job (?:array )?<([^>]*)>(?::)? (?:is not found|No matching job found)")
_NOTHING = re.compile(r"No (?:\w+(?:/\w+)? )?(?:matching )?job found")
_REFUSED = re.compile(
    r"is not a valid field name"
    r"|[Uu]sage: *bjobs"
    r"|(?:[Ii]llegal|[Ii]nvalid|[Uu]nknown|[Uu]nrecognized|[Bb]ad) option"
    r"|format string"
    r"|option cannot be used|cannot be used with",
)
_WIDE_HEADER = re.compile(r"JOBID\s+USER\s+STAT\b")
_NO_HOST = re.compile(r"no suitable hosts for the job|resource requirements not satisfied")
_SLOTS = re.compile(r"^\d+\*")
_ELEMENT = re.compile(r"(?P<array>.*)\[(?P<index>[1-9][0-9]*)\]\Z")
"""Name of an element of an array; only where its index is not told apart is it taken from here."""
_WIDE_COLUMNS = 7
"""Before the time of submission, which is three words."""
_WIDE_TIME_WORDS = 3


class Form(enum.Enum):
    """How bjobs is asked, from the richest form down."""

    JSON = 1
    DELIMITED = 2
    COLUMNS = 3
    WIDE = 4

    def simpler(self) -> "Form | None":
        """Return the next form down; None below the last."""
        return None if self is Form.WIDE else Form(self.value + 1)


@dataclass(frozen=True, slots=True)
class Refused:
    """bjobs does not know this form of the question."""

    text: str


def is_id(text: str | None) -> bool:
    """Whether the text is the id of one job, `123` or `123[4]`; never 0, which is all jobs to bkill."""
    return text is not None and _JOB_ID.match(text) is not None


def questions(prefix: str, jobs: Sequence[JobKey], form: Form, commands: Commands) -> list[Command]:
    """Return the commands that tell the states of `jobs`: one by pattern, or one for each 200 ids.

    A job whose id is not known yet is asked for by its name where ids are asked.
    """
    if form is Form.JSON and commands.options.name_query == "pattern":
        return [commands.make(Tool.BJOBS, (*_words(form), "-J", f"{prefix}*"), asked=jobs)]
    known = [job for job in jobs if is_id(job.id)]
    chunks = [known[start : start + IDS_PER_COMMAND] for start in range(0, len(known), IDS_PER_COMMAND)]
    by_id = [
        commands.make(Tool.BJOBS, (*_words(form), *dict.fromkeys(str(job.id) for job in chunk)), asked=chunk)
        for chunk in chunks
    ]
    return by_id + [question_by_name(job, form, commands) for job in jobs if not is_id(job.id)]


def question_by_name(job: JobKey, form: Form, commands: Commands) -> Command:
    """Return the command that tells whether there is a job of this name."""
    return commands.make(Tool.BJOBS, (*_words(form), "-J", job.name), asked=(job,))


def parse(command: Command, output: CommandOutput, form: Form) -> Listed | QueryFailed | Refused:
    """Return what the answer means, whatever its exit status."""
    said = words_of(output)
    if output.is_timed_out:
        return QueryFailed(text=f"bjobs gave no answer in {command.timeout_seconds:g} s")
    rows = _rows(output.stdout, form)
    if rows is None or (not rows and not _is_empty_answer(output)):
        return _no_rows(output, said, form)
    statuses = [status for row in rows if (status := _status(row)) is not None]
    if is_no_answer(said) and form is not Form.JSON and not _accounts_for_all(command, statuses, output):
        return QueryFailed(text=said)
    if _is_cut(output.stdout, form):
        return QueryFailed(text="bjobs was cut off in the middle of a line")
    return _listed(command, statuses)


def _words(form: Form) -> tuple[str, ...]:
    match form:
        case Form.JSON:
            return ("-a", "-json", "-o", " ".join(_FIELDS))
        case Form.DELIMITED:
            return ("-a", "-noheader", "-o", f"{' '.join(_FIELDS)} delimiter='^'")
        case Form.COLUMNS:
            return ("-a", "-o", " ".join(_FEW_FIELDS))
        case Form.WIDE:
            return ("-a", "-w")


def _no_rows(output: CommandOutput, said: str, form: Form) -> QueryFailed | Refused:
    if is_no_answer(said):
        return QueryFailed(text=said)
    if output.status == NOT_FOUND:
        return QueryFailed(text=f"bjobs cannot be started{said and ': '}{said}; set runner.lsf.bjobs_cmd")
    is_table = form in (Form.JSON, Form.DELIMITED) and _WIDE_HEADER.search(output.stdout) is not None
    if is_table or _REFUSED.search(said):
        return Refused(text=said)
    if said:
        return QueryFailed(text=f"the answer of bjobs cannot be read: {said}")
    return QueryFailed(text=f"bjobs gave an empty answer (exit status {output.status})")


def _rows(stdout: str, form: Form) -> list[Mapping[str, str]] | None:
    """Return the rows of the answer, None where it has not this form at all."""
    match form:
        case Form.JSON:
            return _json_rows(stdout)
        case Form.DELIMITED:
            return _delimited_rows(stdout)
        case Form.COLUMNS:
            return list(_column_rows(stdout))
        case Form.WIDE:
            return list(_wide_rows(stdout))


def _json_rows(stdout: str) -> list[Mapping[str, str]] | None:
    """Read from the first brace to the last: other words may stand before and after."""
    start, end = stdout.find("{"), stdout.rfind("}")
    if start < 0:
        return [] if not _WIDE_HEADER.search(stdout) else None
    try:
        document = json.loads(stdout[start : end + 1], strict=False)
    except (ValueError, RecursionError):
        return None
    records = document.get("RECORDS") if isinstance(document, dict) else None
    if not isinstance(records, list):
        return None
    return [
        {key.lower(): str(value) for key, value in record.items() if value is not None}
        for record in records
        if isinstance(record, dict)
    ]


def _delimited_rows(stdout: str) -> list[Mapping[str, str]] | None:
    """Read lines of fields; the reason, which is last but one, may itself hold the delimiter."""
    rows: list[Mapping[str, str]] = []
    for line in stdout.splitlines():
        cells = line.split("^", len(_FIELDS) - 2)
        if len(cells) == len(_FIELDS) - 1 and "^" in cells[-1] and _NUMBER.match(cells[0].strip()):
            rows.append(dict(zip(_FIELDS, (*cells[:-1], *cells[-1].rsplit("^", 1)), strict=True)))
    return None if not rows and _WIDE_HEADER.search(stdout) else rows


def _column_rows(stdout: str) -> Iterator[Mapping[str, str]]:
    """Yield rows of `jobid stat exec_host job_name`; the host of a job that has none may be missing altogether."""
    for line in stdout.splitlines():
        cells = line.split()
        if len(cells) not in (len(_FEW_FIELDS) - 1, len(_FEW_FIELDS)) or not _is_row(cells[0], cells[1]):
            continue
        host = cells[2] if len(cells) == len(_FEW_FIELDS) else ""
        yield {"jobid": cells[0], "stat": cells[1], "exec_host": host, "job_name": cells[-1]}


def _wide_rows(stdout: str) -> Iterator[Mapping[str, str]]:
    """Yield rows of `JOBID USER STAT QUEUE FROM_HOST EXEC_HOST JOB_NAME SUBMIT_TIME`; the last is three words."""
    for line in stdout.splitlines():
        cells = line.split()
        if len(cells) < _WIDE_COLUMNS - 1 + _WIDE_TIME_WORDS or not _is_row(cells[0], cells[2]):
            continue
        before_time = cells[:-_WIDE_TIME_WORDS]
        host = before_time[5] if len(before_time) >= _WIDE_COLUMNS else ""
        yield {"jobid": cells[0], "stat": cells[2], "exec_host": host, "job_name": before_time[-1]}


def _is_row(job_id: str, state: str) -> bool:
    return _NUMBER.match(job_id) is not None and _STATE_WORD.match(state) is not None


def _is_cut(stdout: str, form: Form) -> bool:
    return form is not Form.JSON and stdout != "" and not stdout.endswith("\n")


def _is_empty_answer(output: CommandOutput) -> bool:
    """Whether LSF says in so many words that there is no such job, or lists none in a whole document."""
    if _json_rows(output.stdout) == [] and "{" in output.stdout:
        return True
    return any(
        pattern.search(stream) for pattern in (_NOT_FOUND, _NOTHING) for stream in (output.stderr, output.stdout)
    )


def _accounts_for_all(command: Command, statuses: Sequence[JobStatus], output: CommandOutput) -> bool:
    told = {status.id for status in statuses}
    told.update(match[1] for match in _NOT_FOUND.finditer(f"{output.stderr}\n{output.stdout}"))
    return all(job.id in told for job in command.asked)


def _status(row: Mapping[str, str]) -> JobStatus | None:
    number, word = _cell(row, "jobid"), _cell(row, "stat")
    if "error" in row or not _NUMBER.match(number) or not word:
        return None
    name, index = _element(_cell(row, "job_name"), _cell(row, "jobindex"))
    host = _host(_cell(row, "exec_host"))
    state, warning = state_of(word)
    exit_status, ending = None, None
    if state is JobState.ENDED:
        exit_status = _exit_status(_cell(row, "exit_code"))
        ending = ending_of(word, has_run=host != "", exit_status=exit_status, reason=_cell(row, "exit_reason"))
    return JobStatus(
        id=f"{number}[{index}]" if index else number,
        name=f"{name}[{index}]" if name and index else name,
        state=state,
        cause=ending.cause if ending else None,
        exit_status=exit_status,
        host=host,
        reason=_cell(row, "exit_reason" if ending else "pend_reason")
        or (words_of_status(exit_status) if ending else ""),
        is_requeued=ending.is_requeued if ending else False,
        has_no_host=state is JobState.PENDING and _is_no_host(_cell(row, "pend_reason")),
        warning=warning,
    )


def _element(name: str, index: str) -> tuple[str, str]:
    """Return the name without its index, and the index, empty for a job that is of no array."""
    element = _ELEMENT.match(name)
    told = index if _NUMBER.match(index) else ""
    return (element["array"], told or element["index"]) if element else (name, told)


def _cell(row: Mapping[str, str], name: str) -> str:
    """Return a field, empty where it is absent: LSF writes `-` or nothing."""
    text = row.get(name, "").strip()
    return "" if text == "-" else text


def _is_no_host(reasons: str) -> bool:
    """Return whether no host fits: this is so for every reason that is told, and not one host is merely full."""
    told = [reason for reason in reasons.split(";") if reason.strip()]
    return bool(told) and all(_NO_HOST.search(reason) for reason in told)


def _exit_status(text: str) -> int | None:
    return int(text) if _EXIT_CODE.match(text) else None


def _host(text: str) -> str:
    """Return the first host of `4*hostA:2*hostB`."""
    return _SLOTS.sub("", text.split(":", maxsplit=1)[0])


def _listed(command: Command, statuses: Sequence[JobStatus]) -> Listed:
    """Hold the rows against what was asked: an id that bears another job's name was used again and is not ours."""
    by_id = {job.id: job for job in command.asked if job.id is not None}
    ours = [status for status in statuses if not _is_other(by_id.get(status.id), status)]
    if len(command.asked) == 1 and command.asked[0].id is None:
        ours = [_named(status, command.asked[0]) for status in ours]
    ids = {status.id for status in ours}
    names = {name for status in ours for name in (status.name, status.name.partition("[")[0])}
    missing = tuple(
        job for job in command.asked if (job.id not in ids if job.id is not None else job.name not in names)
    )
    return Listed(jobs=tuple(ours), missing=missing)


def _is_other(job: JobKey | None, status: JobStatus) -> bool:
    return job is not None and _is_whole(status.name) and status.name != job.name


def _is_whole(name: str) -> bool:
    """Whether a name is told in full: the short tables cut it and put `*` in front."""
    return name != "" and not name.startswith("*")


def _named(status: JobStatus, job: JobKey) -> JobStatus:
    if _is_whole(status.name):
        return status
    element = _ELEMENT.match(status.name)
    return replace(status, name=f"{job.name}[{element['index']}]" if element else job.name)
