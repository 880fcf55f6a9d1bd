"""bjobs: which jobs it shows, in which of its five forms, and with which status."""

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from dfm.testing.fake_lsf import control, options, texts
from dfm.testing.fake_lsf.jobs import ENDED, PENDING, STARTED, SUSPENDED, Job, State
from dfm.testing.fake_lsf.options import Parsed
from dfm.testing.fake_lsf.state import Cluster
from dfm.testing.fake_lsf.submit import Request
from dfm.testing.fake_lsf.supervise import now

_FIELD = re.compile(r"(?P<name>[A-Za-z_]+)(?::(?P<width>-?\d*))?")
_DELIMITER = re.compile(r"delimiter\s*=\s*(['\"])(?P<text>.*?)\1")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command writes, and its status."""

    stdout: str = ""
    stderr: str = ""
    status: int = 0


def lines(*texts_: str) -> str:
    """Join lines to a stream; no lines are an empty stream."""
    return "".join(f"{text}\n" for text in texts_)


def bjobs(cluster: Cluster, request: Request, parsed: Parsed) -> Answer:
    """Answer a query.

    Raises:
        options.UsageError: options that do not go together.
    """
    found, missing = _select(cluster, parsed)
    form = parsed.last("-o")
    if form is None and not {"-l", "-w", "-json"} & parsed.flags and not cluster.config.is_volclava:
        form = request.environ.get("LSB_BJOBS_FORMAT") or None
    if "-json" in parsed.flags and (form is None or "-noheader" in parsed.flags):
        raise options.UsageError(options.usage("bjobs", texts.JSON_NEEDS_FORMAT))
    status = _status(cluster, parsed, found, missing)
    if form is not None:
        return _formatted(cluster, parsed, form, found, missing, status)
    stdout = "\n".join(_long(cluster, job) for job in found) if "-l" in parsed.flags else _table(parsed, found)
    return Answer(stdout, lines(*_missing_lines(parsed, found, missing)), status)


def _select(cluster: Cluster, parsed: Parsed) -> tuple[list[Job], list[str]]:
    at = now()
    wanted = [word for word in parsed.words if word != "0"]
    found: list[Job] = []
    missing: list[str] = []
    for word in wanted:
        named = [job for job in cluster.with_label(word) if _is_visible(job, at)]
        found += named
        missing += [] if named else [word]
    if not wanted:
        found = [job for job in cluster.jobs.values() if _is_visible(job, at) and _is_of_kind(job, parsed)]
    if (pattern := parsed.last("-J")) is not None:
        matching = {job.serial for job in cluster.named(pattern)}
        found = [job for job in found if job.serial in matching]
        missing += [] if found else [pattern]
    return [job for job in found if _passes(job, parsed)], missing


def _is_visible(job: Job, at: float) -> bool:
    return not job.is_hidden and not job.is_cleaned and job.visible_from <= at


def _is_of_kind(job: Job, parsed: Parsed) -> bool:
    if "-a" in parsed.flags:
        return True
    asked = {"-d": ENDED, "-p": PENDING, "-s": SUSPENDED, "-r": frozenset({State.RUN})}
    kinds = [states for flag, states in asked.items() if flag in parsed.flags]
    return any(job.state in states for states in kinds) if kinds else job.is_live


def _passes(job: Job, parsed: Parsed) -> bool:
    submission = job.submission
    user = parsed.last("-u")
    checks: Mapping[str, Callable[[str], bool]] = {
        "-q": lambda queue: submission.queue in queue.split(),
        "-m": lambda host: host in job.hosts,
        "-P": lambda project: submission.project == project,
        "-G": lambda group: submission.group == group,
        "-app": lambda application: submission.application == application,
        "-sla": lambda service_class: submission.service_class == service_class,
    }
    if user is not None and user not in {"all", submission.user}:
        return False
    return all(check(value) for option, check in checks.items() if (value := parsed.last(option)) is not None)


def _missing_lines(parsed: Parsed, found: Sequence[Job], missing: Sequence[str]) -> list[str]:
    told = [
        (texts.ARRAY_NOT_FOUND if "[" in each and not each[:1].isdigit() else texts.NOT_FOUND).format(job=each)
        for each in missing
    ]
    if told or found:
        return told
    for flag, text in (
        ("-a", texts.NO_JOB),
        ("-r", texts.NO_RUNNING),
        ("-p", texts.NO_PENDING),
        ("-s", texts.NO_SUSPENDED),
        ("-d", texts.NO_FINISHED),
    ):
        if flag in parsed.flags:
            return [text]
    return [texts.NO_UNFINISHED]


def _status(cluster: Cluster, parsed: Parsed, found: Sequence[Job], missing: Sequence[str]) -> int:
    none_of_one, some_missing, nothing_live = texts.BJOBS_STATUS[cluster.config.dialect]
    if not missing:
        return 0 if found else nothing_live
    if found or len(missing) > 1 or len(parsed.words) > 1:
        return some_missing
    return max(none_of_one, cluster.config.params.bjobs_not_found_status)


# The default table and -w.


def _table(parsed: Parsed, found: Sequence[Job]) -> str:
    if not found:
        return ""
    told = [] if "-noheader" in parsed.flags else [texts.BJOBS_HEADER]
    for job in found:
        told += _wide_row(job) if "-w" in parsed.flags else _narrow_rows(job)
        if "-p" in parsed.flags and job.state in PENDING:
            told.append(f" {texts.PEND_REASONS[job.pend_reason]};")
        if "-s" in parsed.flags and job.state in SUSPENDED - PENDING:
            told.append(f" {control.suspend_reason(job)};")
    return lines(*told)


def _cells(job: Job, exec_host: str) -> list[str]:
    submission = job.submission
    return [
        str(job.id), submission.user, str(job.state), submission.queue, submission.from_host, exec_host, job.name,
        _short_time(job.submitted_at),
    ]  # fmt: skip


def _wide_row(job: Job) -> list[str]:
    cells = _cells(job, _exec_host(job) or "-")
    return [" ".join(f"{cell:<{width}}" for cell, width in zip(cells, texts.BJOBS_WIDTHS, strict=True)).rstrip()]


def _narrow_rows(job: Job) -> list[str]:
    hosts = _exec_hosts(job) or [""]
    cells = _cells(job, hosts[0])
    cells[0] = cells[0][-texts.BJOBS_WIDTHS[0] :]
    cut = [cell[:width] for cell, width in zip(cells, texts.BJOBS_WIDTHS, strict=True)]
    if len(job.name) > texts.BJOBS_WIDTHS[6]:
        cut[6] = "*" + job.name[-(texts.BJOBS_WIDTHS[6] - 1) :]
    first = " ".join(f"{cell:<{width}}" for cell, width in zip(cut, texts.BJOBS_WIDTHS, strict=True))
    indent = " " * (sum(texts.BJOBS_WIDTHS[:5]) + 5)
    return [first.rstrip(), *(f"{indent}{host}" for host in hosts[1:])]


def _exec_hosts(job: Job) -> list[str]:
    counted = Counter(job.hosts)
    if sum(counted.values()) == 1:
        return list(counted)
    return [
        texts.EXEC_HOST_SEVERAL.format(count=count, host=host) if count > 1 else host for host, count in counted.items()
    ]


def _exec_host(job: Job) -> str:
    return ":".join(_exec_hosts(job))


def _short_time(when: float) -> str:
    return datetime.fromtimestamp(when).astimezone().strftime(texts.TIME_SHORT) if when else ""


# -o and -json.


def _run_seconds(cluster: Cluster, job: Job) -> float:
    if not job.started_at:
        return 0
    return ((job.finished_at or now()) - job.started_at - job.suspended_seconds) * cluster.config.speed


def _time_left(cluster: Cluster, job: Job) -> str:
    limit = job.submission.run_limit_seconds
    if limit is None or job.state not in STARTED:
        return ""
    left = max(0.0, limit - _run_seconds(cluster, job))
    return texts.TIME_LEFT.format(hours=left // 3600, minutes=left % 3600 // 60)


def exit_code(job: Job) -> str:
    """Return EXIT_CODE: empty unless the job ended in EXIT with a process."""
    if job.exit_signal is not None:
        return str(128 + job.exit_signal)
    return str(job.exit_code) if job.exit_code else ""


def exit_reason(job: Job) -> str:
    """Return the TERM_ keyword with its words, empty if there is none."""
    return f"{job.reason}: {texts.TERM_REASONS[job.reason][1]}" if job.reason and job.state is State.EXIT else ""


def _pend_reason(job: Job) -> str:
    return f"{texts.PEND_REASONS[job.pend_reason]};" if job.state in PENDING else ""


_Field = Callable[[Cluster, Job], str]
FIELDS: dict[str, tuple[int, _Field]] = {
    "jobid": (7, lambda _, job: str(job.id)),
    "jobindex": (8, lambda _, job: str(job.index)),
    "stat": (5, lambda _, job: str(job.state)),
    "user": (7, lambda _, job: job.submission.user),
    "queue": (10, lambda _, job: job.submission.queue),
    "job_name": (10, lambda _, job: job.name),
    "proj_name": (11, lambda _, job: job.submission.project),
    "application": (13, lambda _, job: job.submission.application),
    "service_class": (13, lambda _, job: job.submission.service_class),
    "from_host": (11, lambda _, job: job.submission.from_host),
    "exec_host": (11, lambda _, job: _exec_host(job)),
    "first_host": (11, lambda _, job: job.hosts[0] if job.hosts else ""),
    "nexec_host": (10, lambda _, job: str(len(set(job.hosts)) or "")),
    "slots": (5, lambda _, job: str(len(job.hosts) or "")),
    "exit_code": (10, lambda _, job: exit_code(job)),
    "exit_reason": (50, lambda _, job: exit_reason(job)),
    "kill_reason": (50, lambda _, job: exit_reason(job)),
    "suspend_reason": (50, lambda _, job: control.suspend_reason(job) if job.state in SUSPENDED - PENDING else ""),
    "pend_reason": (50, lambda _, job: _pend_reason(job)),
    "submit_time": (15, lambda _, job: _short_time(job.submitted_at)),
    "start_time": (15, lambda _, job: _short_time(job.started_at)),
    "finish_time": (16, lambda _, job: f"{_short_time(job.finished_at)} L" if job.finished_at else ""),
    "run_time": (15, lambda cluster, job: texts.RUN_TIME.format(seconds=_run_seconds(cluster, job))),
    "time_left": (11, _time_left),
    "command": (15, lambda _, job: job.submission.command),
    "cpu_used": (10, lambda _, job: f"{job.cpu_seconds:.1f} second(s)"),
    "mem": (10, lambda _, job: f"{job.memory_mb:.0f} Mbytes" if job.memory_mb else ""),
    "swap": (10, lambda _, _job: ""),
    "pids": (20, lambda _, job: str(job.pid) if job.pid and job.is_live else ""),
    "output_file": (10, lambda _, job: job.submission.output),
    "error_file": (10, lambda _, job: job.submission.error),
    "sub_cwd": (10, lambda _, job: job.submission.cwd),
}
ALIASES = {"id": "jobid", "name": "job_name", "proj": "proj_name", "app": "application", "sla": "service_class",
           "cmd": "command", "ofile": "output_file", "efile": "error_file"}  # fmt: skip
VOLCLAVA_FIELDS = frozenset(
    ["jobid", "user", "stat", "queue", "from_host", "exec_host", "job_name", "submit_time", "proj_name", "cpu_used",
     "mem", "swap", "pids", "start_time", "finish_time"]
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Column:
    name: str
    width: int
    is_cut: bool
    is_right: bool
    value: _Field


class _BadFieldError(Exception):
    pass


def _columns(cluster: Cluster, form: str) -> tuple[list[_Column], str | None]:
    delimiter = None
    match = _DELIMITER.search(form)
    if match is not None and not cluster.config.is_volclava:
        delimiter = match["text"]
        form = form[: match.start()] + form[match.end() :]
    columns: list[_Column] = []
    for word in form.split():
        field = _FIELD.fullmatch(word)
        name = ALIASES.get(field["name"].lower(), field["name"].lower()) if field else ""
        known = VOLCLAVA_FIELDS if cluster.config.is_volclava else FIELDS
        if field is None or name not in known:
            raise _BadFieldError(word)
        width, value = FIELDS[name]
        given = field["width"] or ""
        asked = int(given.lstrip("-") or 0)
        columns.append(_Column(name, asked or width, bool(asked), given.startswith("-"), value))
    return columns, delimiter


def _formatted(
    cluster: Cluster, parsed: Parsed, form: str, found: Sequence[Job], missing: Sequence[str], status: int
) -> Answer:
    try:
        columns, delimiter = _columns(cluster, form)
    except _BadFieldError as fault:
        return Answer("", lines(texts.BAD_FIELD.format(field=fault.args[0])), texts.STATUS_BAD_FIELD)
    if "-json" in parsed.flags:
        return Answer(_as_json(cluster, columns, found, missing), "", 0 if found else status)
    rows = [] if "-noheader" in parsed.flags or not found else [[column.name.upper() for column in columns]]
    rows += [[column.value(cluster, job) or "-" for column in columns] for job in found]
    stdout = lines(*(_joined(columns, row, delimiter) for row in rows))
    return Answer(stdout, lines(*_missing_lines(parsed, found, missing)), status)


def _joined(columns: Sequence[_Column], row: Sequence[str], delimiter: str | None) -> str:
    if delimiter is not None:
        return delimiter.join(row)
    cells = []
    for column, cell in zip(columns, row, strict=True):
        cut = cell[: column.width] if column.is_cut else cell
        cells.append(f"{cut:>{column.width}}" if column.is_right else f"{cut:<{column.width}}")
    return " ".join(cells)


def _as_json(cluster: Cluster, columns: Sequence[_Column], found: Sequence[Job], missing: Sequence[str]) -> str:
    records: list[dict[str, str]] = [
        {column.name.upper(): column.value(cluster, job) for column in columns} for job in found
    ]
    records += [{"JOBID": each, "ERROR": texts.NOT_FOUND.format(job=each)} for each in missing]
    document = {"COMMAND": "bjobs", "JOBS": len(records), "RECORDS": records}
    return json.dumps(document, separators=(",", ":")) + "\n"


# -l, and what bhist -l has in common with it.


def _long(cluster: Cluster, job: Job) -> str:
    submission = job.submission
    head = introduction(job) + f", Status <{job.state}>, Queue <{submission.queue}>, Command <{submission.command}>"
    told = [wrapped(head), *(event_line(when, text) for when, text in job.history)]
    if job.state in PENDING:
        told += [" PENDING REASONS:", f" {texts.PEND_REASONS[job.pend_reason]};"]
    if job.state in SUSPENDED - PENDING:
        told += [" SUSPENDING REASONS:", f" {control.suspend_reason(job)};"]
    if left := _time_left(cluster, job):
        told.append(f" RUNLIMIT left: {left}")
    return lines("", *told)


def introduction(job: Job) -> str:
    """Return how long listings begin."""
    submission = job.submission
    return texts.JOB_INTRODUCTION.format(job=job.label, name=job.name, user=submission.user, project=submission.project)


def event_line(when: float, text: str) -> str:
    """Return a line of a job's history, wrapped as LSF does."""
    stamp = datetime.fromtimestamp(when).astimezone().strftime(texts.TIME_EVENT)
    return wrapped(f"{stamp}: {text}" + ("" if text.endswith(".") else ";"))


def wrapped(text: str) -> str:
    """Wrap at 80 columns, in the midst of words, with 21 blanks before what follows."""
    width, indent = texts.HISTORY_WIDTH, texts.HISTORY_INDENT
    room = width - len(indent)
    parts = [text[:width], *(text[at : at + room] for at in range(width, len(text), room))]
    return parts[0] + "".join(f"\n{indent}{part}" for part in parts[1:])
