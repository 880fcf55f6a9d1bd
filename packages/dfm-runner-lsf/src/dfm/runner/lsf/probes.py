"""The checks of `dfm doctor --runner lsf`: commands, and what their answers mean.

Units of memory can only be suggested: bparams and badmin may be absent, forbidden, or of another cluster than the one
that counts. Whether a directory is there on the nodes, the canary tells.
"""

import re
from collections.abc import Callable, Sequence

from dfm.api.batch import CommandOutput, Finding, JobKey, Listed, Probe, QueryFailed, Standing
from dfm.runner.lsf.commands import Commands, Tool
from dfm.runner.lsf.failures import NOT_EXECUTABLE, NOT_FOUND, words_of
from dfm.runner.lsf.options import LsfOptions
from dfm.runner.lsf.query import Form, Refused, parse, question_by_name

_SOURCE_PROFILE = "source LSF's profile.lsf (or cshrc.lsf), or set runner.lsf.bsub_cmd"
_QUEUE_STATUS = re.compile(r"^\s*-?\d+\s+(?:-?\d+\s+)?(?P<status>\w+:\w+)", re.MULTILINE)
_CHUNK = re.compile(r"CHUNK_JOB_SIZE\s*[:=]?\s*(\d+)")
_UNIT = re.compile(r"LSF_UNIT_FOR_LIMITS\s*=\s*\"?([A-Za-z]+)")
_PER_SLOT = re.compile(r"RESOURCE_RESERVE_PER_(?:TASK|SLOT)\s*=\s*\"?(\w+)")
_UNITS = {"K": "KB", "M": "MB", "G": "GB"}

Judge = Callable[[CommandOutput], Sequence[Finding]]


def probes(commands: Commands, form: Form) -> list[Probe]:
    """Return the checks, the most basic first."""
    options = commands.options
    return [
        Probe(name="bsub", command=commands.make(Tool.BSUB, ("-V",)), judge=_judge_bsub(commands)),
        Probe(name="cluster", command=commands.make(Tool.LSID, ()), judge=_judge_cluster),
        _query_probe(commands, form),
        Probe(
            name="queue",
            command=commands.make(Tool.BQUEUES, ("-l", *options.queue.split()) if options.queue else ()),
            judge=_judge_queue(options),
        ),
        Probe(
            name="memory per slot",
            command=commands.make(Tool.BPARAMS, ("-a",)),
            judge=_judge_reservation(options),
        ),
        Probe(
            name="memory unit",
            command=commands.make(Tool.BADMIN, ("showconf", "mbd")),
            judge=_judge_unit(options),
        ),
    ]


def _judge_bsub(commands: Commands) -> Judge:
    def judge(output: CommandOutput) -> list[Finding]:
        name = " ".join(commands.prefix(Tool.BSUB))
        if output.is_timed_out:
            return [
                Finding(standing=Standing.ERROR, text=f"{name} gave no answer in time", hint="ask for LSF's health")
            ]
        if output.status in (NOT_FOUND, NOT_EXECUTABLE):
            return [Finding(standing=Standing.ERROR, text=f"{name} cannot be started", hint=_SOURCE_PROFILE)]
        found = [Finding(standing=Standing.OK, text=f"{name}: {_first_line(output) or 'is there'}")]
        return [*found, *_remote(commands), *_account(commands.options)]

    return judge


def _remote(commands: Commands) -> list[Finding]:
    prefix = commands.prefix(Tool.BSUB)
    if not commands.is_read_by_shell(prefix) or any(word.startswith("LSB_NTRIES=") for word in prefix):
        return []
    return [
        Finding(
            standing=Standing.WARNING,
            text="no environment travels to the other host, so that bsub there may wait for ever for a busy LSF",
            hint="write it into the prefix: ssh login1 env LSB_NTRIES=1 bsub",
        )
    ]


def _account(options: LsfOptions) -> list[Finding]:
    if options.project is not None:
        return []
    return [
        Finding(
            standing=Standing.SKIPPED,
            text="no project is set",
            hint="where the site asks for one: runner.lsf.project",
        )
    ]


def _judge_cluster(output: CommandOutput) -> list[Finding]:
    if output.is_timed_out or not output.stdout.strip():
        return [
            Finding(
                standing=Standing.WARNING,
                text=f"lsid tells nothing of the cluster: {words_of(output) or 'no answer'}",
                hint="look-alikes of LSF may lack lsid; with LSF itself, look at LSF_ENVDIR",
            )
        ]
    cluster = re.search(r"My cluster name is (\S+)", output.stdout)
    named = f", cluster {cluster[1]}" if cluster else ""
    return [Finding(standing=Standing.OK, text=f"{_first_line(output)}{named}")]


def _query_probe(commands: Commands, form: Form) -> Probe:
    command = question_by_name(JobKey(name="dfm-doctor-*"), form, commands)

    def judge(output: CommandOutput) -> list[Finding]:
        match parse(command, output, form):
            case Listed():
                return [Finding(standing=Standing.OK, text=f"bjobs answers in the form {form.name.lower()}")]
            case Refused():
                return [
                    Finding(
                        standing=Standing.WARNING,
                        text=f"bjobs does not know the form {form.name.lower()}; a simpler one will be used",
                    )
                ]
            case QueryFailed(text=text):
                return [Finding(standing=Standing.ERROR, text=f"bjobs gives no answer: {text}", hint=_SOURCE_PROFILE)]

    return Probe(name="bjobs", command=command, judge=judge)


def _judge_queue(options: LsfOptions) -> Judge:
    def judge(output: CommandOutput) -> list[Finding]:
        said = words_of(output)
        if "No such queue" in said:
            return [Finding(standing=Standing.ERROR, text=said, hint="bqueues -u $USER lists the queues you may use")]
        if output.is_timed_out or not output.stdout.strip():
            return [Finding(standing=Standing.WARNING, text=f"bqueues tells nothing: {said or 'no answer'}")]
        if options.queue is None:
            return [
                Finding(
                    standing=Standing.SKIPPED, text="no queue is set: LSF's default is used", hint="runner.lsf.queue"
                )
            ]
        return _queue_findings(options.queue, output.stdout)

    return judge


def _queue_findings(queue: str, text: str) -> list[Finding]:
    shut = [status for status in _QUEUE_STATUS.findall(text) if status != "Open:Active"]
    findings = [
        Finding(
            standing=Standing.WARNING, text=f"queue {queue} is {status}", hint="jobs wait until it is Open:Active again"
        )
        for status in shut
    ]
    sizes = [int(size) for size in _CHUNK.findall(text)]
    if max(sizes, default=0) > 1:
        findings.append(
            Finding(
                standing=Standing.WARNING,
                text=f"queue {queue} runs jobs in chunks of {max(sizes)}: a worker may wait behind another for ever",
                hint="use a queue without CHUNK_JOB_SIZE, or workers with runner.pool.walltime over 30m",
            )
        )
    return findings or [Finding(standing=Standing.OK, text=f"queue {queue} is open")]


def _judge_reservation(options: LsfOptions) -> Judge:
    def judge(output: CommandOutput) -> list[Finding]:
        told = _PER_SLOT.search(output.stdout)
        if told is None:
            return [_not_told("whether memory is reserved per host or per slot", f"mem_per={options.mem_per}")]
        seen = "slot" if told[1].upper() in ("Y", "YES") else "host"
        return [_compared("mem_per", options.mem_per, seen, told[0])]

    return judge


def _judge_unit(options: LsfOptions) -> Judge:
    def judge(output: CommandOutput) -> list[Finding]:
        told = _UNIT.search(output.stdout)
        seen = _UNITS.get(told[1][0].upper()) if told else None
        if told is None or seen is None:
            return [_not_told("the unit of memory", f"mem_unit={options.mem_unit}"), *_limit_unit(options)]
        if options.mem_suffix:
            return [Finding(standing=Standing.OK, text="memory is written with its unit")]
        return [_compared("mem_unit", options.mem_unit, seen, told[0])]

    return judge


def _limit_unit(options: LsfOptions) -> list[Finding]:
    if not options.set_M or options.mem_suffix or options.mem_limit_unit is not None:
        return []
    return [
        Finding(
            standing=Standing.WARNING,
            text=f"-M is written in {options.mem_unit}, and LSF reads it in KB where LSF_UNIT_FOR_LIMITS is not set",
            hint="set runner.lsf.mem_limit_unit=KB or runner.lsf.mem_suffix=true",
        )
    ]


def _compared(option: str, ours: str, seen: str, words: str) -> Finding:
    if ours == seen:
        return Finding(standing=Standing.OK, text=f"{option}={ours}, as the cluster says ({words})")
    return Finding(
        standing=Standing.WARNING,
        text=f"{option}={ours}, and the cluster says {words}",
        hint=f"ask the admin of LSF; probably runner.lsf.{option}={seen}",
    )


def _not_told(what: str, used: str) -> Finding:
    return Finding(
        standing=Standing.SKIPPED,
        text=f"the cluster does not tell {what}; {used} is used",
        hint="ask the admin of LSF, and compare with bjobs -l of a job",
    )


def _first_line(output: CommandOutput) -> str:
    return next((line.strip() for line in words_of(output).splitlines() if line.strip()), "")
