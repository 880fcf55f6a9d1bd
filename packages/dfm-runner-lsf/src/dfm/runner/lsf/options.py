"""Options of the LSF runner: `--runner-opt key=value`, or `runner.lsf.key` in a configuration file.

What a site sets once (units, wrappers, flags) and what a person chooses for a run (queue, project) are declared in one
place; docs/guides/lsf-admin.md tells which is which.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dfm.api.options import Merge, Unit, option
from dfm.runner.lsf.grammar import (
    host_choice_fault,
    path_fault,
    predicate_fault,
    queue_fault,
    requirement_fault,
    value_fault,
)

OMITTABLE_FLAGS = ("-rn", "-n", "-o", "-W", "-M", "-R", "-cwd")
"""Flags that we add by ourselves; -J is not among them, for a job is found again by its name."""
_BLOCKING = "DFM never waits in bsub: the worker itself tells when it is there"
FORBIDDEN_FLAGS = {
    "-K": _BLOCKING,
    "-I": _BLOCKING,
    "-Ip": _BLOCKING,
    "-Is": _BLOCKING,
    "-IX": _BLOCKING,
    "-E": "a pre-exec that fails puts the job back in the queue for ever",
    "-J": "DFM names its jobs itself, and finds them by their names",
    "-pack": "a file of jobs is not what DFM submits",
    "-H": "a held job never becomes a worker",
    "-h": "it submits nothing",
    "-V": "it submits nothing",
}


def _each(check: Callable[[str], str | None]) -> Callable[[Sequence[str]], str | None]:
    def check_all(values: Sequence[str]) -> str | None:
        return next((fault for value in values if (fault := check(value)) is not None), None)

    return check_all


def _unless_none(check: Callable[[str], str | None]) -> Callable[[str | None], str | None]:
    def check_given(value: str | None) -> str | None:
        return None if value is None else check(value)

    return check_given


def _command_fault(words: Sequence[str]) -> str | None:
    if not words:
        return None
    return value_fault(words[0])


def _needed_command_fault(words: Sequence[str]) -> str | None:
    return _command_fault(words) if words else "a command is needed"


def _extra_fault(words: Sequence[str]) -> str | None:
    if words and not words[0].startswith("-"):
        return f"{words[0]!r} would be taken for the command: the first word is a flag, such as -env"
    for word in words:
        if not word.isprintable():
            return f"{word!r} holds a character that cannot be printed"
        reason = FORBIDDEN_FLAGS.get(word) or (FORBIDDEN_FLAGS["-I"] if re.match(r"-I[A-Za-z]*\Z", word) else None)
        if reason is not None:
            return f"{word} is never passed to bsub: {reason}"
    return None


def _omit_fault(flags: Sequence[str]) -> str | None:
    unknown = next((flag for flag in flags if flag not in OMITTABLE_FLAGS), None)
    if unknown is None:
        return None
    return f"{unknown!r} is none of the flags that can be left out: {', '.join(OMITTABLE_FLAGS)}"


def _pattern_fault(pattern: str) -> str | None:
    try:
        re.compile(pattern)
    except re.error as error:
        return f"{pattern!r} is no regular expression: {error}"
    return None if pattern else "an empty pattern would match every answer"


def _environment_fault(variables: dict[str, str]) -> str | None:
    for name, value in variables.items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            return f"{name!r} is no name of a variable"
        if "\0" in value:
            return f"the value of {name} holds a zero byte"
    return None


def _tries_fault(tries: int) -> str | None:
    return None if tries in (1, 2) else f"{tries} is not 1 or 2: DFM itself tries again, and bsub would block"


@dataclass(frozen=True, slots=True, kw_only=True)
class LsfOptions:
    """What a site sets once and what a person may choose for a run."""

    queue: str | None = option(
        None, check=_unless_none(queue_fault), doc="queue of the worker jobs whose tasks name none (bsub -q)"
    )
    project: str | None = option(
        None, check=_unless_none(value_fault), doc="project that jobs are charged to (bsub -P); blanks are fine"
    )
    user_group: str | None = option(
        None, check=_unless_none(value_fault), doc="user group that jobs are charged to (bsub -G)"
    )
    application: str | None = option(
        None, check=_unless_none(value_fault), doc="application profile of the jobs (bsub -app)"
    )
    sla: str | None = option(None, check=_unless_none(value_fault), doc="service class of the jobs (bsub -sla)")
    license_project: str | None = option(
        None, check=_unless_none(value_fault), doc="project of the License Scheduler (bsub -Lp)"
    )
    priority: int | None = option(None, minimum=1, doc="priority among the jobs of the user (bsub -sp)")
    hosts: tuple[str, ...] = option(
        (), check=_each(host_choice_fault), merge=Merge.REPLACE, doc="hosts or host groups to use (bsub -m)"
    )
    exclusive: bool = option(default=False, doc="take each host alone (bsub -x)")
    resource_select: tuple[str, ...] = option(
        (),
        check=_each(predicate_fault),
        doc="predicates that a host must satisfy, all of them, such as `type==any` (-R 'select[... && ...]')",
    )
    resource_requirements: tuple[str, ...] = option(
        (),
        check=_each(requirement_fault),
        doc="whole resource requirements, each a -R of its own after ours, such as `rusage[lic=1:duration=1]`",
    )

    bsub_cmd: tuple[str, ...] = option(
        ("bsub",),
        unit=Unit.ARGV,
        check=_needed_command_fault,
        doc="command that submits, with what stands before the flags: `ssh login1 bsub`, `lsf_bsub -proj X`",
    )
    bjobs_cmd: tuple[str, ...] = option(
        (),
        unit=Unit.ARGV,
        check=_command_fault,
        doc="command that lists jobs; empty is bsub_cmd with bjobs in place of bsub",
    )
    bkill_cmd: tuple[str, ...] = option(
        (),
        unit=Unit.ARGV,
        check=_command_fault,
        doc="command that ends jobs; empty is bsub_cmd with bkill in place of bsub",
    )
    bhist_cmd: tuple[str, ...] = option(
        (),
        unit=Unit.ARGV,
        check=_command_fault,
        doc="command that tells the history of a job; empty is bsub_cmd with bhist in place of bsub",
    )
    remote_shell: str = option(
        "auto",
        choices=("auto", "always", "never"),
        doc="whether a shell reads the words after the prefix once more, so that they are quoted for it; "
        "`auto` is after ssh and rsh",
    )
    bsub_extra: tuple[str, ...] = option(
        (), check=_extra_fault, doc="more words for bsub, after our flags and before the command, such as -env and all"
    )
    omit_flags: tuple[str, ...] = option(
        (),
        check=_omit_fault,
        doc=f"flags that bsub does not know here and that are left out: any of {' '.join(OMITTABLE_FLAGS)}",
    )
    bsub_environment: dict[str, str] = option(  # noqa: RUF009  (a field, made by option)
        default_factory=dict,
        check=_environment_fault,
        doc="variables set for bsub and the other commands of LSF, such as LSF_ENVDIR",
    )
    ntries: int = option(
        1, check=_tries_fault, doc="LSB_NTRIES of every command, 1 or 2: without it bsub waits for ever for a busy LSF"
    )
    submit_form: str = option(
        "argv",
        choices=("argv", "stdin", "script"),
        doc="how bsub gets the command: as words, as a script on its input, "
        "or as the path of a script beside the worker's log",
    )
    use_arrays: bool = option(
        default=False, doc="submit workers that are wanted at the same time as one array (-J 'name[1-N]')"
    )
    max_array_size: int = option(
        1000, minimum=2, doc="most workers in one array, not more than MAX_JOB_ARRAY_SIZE of the cluster"
    )
    output: str = option(
        "null",
        choices=("null", "file", "omit"),
        doc="LSF's own report (-o): to /dev/null, to a file beside the worker's log, or left to LSF, which may mail it",
    )
    span_hosts: bool = option(default=True, doc="keep all slots of a worker on one host (-R 'span[hosts=1]')")
    worker_dfm_path: str | None = option(
        None,
        check=_unless_none(path_fault),
        doc="path of `dfm` on the nodes, where it differs from here: it replaces the start of the worker's command",
    )

    mem_unit: str = option(
        "MB", choices=("KB", "MB", "GB"), doc="unit that LSF reads memory in (LSF_UNIT_FOR_LIMITS of the cluster)"
    )
    mem_suffix: bool = option(
        default=False, doc="write the unit behind the number, which LSF knows since 10.1.0.2 (rusage[mem=8GB])"
    )
    mem_per: str = option(
        "host",
        choices=("host", "slot"),
        doc="whether LSF reserves the number once per host or for each slot (RESOURCE_RESERVE_PER_TASK=Y)",
    )
    set_M: bool = option(  # noqa: N815  (the flag's name)
        default=False, doc="also set the limit at which LSF kills the job (bsub -M), to the memory of the whole job"
    )
    mem_limit_unit: str | None = option(
        None,
        choices=("KB", "MB", "GB"),
        doc="unit of -M where it differs from mem_unit: KB on a cluster that does not set LSF_UNIT_FOR_LIMITS",
    )

    name_query: str = option(
        "pattern",
        choices=("pattern", "ids"),
        doc="whether jobs are asked for by the pattern of their names, in one question of constant size, or by ids",
    )
    history: str = option(
        "on_loss",
        choices=("never", "on_loss"),
        doc="whether bhist is asked about a job that bjobs no longer knows",
    )
    permanent_patterns: tuple[str, ...] = option(
        (),
        check=_each(_pattern_fault),
        doc="regular expressions for answers of bsub that will not change: shown at once, never tried again",
    )
    transient_patterns: tuple[str, ...] = option(
        (), check=_each(_pattern_fault), doc="regular expressions for answers of bsub after which it is tried again"
    )
    submit_timeout: float = option(120.0, unit=Unit.DURATION, minimum=1, doc="longest time for a bsub")
    query_timeout: float = option(60.0, unit=Unit.DURATION, minimum=1, doc="longest time for a bjobs")
    cancel_timeout: float = option(60.0, unit=Unit.DURATION, minimum=1, doc="longest time for a bkill")
    history_timeout: float = option(60.0, unit=Unit.DURATION, minimum=1, doc="longest time for a bhist")
