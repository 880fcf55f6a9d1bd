"""bsub: from a command line and its environment to a checked submission, or a refusal in LSF's words."""

import os
import re
import shlex
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from dfm.testing.fake_lsf import options, resreq, texts
from dfm.testing.fake_lsf.config import Params, Queue
from dfm.testing.fake_lsf.jobs import PENDING, Submission
from dfm.testing.fake_lsf.options import Parsed
from dfm.testing.fake_lsf.scheduler import dependencies
from dfm.testing.fake_lsf.state import Cluster

LONGEST_COMMAND = 4094
LONGEST_NAME = {"ibm9": 511, "volclava": 511}
NOT_COPIED = {"HOME", "LS_JOBPID", "LSB_HOSTS", "LSB_MCPU_HOSTS", "LSB_JOBFILENAME", "LSB_JOBID", "LSB_JOBINDEX",
              "LSB_BATCH_JID", "LSB_RESTART", "LSB_NTRIES"}  # fmt: skip
SIGNAL_NAMES = frozenset(each.name for each in signal.Signals)
_ARRAY = re.compile(r"(?P<name>[^\[\]]*)\[(?P<indexes>[\d,:\s-]+)\](?:%(?P<limit>\d+))?")
_INDEXES = re.compile(r"(\d+)(?:-(\d+)(?::(\d+))?)?")
_LIMIT = re.compile(r"(?P<amount>\d+)(?P<suffix>[KMGTkmgt][Bb]?)?(?P<enforce>!)?")
_RUN_LIMIT = re.compile(r"(?:(?P<hours>\d+):)?(?P<minutes>\d+)(?:/\S+)?")
_BEGIN = re.compile(r"(?:(?:(?P<month>\d+):)?(?P<day>\d+):)?(?P<hour>\d+):(?P<minute>\d+)")


class RefusedError(Exception):
    """bsub refuses the job: the reason, and what an esub said before it."""

    def __init__(self, reason: str, before: str = "") -> None:
        super().__init__(reason)
        self.before = before

    @property
    def text(self) -> str:
        """What bsub writes to stderr."""
        lines = [self.before] if self.before else []
        return "\n".join([*lines, texts.NOT_SUBMITTED.format(reason=self.args[0])])


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A call of a command, as its thin client sent it."""

    command: str
    words: Sequence[str]
    environ: Mapping[str, str]
    cwd: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A job that was taken in.

    Attributes:
        stdout: the Job line.
        stderr: a note, such as of `-b`; empty for none.
        waits: -K or -I, empty for neither.
    """

    id: int
    stdout: str
    stderr: str
    waits: str


def needs_stdin(parsed: Parsed) -> bool:
    """Whether the job is on bsub's standard input."""
    return not parsed.words and "-pack" not in parsed.values


def submit(cluster: Cluster, request: Request, parsed: Parsed, script: str, user: str) -> Accepted:
    """Check the submission and take the job in.

    Raises:
        RefusedError: LSF would refuse it.
        options.UsageError: an embedded `#BSUB` line has an unknown option.
    """
    parsed = _with_embedded(cluster, request, parsed, script)
    params = cluster.config.params
    _ask_esub(params, parsed)
    queue, queue_was_asked_for = _queue(cluster, request, parsed, user)
    name, indexes, array_limit = _name(cluster, parsed)
    command = " ".join(parsed.words) if parsed.words else script
    if not command.strip():
        raise RefusedError(texts.EMPTY_COMMAND)
    if parsed.words and len(command) > LONGEST_COMMAND:
        raise RefusedError(texts.BAD_ARGUMENT.format(value=command[:20], option="command"))
    submission = Submission(
        script=command,
        command=_shown(command),
        first_word=parsed.words[0] if parsed.words else None,
        environ=_environ(request, parsed),
        cwd=os.path.join(request.cwd, parsed.last("-cwd") or ""),
        from_host=params.submit_host,
        user=user,
        queue=queue.name,
        project=parsed.last("-P") or request.environ.get("LSB_DEFAULTPROJECT") or params.default_project,
        name=name or _shown(command),
    )
    submission.cwd = submission.cwd.rstrip("/") or "/"
    submission.array_limit = array_limit
    _take_resources(cluster, parsed, queue, submission)
    _take_limits(cluster, parsed, queue, submission)
    _take_output(request, params, parsed, submission)
    _take_rest(cluster, parsed, queue, submission)
    identity = cluster.add(submission, indexes)
    line = texts.SUBMITTED if queue_was_asked_for else texts.SUBMITTED_DEFAULT
    begin = datetime.fromtimestamp(submission.not_before).astimezone() if submission.not_before else None
    return Accepted(
        id=identity,
        stdout=line.format(id=identity, queue=queue.name),
        stderr=texts.SCHEDULED_AFTER.format(ctime=begin.strftime("%a %b %e %H:%M:%S %Y")) if begin else "",
        waits=next((flag for flag in ("-K", "-I", "-Ip", "-Is") if flag in parsed.flags), ""),
    )


def pending_count(cluster: Cluster) -> int:
    """Return how many jobs count against MAX_PEND_JOBS."""
    return sum(job.state in PENDING for job in cluster.live())


def _with_embedded(cluster: Cluster, request: Request, parsed: Parsed, script: str) -> Parsed:
    """Add the options of `#BSUB` lines; what the command line says wins, but `-R` strings add up."""
    text = script
    asked = request.environ.get("LSB_BSUB_PARSE_SCRIPT", "")
    parses_scripts = cluster.config.params.lsb_bsub_parse_script or asked.lower() in {"y", "yes"}
    if parsed.words and parses_scripts:
        text = _read_script(os.path.join(request.cwd, parsed.words[0]))
    embedded: list[str] = []
    for line in text.splitlines():
        if line.startswith("#BSUB"):
            embedded += shlex.split(line.removeprefix("#BSUB"), comments=True)
    if not embedded:
        return parsed
    below = options.parse("bsub", embedded, cluster.config.dialect)
    both = Parsed(parsed.flags | below.flags, {**below.values, **parsed.values}, parsed.words)
    if "-R" in below.values and "-R" in parsed.values:
        both.values["-R"] = below.values["-R"] + parsed.values["-R"]
    return both


def _read_script(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:
        return ""


def _ask_esub(params: Params, parsed: Parsed) -> None:
    if params.esub_rejects:
        raise RefusedError(texts.REQUEST_ABORTED_BY_ESUB, params.esub_rejects)
    if params.require_project and parsed.last("-P") is None:
        raise RefusedError(texts.REQUEST_ABORTED_BY_ESUB, texts.PROJECT_REQUIRED)


def _queue(cluster: Cluster, request: Request, parsed: Parsed, user: str) -> tuple[Queue, bool]:
    asked = parsed.last("-q") or request.environ.get("LSB_DEFAULTQUEUE", "")
    names = asked.split() or [cluster.config.params.default_queue]
    refusal = ""
    for name in names:
        queue = cluster.queues.get(name)
        if queue is None:
            raise RefusedError(texts.NO_SUCH_QUEUE.format(queue=name))
        if queue.users and user not in queue.users and "all" not in queue.users:
            refusal = texts.USER_CANNOT_USE_QUEUE.format(queue=name)
        elif name in cluster.system.closed_queues:
            refusal = texts.QUEUE_IS_CLOSED.format(queue=name)
        else:
            return queue, bool(asked)
    raise RefusedError(refusal)


def _name(cluster: Cluster, parsed: Parsed) -> tuple[str, list[int], int]:
    """Return the name, the indexes of an array or [0], and how many elements may run at a time or 0."""
    given = parsed.last("-J")
    if given is None:
        return "", [0], 0
    if len(given) > LONGEST_NAME.get(cluster.config.dialect, 4094):
        raise RefusedError(texts.BAD_JOB_NAME.format(value=given[:40]))
    if "[" not in given and "]" not in given:
        return given, [0], 0
    match = _ARRAY.fullmatch(given)
    if match is None:
        raise RefusedError(texts.BAD_JOB_NAME.format(value=given))
    indexes: set[int] = set()
    for part in match["indexes"].split(","):
        span = _INDEXES.fullmatch(part.strip())
        if span is None:
            raise RefusedError(texts.BAD_JOB_NAME.format(value=given))
        first, last = int(span[1]), int(span[2] or span[1])
        if first < 1 or last < first:
            raise RefusedError(texts.BAD_JOB_NAME.format(value=given))
        if last > cluster.config.params.max_job_array_size:
            raise RefusedError(texts.ARRAY_TOO_LARGE)
        indexes |= set(range(first, last + 1, int(span[3] or 1)))
    return match["name"], sorted(indexes), int(match["limit"] or 0)


def _shown(command: str) -> str:
    lines = [line for line in command.splitlines() if line.strip()]
    return ";".join(lines)


def _environ(request: Request, parsed: Parsed) -> dict[str, str]:
    """Return what of the submitter's environment the job gets (`-env`)."""
    whole = {name: value for name, value in request.environ.items() if name not in NOT_COPIED}
    wanted = parsed.last("-env")
    if wanted is None:
        return whole
    chosen: dict[str, str] = {}
    for part in (each.strip() for each in wanted.split(",")):
        if part == "all":
            chosen.update(whole)
        elif part == "none":
            chosen.clear()
        elif part.startswith("~"):
            chosen.pop(part[1:], None)
        elif "=" in part:
            name, _, value = part.partition("=")
            chosen[name] = value
        elif part in whole:
            chosen[part] = whole[part]
    return {"PATH": os.defpath, **chosen}


def _take_resources(cluster: Cluster, parsed: Parsed, queue: Queue, submission: Submission) -> None:
    config = cluster.config
    _take_slots(cluster, parsed, queue, submission)
    try:
        wanted = resreq.parse(parsed.values.get("-R", []), allows_suffix=config.dialect.startswith("ibm10"))
    except resreq.ResreqError as fault:
        raise RefusedError(texts.BAD_RESREQ if config.is_volclava else str(fault)) from fault
    known = {"mem", "swp", "tmp", *config.licences, *(name for host in config.hosts for name in host.resources)}
    factor = resreq.MEGABYTES[(config.params.lsf_unit_for_limits or "MB")[0]]
    for usage in wanted.usages:
        if usage.name not in known:
            raise RefusedError(texts.BAD_RESREQ)
        scale = factor if usage.name == "mem" and not usage.megabytes_given else 1.0
        per = usage.per or ("task" if config.params.resource_reserve_per_task else "host")
        submission.usages.append((usage.name, usage.amount * scale, per, usage.duration_minutes))
    submission.selects = wanted.selects
    submission.single_host = wanted.single_host
    submission.tasks_per_host = wanted.tasks_per_host


def _take_slots(cluster: Cluster, parsed: Parsed, queue: Queue, submission: Submission) -> None:
    given = parsed.last("-n")
    if given is None:
        return
    match = re.fullmatch(r"(\d+)(?:,(\d+))?", given)
    if match is None or int(match[1]) < 1 or int(match[2] or match[1]) < int(match[1]):
        raise RefusedError(texts.BAD_PROCESSORS.format(value=given))
    submission.slots, submission.most_slots = int(match[1]), int(match[2] or match[1])
    most = min(queue.task_limit or 10**9, sum(host.slots for host in cluster.config.hosts))
    if submission.slots > most:
        raise RefusedError(texts.TOO_MANY_PROCESSORS)


def _take_limits(cluster: Cluster, parsed: Parsed, queue: Queue, submission: Submission) -> None:
    submission.run_limit_seconds = _minutes(parsed.last("-W"), "RUNLIMIT")
    if queue.run_limit_minutes is not None:
        most = queue.run_limit_minutes * 60.0
        if submission.run_limit_seconds is not None and submission.run_limit_seconds > most:
            raise RefusedError(texts.EXCEEDS_QUEUE_LIMIT.format(limit="RUNLIMIT"))
        submission.run_limit_seconds = submission.run_limit_seconds or most
    submission.cpu_limit_seconds = _minutes(parsed.last("-c"), "CPULIMIT")
    _minutes(parsed.last("-We"), "RUNLIMIT")
    submission.memory_limit_mb = _memory(cluster, parsed.last("-M"))
    if queue.memory_limit_mb is not None:
        if submission.memory_limit_mb is not None and submission.memory_limit_mb > queue.memory_limit_mb:
            raise RefusedError(texts.EXCEEDS_QUEUE_LIMIT.format(limit="MEMLIMIT"))
        submission.memory_limit_mb = submission.memory_limit_mb or queue.memory_limit_mb
    action, before = parsed.last("-wa"), _minutes(parsed.last("-wt"), "WARNING")
    if action is not None and before is not None:
        name = f"SIG{action.removeprefix('SIG')}"
        if name not in SIGNAL_NAMES:
            raise RefusedError(texts.BAD_ARGUMENT.format(value=action, option="wa"))
        submission.warning_signal, submission.warning_seconds = name, before


def _minutes(text: str | None, limit: str) -> float | None:
    if text is None:
        return None
    match = _RUN_LIMIT.fullmatch(text)
    if match is None or (int(match["hours"] or 0), int(match["minutes"])) == (0, 0):
        raise RefusedError(texts.BAD_LIMIT.format(value=text, limit=limit))
    return 60.0 * (60 * int(match["hours"] or 0) + int(match["minutes"]))


def _memory(cluster: Cluster, text: str | None) -> float | None:
    if text is None:
        return None
    match = _LIMIT.fullmatch(text)
    suffix_allowed = cluster.config.dialect.startswith("ibm10")
    if match is None or (match["suffix"] and not suffix_allowed) or int(match["amount"]) == 0:
        raise RefusedError(texts.BAD_LIMIT.format(value=text, limit="MEMLIMIT"))
    unit = (match["suffix"] or cluster.config.params.lsf_unit_for_limits or "KB")[0].upper()
    return int(match["amount"]) * resreq.MEGABYTES[unit]


def _take_output(request: Request, params: Params, parsed: Parsed, submission: Submission) -> None:
    submission.output = parsed.last("-oo") or parsed.last("-o") or ""
    submission.error = parsed.last("-eo") or parsed.last("-e") or ""
    submission.overwrites_output = "-oo" in parsed.values
    submission.overwrites_error = "-eo" in parsed.values
    submission.input = parsed.last("-i") or parsed.last("-is") or ""
    submission.writes_directly = params.lsb_stdout_direct or _is_yes(request.environ, "LSB_STDOUT_DIRECT")
    submission.exits_without_cwd = params.lsb_exit_if_cwd_notexist or _is_yes(
        request.environ, "LSB_EXIT_IF_CWD_NOTEXIST"
    )


def _is_yes(environ: Mapping[str, str], name: str) -> bool:
    return environ.get(name, "").lower() in {"y", "yes"}


def _take_rest(cluster: Cluster, parsed: Parsed, queue: Queue, submission: Submission) -> None:
    submission.group = parsed.last("-G") or ""
    submission.application = parsed.last("-app") or ""
    submission.service_class = parsed.last("-sla") or ""
    if submission.service_class and submission.service_class not in cluster.config.params.service_classes:
        raise RefusedError(texts.NO_SERVICE_CLASS)
    submission.wanted_hosts = (parsed.last("-m") or "").split()
    for host in submission.wanted_hosts:
        if host not in cluster.hosts:
            raise RefusedError(texts.NO_SUCH_HOST.format(host=host))
    submission.is_exclusive = "-x" in parsed.flags
    submission.is_rerunnable = "-r" in parsed.flags or (queue.rerunnable and "-rn" not in parsed.flags)
    submission.suspend_at_once = "-H" in parsed.flags
    submission.user_priority = _whole_number(parsed.last("-sp"), "sp")
    submission.depends = parsed.last("-w") or ""
    if submission.depends and dependencies(submission.depends) is None:
        raise RefusedError(texts.BAD_DEPENDENCY)
    submission.not_before = _begin(parsed.last("-b"))


def _whole_number(text: str | None, option: str) -> int:
    if text is None:
        return 0
    if not text.isdigit():
        raise RefusedError(texts.BAD_ARGUMENT.format(value=text, option=option))
    return int(text)


def _begin(text: str | None) -> float:
    if text is None:
        return 0
    match = _BEGIN.fullmatch(text)
    today = datetime.now().astimezone()
    if match is None:
        raise RefusedError(texts.BAD_ARGUMENT.format(value=text, option="b"))
    try:
        begin = today.replace(hour=int(match["hour"]), minute=int(match["minute"]), second=0, microsecond=0)
        if match["day"]:
            begin = begin.replace(day=int(match["day"]), month=int(match["month"] or today.month))
    except ValueError as fault:
        raise RefusedError(texts.BAD_ARGUMENT.format(value=text, option="b")) from fault
    return (begin if begin > today or match["day"] else begin + timedelta(days=1)).timestamp()
