"""The questions of `dfm doctor --runner slurm`: is SLURM there, does it answer, would it take a worker.

Source: scontrol(1), sbatch(1), slurm.conf(5), and the answers of SLURM 22.05.8 and 24.11.5.
"""

import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence

from dfm.api.batch import Command, CommandOutput, Finding, JobKey, Probe, QueryFailed, Standing, WorkerJob
from dfm.runner.slurm.command import command
from dfm.runner.slurm.options import SlurmOptions
from dfm.runner.slurm.query import Form, is_form_refused, parse_query, query
from dfm.runner.slurm.submit import script, words

MIN_JOB_AGE_SECONDS = 60
"""Ended jobs that the controller forgets sooner may be gone between two questions."""
_NO_ACCOUNTING = ("accounting_storage/none", "(null)")
_SETTING = re.compile(r"^(\S+)\s*=\s*(.*?)\s*$", re.MULTILINE)
_FIELD = re.compile(r"(\S+?)=(\S*)")
_CANARY = WorkerJob(name="dfm-doctor", slot="doctor", argv=("true",), directory="/", log="/dev/null")

Judge = Callable[[CommandOutput], Sequence[Finding]]


def probes(options: SlurmOptions) -> list[Probe]:
    """Return the checks, those first without which the others mean nothing."""
    listing = query(options, Form.FULL, [JobKey(name=_CANARY.name)])[0]
    on_cluster = [] if options.cluster is None else [f"--clusters={options.cluster}"]
    config = command(options.scontrol_cmd, [*on_cluster, "show", "config"])
    found = [
        _probe("sbatch", command(options.sbatch_cmd, ["--version"]), lambda output: [_ok(output.stdout.strip())]),
        _probe("controller", command(options.scontrol_cmd, ["ping"]), _judge_ping, may_fail=True),
        _probe("configuration", config, _judge_config(options)),
        _probe("squeue", listing, _judge_squeue(options), may_fail=True),
        _probe("submission", _test_only(options), _judge_test_only),
    ]
    partitions = options.partition.split(",") if options.partition else []
    asked = [(name, [*on_cluster, "-o", "show", "partition", name]) for name in partitions]
    found += [_probe(f"partition {name}", command(options.scontrol_cmd, ask), _judge_partition) for name, ask in asked]
    if options.accounting:
        ask = [*on_cluster, "-n", "-X", "-P", "--starttime=now-1hours", "--format=JobID"]
        found.append(_probe("accounting", command(options.sacct_cmd, ask), lambda _: [_ok("sacct answers")]))
    return found


def _probe(name: str, asked: Command, judge: Judge, *, may_fail: bool = False) -> Probe:
    """Return the probe; `judge` sees answers of success, where it `may_fail` all answers that there are."""

    def judge_whole(output: CommandOutput) -> Sequence[Finding]:
        if absence := _absence(asked, output):
            return [absence]
        if output.status != 0 and not may_fail:
            return [_failure(f"{shlex.join(asked.argv)} failed (status {output.status})", output)]
        return judge(output)

    return Probe(name=name, command=asked, judge=judge_whole)


def _absence(asked: Command, output: CommandOutput) -> Finding | None:
    if output.is_timed_out:
        shown = shlex.join(asked.argv)
        return _error(f"{shown} gave no answer in {asked.timeout_seconds:g} s", "is the controller up?")
    if output.status == 127:
        program = asked.argv[0]
        return _error(f"{program} was not found", "load SLURM's module, or set the command in runner.slurm")
    return None


def _failure(what: str, output: CommandOutput) -> Finding:
    said = output.stderr.strip() or output.stdout.strip()
    return _error(f"{what}: {said}", _hint(said))


def _hint(said: str) -> str:
    hints = {
        "Unable to contact slurm controller": "the controller is down, or cannot be reached from this host",
        "Could not establish a configuration source": "set SLURM_CONF, or run this on a host of the cluster",
        "Munge": "the authentication service munged does not run on this host",
        "accounting storage is disabled": "leave the option accounting off: this cluster has none",
        "Invalid account": "set the option account; `sacctmgr show associations user=$USER` lists yours",
        "partition": "set the option partition; `sinfo -s` lists what there is",
    }
    return next((hint for text, hint in hints.items() if text.lower() in said.lower()), "")


def _test_only(options: SlurmOptions) -> Command:
    """Return the submission of a worker of one core as a question; nothing is submitted."""
    return command(options.sbatch_cmd, ["--test-only", *words(options, _CANARY)], stdin=script(options, _CANARY))


def _judge_ping(output: CommandOutput) -> list[Finding]:
    lines = [line.strip() for line in output.stdout.splitlines() if line.startswith("Slurmctld(")]
    if any(line.endswith("is UP") for line in lines):
        return [_ok(line) if line.endswith("is UP") else _warning(line) for line in lines]
    if lines:
        return [_error("; ".join(lines), "the controller is down")]
    return [_failure("scontrol ping names no controller", output)]


def _judge_squeue(options: SlurmOptions) -> Judge:
    def judge(output: CommandOutput) -> list[Finding]:
        if is_form_refused(output):
            return [_warning("squeue does not know the full form of the question: exit codes will not be known")]
        answer = parse_query(options, (), output)
        if isinstance(answer, QueryFailed):
            return [_failure(f"squeue does not answer (status {output.status})", output)]
        return [_ok("squeue answers")]

    return judge


def _judge_test_only(output: CommandOutput) -> list[Finding]:
    return [_ok((output.stderr.strip() or output.stdout.strip()).removeprefix("sbatch: "))]


def _judge_partition(output: CommandOutput) -> list[Finding]:
    fields = dict(_FIELD.findall(output.stdout))
    name, state = fields.get("PartitionName", "?"), fields.get("State", "?")
    text = f"partition {name} is {state}, jobs of at most {fields.get('MaxTime', '?')} on nodes {fields.get('Nodes')}"
    return [_ok(text) if state == "UP" else _warning(text, "jobs will wait until it is up")]


def _judge_config(options: SlurmOptions) -> Judge:
    def judge(output: CommandOutput) -> list[Finding]:
        settings = dict(_SETTING.findall(output.stdout))
        version = settings.get("SLURM_VERSION", "?")
        return [_ok(f"cluster {settings.get('ClusterName', '?')}, SLURM {version}"), *_advice(options, settings)]

    return judge


def _advice(options: SlurmOptions, settings: Mapping[str, str]) -> Iterator[Finding]:
    has_default = any(settings.get(name, "UNLIMITED") != "UNLIMITED" for name in ("DefMemPerNode", "DefMemPerCPU"))
    is_memory_counted = "MEMORY" in settings.get("SelectTypeParameters", "").upper()
    if options.memory_per_core is None and is_memory_counted and not has_default:
        yield _warning(
            "a job that asks for no memory gets its node's whole memory here", "set the option memory_per_core"
        )
    if settings.get("SelectType") == "select/linear":
        yield _warning("each job gets whole nodes here", "set runner.pool.worker_slots to the cores of a node")
    age = settings.get("MinJobAge", "").split()
    if age and age[0].isdecimal() and int(age[0]) < MIN_JOB_AGE_SECONDS and not options.accounting:
        yield _warning(
            f"the controller forgets ended jobs after {age[0]} s (MinJobAge): why a worker ended may stay unknown",
            "ask for a MinJobAge of 300, or set the option accounting where there is accounting",
        )
    if options.accounting and settings.get("AccountingStorageType") in _NO_ACCOUNTING:
        yield _error("the option accounting is on, and this cluster has no accounting", "set accounting=false")


def _ok(text: str) -> Finding:
    return Finding(standing=Standing.OK, text=text)


def _warning(text: str, hint: str = "") -> Finding:
    return Finding(standing=Standing.WARNING, text=text, hint=hint)


def _error(text: str, hint: str = "") -> Finding:
    return Finding(standing=Standing.ERROR, text=text, hint=hint)
