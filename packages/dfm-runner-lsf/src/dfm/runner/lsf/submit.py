"""bsub: the words of a submission, and the job id in its answer.

Source: IBM Spectrum LSF 10.1 command reference, bsub. The answer is looked for line by line, for sites print lines of
their own before it, one of which may read "Job is submitted to <cpp> project."

bsub passes the first word of the command on as it is, and quotes the others halfway (a word with a blank gets double
quotes, whatever else it holds; `$`, `;` and `*` get none), so that a shell on the node reads them. A command of plain
words is passed word by word; any other is passed as one word that is quoted for the shell.
"""

import posixpath
import re
import shlex
from collections.abc import Iterator

from dfm.api.batch import Command, CommandOutput, JobKey, SubmitAnswer, Submitted, WorkerJob
from dfm.runner.lsf.commands import Commands, Tool
from dfm.runner.lsf.failures import failed_submit
from dfm.runner.lsf.grammar import (
    host_fault,
    job_name_fault,
    path_fault,
    plain_predicate,
    predicate_fault,
    queue_fault,
    refuse,
)
from dfm.runner.lsf.memory import limit, reservation
from dfm.runner.lsf.options import LsfOptions

WORKER_MODULE = "dfm.core.worker"
MAX_COMMAND = 4094
"""Longest command that bsub takes, in bytes."""
_SUBMITTED = re.compile(r"Job <([1-9][0-9]*)> is submitted to .*queue")
_PLAIN_WORD = re.compile(r"[A-Za-z0-9_./:=,@%+-]+\Z")
_SECONDS_PER_MINUTE = 60


def submission(job: WorkerJob, commands: Commands, count: int = 1) -> Command:
    """Return the bsub of a worker job, or of an array of `count` of them.

    Raises:
        RunnerError: LSF would misread a value of the job.
    """
    validate(job, commands.options)
    key = JobKey(name=job.name)
    given = flags(job, commands.options, count)
    match commands.options.submit_form:
        case "stdin":
            return commands.make(Tool.BSUB, given, stdin=_script(job, commands), asked=(key,))
        case "script":
            path = _script_path(job)
            words = (*given, *_as_shell_words((path,)))
            return commands.make(Tool.BSUB, words, files={path: _script(job, commands)}, asked=(key,))
        case _:
            words = (*given, *_as_shell_words(worker_argv(job, commands.options)))
            return commands.make(Tool.BSUB, words, asked=(key,))


def parse(output: CommandOutput, options: LsfOptions) -> SubmitAnswer:
    """Return the job that bsub names, whatever its exit status, or why there is none."""
    for stream in (output.stdout, output.stderr):
        ids = [match[1] for line in stream.splitlines() if (match := _SUBMITTED.search(line))]
        if ids:
            return Submitted(id=ids[-1], warning=_several(ids))
    return failed_submit(output, options)


def elements(answer: SubmitAnswer, count: int) -> list[SubmitAnswer]:
    """Return what the answer to the submission of an array means for each of its elements: `44` for `44[1]` and on."""
    if not isinstance(answer, Submitted):
        return [answer] * count
    ids = [f"{answer.id}[{index}]" for index in range(1, count + 1)]
    return [Submitted(id=job_id, warning=None if number else answer.warning) for number, job_id in enumerate(ids)]


def validate(job: WorkerJob, options: LsfOptions) -> None:
    """Refuse a job that LSF would misread.

    Raises:
        RunnerError: naming the value and what to write instead.
    """
    for fault, what, hint in _checks(job, options):
        refuse(fault, what=what, hint=hint)


def flags(job: WorkerJob, options: LsfOptions, count: int = 1) -> tuple[str, ...]:
    """Return the flags of bsub: those we always pass, those of the job, those of the site, in this order."""
    wanted: tuple[tuple[str, ...], ...] = (
        ("-J", job.name if count == 1 else f"{job.name}[1-{count}]"),
        ("-n", str(job.cores)),
        ("-rn",),
        ("-cwd", job.directory),
        _output_flag(job, options, "%J" if count == 1 else "%J.%I"),
        _limit_flag(job),
        *_queue_and_account(job, options),
        *_memory_limit(job, options),
        *(("-R", requirement) for requirement in requirements(job, options)),
    )
    chosen = [words for words in wanted if words and words[0] not in options.omit_flags]
    return (*(word for words in chosen for word in words), *options.bsub_extra)


def requirements(job: WorkerJob, options: LsfOptions) -> tuple[str, ...]:
    """Return the strings of `-R`: one of ours with each section once, then those of the site, in their order."""
    sections = [
        section
        for section in (_select_section(job, options), _rusage_section(job, options), _span_section(job, options))
        if section
    ]
    ours = (" ".join(sections),) if sections else ()
    return (*ours, *options.resource_requirements)


def worker_argv(job: WorkerJob, options: LsfOptions) -> tuple[str, ...]:
    """Return the worker's command as it is on the nodes.

    `worker_dfm_path` stands for the program of the command, or for `python -m module`; of modules, `dfm.core.worker` is
    `dfm worker`.
    """
    if options.worker_dfm_path is None:
        return job.argv
    length = _program_length(job.argv)
    sub_command = ["worker"] if job.argv[length - 1] == WORKER_MODULE else []
    return (options.worker_dfm_path, *sub_command, *job.argv[length:])


def _program_length(argv: tuple[str, ...]) -> int:
    position = 1
    while position < len(argv) and argv[position].startswith("-"):
        if argv[position] == "-m":
            return position + 2
        position += 1
    return 1


def _checks(job: WorkerJob, options: LsfOptions) -> Iterator[tuple[str | None, str, str]]:
    yield job_name_fault(job.name), "name of the worker job", "this is the name of a pool: letters, digits, '-', '_'"
    if job.queue is not None:
        yield queue_fault(job.queue), "queue of the task", "write the name of one queue, as bqueues shows it"
    for predicate in job.resource_select:
        yield predicate_fault(predicate), "resource_select of the task", "write one predicate, such as mem>4000"
    for host in job.excluded_hosts:
        yield host_fault(host), "host to exclude", "write its name as bhosts shows it"
    yield path_fault(job.directory), "directory of the worker job", "use a plain absolute path"
    yield path_fault(job.log), "log of the worker", "use a plain absolute path"
    yield _pattern_fault(job, options), "path of the worker job", "use a path without %"
    yield _amount_fault(job), f"size of the worker job {job.name}", "ask for at least one core, one byte and one second"
    yield _command_fault(job, options), "command of the worker", "shorten runner.pool.worker_command"


def _pattern_fault(job: WorkerJob, options: LsfOptions) -> str | None:
    """LSF replaces `%J`, `%U` and the like in -cwd and -o, and makes directories of what comes out."""
    paths = {"-cwd": job.directory, "-o": _beside_log(job) if options.output == "file" else ""}
    return next(
        (
            f"LSF would replace what follows % in {flag} {path!r}"
            for flag, path in paths.items()
            if "%" in path and flag not in options.omit_flags
        ),
        None,
    )


def _amount_fault(job: WorkerJob) -> str | None:
    if job.cores < 1:
        return f"{job.cores} cores"
    if job.memory_bytes is not None and job.memory_bytes < 1:
        return f"{job.memory_bytes} bytes of memory"
    if job.wall_seconds is not None and not 0 < job.wall_seconds < float("inf"):
        return f"a limit of {job.wall_seconds} seconds"
    return None


def _command_fault(job: WorkerJob, options: LsfOptions) -> str | None:
    if not job.argv or not job.argv[0]:
        return "it is empty"
    words = worker_argv(job, options)
    unprintable = next((word for word in words if word and not word.isprintable()), None)
    if unprintable is not None:
        return f"{unprintable!r} holds a character that cannot be printed"
    if words[0].startswith(("-", "#")):
        return f"{words[0]!r} would not be taken for a command"
    length = len(shlex.join(words).encode(errors="surrogateescape"))
    if options.submit_form == "argv" and length > MAX_COMMAND:
        return f"it has {length} bytes, and bsub takes {MAX_COMMAND}"
    return None


def _output_flag(job: WorkerJob, options: LsfOptions, job_id: str) -> tuple[str, ...]:
    match options.output:
        case "omit":
            return ()
        case "file":
            return ("-o", f"{_beside_log(job)}.{job_id}.out")
        case _:
            return ("-o", "/dev/null")


def _limit_flag(job: WorkerJob) -> tuple[str, ...]:
    if job.wall_seconds is None:
        return ()
    return ("-W", str(max(1, int(-(-job.wall_seconds // _SECONDS_PER_MINUTE)))))


def _queue_and_account(job: WorkerJob, options: LsfOptions) -> Iterator[tuple[str, ...]]:
    queue = job.queue if job.queue is not None else options.queue
    for flag, value in (
        ("-q", queue),
        ("-P", options.project),
        ("-G", options.user_group),
        ("-app", options.application),
        ("-sla", options.sla),
        ("-Lp", options.license_project),
        ("-sp", None if options.priority is None else str(options.priority)),
        ("-m", " ".join(options.hosts) or None),
    ):
        if value is not None:
            yield flag, value
    if options.exclusive:
        yield ("-x",)


def _memory_limit(job: WorkerJob, options: LsfOptions) -> Iterator[tuple[str, ...]]:
    if options.set_M and job.memory_bytes is not None:
        yield "-M", limit(job.memory_bytes, options)


def _select_section(job: WorkerJob, options: LsfOptions) -> str:
    given = [plain_predicate(text) for text in (*options.resource_select, *job.resource_select)]
    parts = [f"({predicate})" if "||" in predicate else predicate for predicate in dict.fromkeys(given)]
    parts += [f"hname!='{host}'" for host in dict.fromkeys(job.excluded_hosts)]
    return f"select[{' && '.join(parts)}]" if parts else ""


def _rusage_section(job: WorkerJob, options: LsfOptions) -> str:
    if job.memory_bytes is None:
        return ""
    return f"rusage[mem={reservation(job.memory_bytes, job.cores, options)}]"


def _span_section(job: WorkerJob, options: LsfOptions) -> str:
    return "span[hosts=1]" if job.cores > 1 and options.span_hosts else ""


def _as_shell_words(argv: tuple[str, ...]) -> tuple[str, ...]:
    return argv if all(_PLAIN_WORD.match(word) for word in argv) else (shlex.join(argv),)


def _script(job: WorkerJob, commands: Commands) -> str:
    """Return a script that does what the words would do, and ends with LSF's status of a missing directory."""
    worker = shlex.join(worker_argv(job, commands.options))
    return f"#!/bin/sh\ncd {shlex.quote(job.directory)} || exit 2\nexec {worker}\n"


def _script_path(job: WorkerJob) -> str:
    return f"{_beside_log(job)}.sh"


def _beside_log(job: WorkerJob) -> str:
    return posixpath.join(posixpath.dirname(job.log), job.name)


def _several(ids: list[str]) -> str | None:
    return None if len(set(ids)) == 1 else f"bsub named several jobs, {', '.join(ids)}; the last one is taken"
