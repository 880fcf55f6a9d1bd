"""sbatch: the argument vector, the script, and what its answer means.

Everything that SLURM could choose for us is said: a job without `--mem` may be given a node's whole memory, a job that
is requeued comes back under its old id, a plain `--signal` does not reach the batch process. The script goes through
stdin, and the worker replaces the shell, so that signals reach it.

Source: sbatch(1) and the answers of SLURM 22.05.8 and 24.11.5.
"""

import math
import re
import shlex

from dfm.api.batch import Command, CommandOutput, FailureKind, SubmitAnswer, SubmitFailed, Submitted, WorkerJob
from dfm.api.errors import RunnerError
from dfm.runner.slurm import check
from dfm.runner.slurm.command import SUBMIT_SECONDS, command
from dfm.runner.slurm.options import SlurmOptions

MAX_SIGNAL_SECONDS = 65535
"""sbatch(1), --signal: "sig_time ... from 0 to 65535"."""
WORKER_MODULE = "dfm.core.worker"
_MIB = 1 << 20
_PARSABLE = re.compile(r"^(\d+)(?:;(\S+))?\s*$", re.MULTILINE)
_PROSE = re.compile(r"Submitted batch job (\d+)(?: on cluster (\S+))?")

_LIMIT_OF_THE_MOMENT = re.compile(r"MaxSubmitJob|SubmitJobsLimit|MaxSubmit\w*Limit|GrpSubmitJobs", re.IGNORECASE)
_AMBIGUOUS = re.compile(
    r"Socket timed out|Zero Bytes were transmitted|Message receive failure|Connection reset|Broken pipe"
    r"|Connection (?:to \S+ )?closed|Transport endpoint|Unexpected message received|Header lengths are longer",
    re.IGNORECASE,
)
_TRANSIENT = re.compile(
    r"Unable to contact slurm controller|Communication connection failure|Communication shutdown failure"
    r"|Slurm temporarily unable|Resource temporarily unavailable|backup controller in standby|Protocol authentication"
    r"|Rate limit exceeded|Munge (?:encode|decode) failed|Problem talking to database|Required partition not available"
    r"|Connection refused|Connection timed out|No route to host|Could not resolve|Temporary failure"
    r"|Could not establish a configuration source|Operation now in progress|job could not be written|I/O error",
    re.IGNORECASE,
)
_REFUSED = re.compile(r"\bsbatch: (?:error|fatal)|Batch job submission failed|unrecognized option|invalid option")


def validate(options: SlurmOptions, job: WorkerJob) -> None:
    """Refuse what SLURM would misread.

    Raises:
        RunnerError: a value cannot be given to SLURM.
    """
    for what, complaint in _complaints(options, job):
        if complaint:
            raise RunnerError(f"{what} of job {job.name!r} cannot be given to SLURM: {complaint}")


def submit(options: SlurmOptions, job: WorkerJob) -> Command:
    """Return the command that submits the job."""
    return command(options.sbatch_cmd, words(options, job), stdin=script(options, job), timeout_seconds=SUBMIT_SECONDS)


def script(options: SlurmOptions, job: WorkerJob) -> str:
    """Return the batch script."""
    return f"#!/bin/sh\nexec {shlex.join(worker_argv(options, job.argv))}\n"


def worker_argv(options: SlurmOptions, argv: tuple[str, ...]) -> tuple[str, ...]:
    """Return the worker's command with the nodes' own `dfm` for its program.

    The program is one word, `python -m dfm.core`, or `python -m dfm.core.worker`, which is `dfm worker`.
    """
    if options.worker_dfm_path is None:
        return tuple(argv)
    if argv[1:2] != ("-m",):
        return (options.worker_dfm_path, *argv[1:])
    return (options.worker_dfm_path, *(["worker"] if argv[2] == WORKER_MODULE else []), *argv[3:])


def shown(options: SlurmOptions, job: WorkerJob) -> str:
    """Return the submission as a person would type it."""
    asked = submit(options, job)
    return f"{shlex.join(asked.argv)} <<'END_OF_SCRIPT'\n{asked.stdin}END_OF_SCRIPT"


def time_limit(seconds: float) -> str:
    """Return a limit as SLURM writes it, D-HH:MM:SS, rounded up to the whole minutes that it counts in."""
    days, minutes = divmod(max(1, math.ceil(seconds / 60)), 24 * 60)
    return f"{days}-{minutes // 60:02}:{minutes % 60:02}:00"


def memory(amount: int) -> str:
    """Return bytes as SLURM writes them, in MiB, rounded up; 0 would be a node's whole memory."""
    return f"{max(1, -(-amount // _MIB))}M"


def constraint(options: SlurmOptions, job: WorkerJob) -> str | None:
    """Return one expression that holds where the option's and each of the job's hold."""
    parts = [part for part in (options.constraint, *job.resource_select) if part]
    if len(parts) > 1:
        parts = [f"({part})" if re.search(r"[|,]", part) and not part.startswith("[") else part for part in parts]
    return "&".join(parts) or None


def parse_submit(options: SlurmOptions, output: CommandOutput) -> SubmitAnswer:
    """Return what sbatch did. A job's id counts only in an answer that says success; any other is looked up by name."""
    if output.status == 0 and not output.is_timed_out and (found := _job_id(output)):
        identifier, cluster = found
        return Submitted(id=identifier, cluster=cluster, warning=output.stderr.strip() or None)
    return SubmitFailed(kind=_failure_kind(options, output), text=_words_of(options, output))


def words(options: SlurmOptions, job: WorkerJob) -> list[str]:
    """Return the words that follow `sbatch`."""
    given = {
        "time": None if job.wall_seconds is None else time_limit(job.wall_seconds),
        "partition": job.queue or options.partition,
        "account": options.account,
        "qos": options.qos,
        "constraint": constraint(options, job),
        "gres": ",".join(options.gres),
        "licenses": ",".join(options.licenses),
        "reservation": options.reservation,
        "nice": None if options.nice is None else str(options.nice),
        "exclude": ",".join((*options.exclude, *job.excluded_hosts)),
        "clusters": options.cluster,
        "mem": _memory_option(options, job),
    }
    return [
        "--parsable",
        f"--job-name={job.name}",
        f"--comment={job.slot}",
        "--nodes=1",
        "--ntasks=1",
        f"--cpus-per-task={job.cores}",
        *(f"--{name}={value}" for name, value in given.items() if value),
        "--requeue" if options.requeue else "--no-requeue",
        "--open-mode=append",
        f"--output={job.log.replace('%', '%%')}",
        f"--chdir={job.directory}",
        f"--signal=B:USR1@{_warning_seconds(job)}",
        "--export=ALL",
        *options.sbatch_extra,
    ]


def _memory_option(options: SlurmOptions, job: WorkerJob) -> str | None:
    if job.memory_bytes is not None:
        return memory(job.memory_bytes)
    return None if options.memory_per_core is None else memory(options.memory_per_core * job.cores)


def _warning_seconds(job: WorkerJob) -> int:
    return min(max(1, math.ceil(job.warning_seconds)), MAX_SIGNAL_SECONDS)


def _complaints(options: SlurmOptions, job: WorkerJob) -> list[tuple[str, str | None]]:
    wall, amount = job.wall_seconds, job.memory_bytes
    return [
        ("the name", check.job_name(job.name)),
        ("the slot", check.job_name(job.slot)),
        ("the command", check.command(worker_argv(options, job.argv))),
        ("the directory", check.absolute_path(job.directory)),
        ("the log", check.absolute_path(job.log)),
        ("the queue", None if job.queue is None else check.name_list(job.queue)),
        *(("resource_select", check.constraint(predicate)) for predicate in job.resource_select),
        ("excluded_hosts", check.hosts(job.excluded_hosts)),
        ("cores", None if job.cores > 0 else f"{job.cores} is no number of cores"),
        ("the memory", None if amount is None or amount > 0 else f"{amount} bytes: 0 would be the whole node"),
        ("the wall time", None if wall is None or 0 < wall < math.inf else f"{wall} seconds: 0 would be no limit"),
        ("the warning", None if math.isfinite(job.warning_seconds) else f"{job.warning_seconds} seconds"),
    ]


def _job_id(output: CommandOutput) -> tuple[str, str | None] | None:
    parsable = _PARSABLE.findall(output.stdout)
    prose = _PROSE.findall(output.stdout) or _PROSE.findall(output.stderr)
    if not parsable and not prose:
        return None
    identifier, cluster = (parsable or prose)[-1]
    return identifier, cluster or None


def _failure_kind(options: SlurmOptions, output: CommandOutput) -> FailureKind:
    said = f"{output.stderr}\n{output.stdout}"
    if output.is_timed_out or output.status == 0 or 128 < output.status < 255:
        return FailureKind.AMBIGUOUS
    if any(re.search(pattern, said) for pattern in options.retry_on):
        return FailureKind.TRANSIENT
    if output.status in (126, 127):
        return FailureKind.PERMANENT
    if _AMBIGUOUS.search(said):
        return FailureKind.AMBIGUOUS
    if _TRANSIENT.search(said) or _LIMIT_OF_THE_MOMENT.search(said):
        return FailureKind.TRANSIENT
    return FailureKind.PERMANENT if _REFUSED.search(said) else FailureKind.AMBIGUOUS


def _words_of(options: SlurmOptions, output: CommandOutput) -> str:
    program = shlex.join(options.sbatch_cmd)
    said = (output.stderr.strip() or output.stdout.strip())[-2000:]
    if output.status == 127:
        return f"{program} was not found; load SLURM's module, or set sbatch_cmd of runner slurm. {said}".strip()
    if output.is_timed_out:
        return f"{program} gave no answer in {SUBMIT_SECONDS:g} s. {said}".strip()
    return said or f"{program} said nothing (status {output.status})"
