"""What may be said to SLURM: values that it would misread are refused before it sees them.

sbatch reads `1h` as no time and `1.5G` as no memory, a value that begins with `-` as an option, and a word without `-`
as the script to submit. Each check returns what is wrong and what to write instead, or None.

Source: sbatch(1), SLURM 22.05, and what 22.05.8 answered.
"""

import re
from collections.abc import Iterable

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_NAME_LIST = re.compile(r"[\w.@/+=:,-]+\Z", re.ASCII)
_HOST_LIST = re.compile(r"[\w.,\[\]-]+\Z", re.ASCII)
_LICENSE = re.compile(r"[\w.@/+-]+(:[1-9]\d*)?\Z", re.ASCII)
_GRES = re.compile(r"[\w./-]+(:(?!\d+\.\d+[kKmMgGtT]?\Z)[\w./-]+)?(:[1-9]\d*[kKmMgGtT]?)?\Z", re.ASCII)
_CONSTRAINT = re.compile(r"[\w.:@=&|!*,()\[\]-]+\Z", re.ASCII)
_COMPARISON = re.compile(r"[<>]|==|!=|&&|\|\||\s")
_JOB_NAME = re.compile(r"[\w.-]+\Z", re.ASCII)
_EXTRA = re.compile(r"--(?P<long>[a-z][a-z0-9-]*)(=.*)?\Z|-(?P<short>[A-Za-z])", re.DOTALL)

OWN_OPTIONS = {
    "account": "the option account",
    "array": "nothing: one job is one worker",
    "chdir": "nothing: the directory is the flow's",
    "clusters": "the option cluster",
    "comment": "nothing: it names the worker",
    "constraint": "the option constraint",
    "cpus-per-task": "worker_slots and the cores of tasks",
    "error": "nothing: it goes into the worker's log",
    "exclude": "the option exclude",
    "export": "nothing: workers get the environment of dfm",
    "export-file": "nothing: workers get the environment of dfm",
    "gres": "the option gres",
    "help": "nothing",
    "job-name": "nothing: jobs are found again by their names",
    "licenses": "the option licenses",
    "mem": "the memory of tasks, or the option memory_per_core",
    "mem-per-cpu": "the memory of tasks, or the option memory_per_core",
    "mem-per-gpu": "the memory of tasks, or the option memory_per_core",
    "nice": "the option nice",
    "no-requeue": "the option requeue",
    "nodes": "nothing: one job is one worker",
    "ntasks": "nothing: one job is one worker",
    "open-mode": "nothing: logs are appended to",
    "output": "nothing: it goes into the worker's log",
    "parsable": "nothing",
    "partition": "the option partition",
    "qos": "the option qos",
    "requeue": "the option requeue",
    "reservation": "the option reservation",
    "signal": "nothing: the worker is warned before its limit",
    "test-only": "dfm doctor",
    "time": "the wall time of tasks, or runner.pool.walltime",
    "usage": "nothing",
    "version": "dfm doctor",
    "wait": "nothing: dfm waits for tasks, not for jobs",
    "wrap": "nothing: the script is dfm's",
}
"""Options of sbatch that DFM itself gives, and what stands for them in DFM."""

_SHORT = {
    "A": "account",
    "a": "array",
    "C": "constraint",
    "c": "cpus-per-task",
    "D": "chdir",
    "e": "error",
    "h": "help",
    "J": "job-name",
    "L": "licenses",
    "M": "clusters",
    "N": "nodes",
    "n": "ntasks",
    "o": "output",
    "p": "partition",
    "q": "qos",
    "t": "time",
    "V": "version",
    "W": "wait",
    "x": "exclude",
}


def text(value: str) -> str | None:
    """Refuse what no command line should hold."""
    if not value:
        return "it is empty"
    if _CONTROL.search(value):
        return f"{value!r} has a line break or another control character"
    return None


def word(value: str) -> str | None:
    """Refuse what is not one word, or would be taken for an option."""
    if complaint := text(value):
        return complaint
    if value.startswith("-"):
        return f"{value!r} begins with '-', which sbatch would take for an option of its own: write the name alone"
    return None


def name_list(value: str) -> str | None:
    """Check a name, or several with commas: a partition, an account, a quality of service, a reservation."""
    if complaint := word(value):
        return complaint
    if _NAME_LIST.match(value) is None:
        return f"{value!r} is no name in SLURM: letters, digits and . _ - + / @ = : only, several joined with commas"
    return None


def cluster(value: str) -> str | None:
    """Check the name of one cluster."""
    if complaint := name_list(value):
        return complaint
    if "," in value or value == "all":
        return f"{value!r} is more than one cluster, and a job's id is unique only inside one: write one name"
    return None


def hosts(values: Iterable[str]) -> str | None:
    """Check node names, such as n7 or n[1-4]."""
    return _first(values, _HOST_LIST, "is no name of nodes in SLURM: write such as n7 or n[1-4]")


def licenses(values: Iterable[str]) -> str | None:
    """Check licences, each a name and perhaps a whole number."""
    return _first(values, _LICENSE, "is no licence in SLURM: write a name and a whole number, such as vcs:2")


def gres(values: Iterable[str]) -> str | None:
    """Check generic resources."""
    return _first(values, _GRES, "is no generic resource in SLURM: write such as gpu:1 or gpu:a100:2")


def constraint(value: str) -> str | None:
    """Check an expression over features of nodes."""
    if complaint := word(value):
        return complaint
    if _COMPARISON.search(value) or _CONSTRAINT.match(value) is None:
        return f"{value!r} is no constraint in SLURM, which knows features only: write such as rhel8&(intel|amd)"
    if not _is_balanced(value):
        return f"the brackets of {value!r} are not balanced"
    return None


def job_name(value: str) -> str | None:
    """Check a name or a comment of a job, by which it is found again."""
    if complaint := word(value):
        return complaint
    if _JOB_NAME.match(value) is None:
        return f"{value!r} has other characters than letters, digits, '.', '-' and '_'"
    return None


def absolute_path(value: str) -> str | None:
    """Check a path for sbatch, which gives a meaning to backslashes."""
    if complaint := text(value):
        return complaint
    if not value.startswith("/"):
        return f"{value!r} is not an absolute path"
    if "\\" in value:
        return f"{value!r} has a backslash, which sbatch would drop: use a directory without"
    return None


def command(value: tuple[str, ...]) -> str | None:
    """Check a command, program first."""
    if not value:
        return "it names no program"
    return next((complaint for complaint in map(text, value) if complaint), None) or word(value[0])


def extra_options(values: Iterable[str]) -> str | None:
    """Check further options of sbatch: each one word, and none that DFM itself gives."""
    return next((complaint for complaint in map(_extra, values) if complaint), None)


def patterns(values: Iterable[str]) -> str | None:
    """Check regular expressions."""
    for value in values:
        try:
            re.compile(value)
        except re.error as error:
            return f"{value!r} is no regular expression: {error}"
    return None


def _first(values: Iterable[str], form: re.Pattern[str], complaint: str) -> str | None:
    for value in values:
        if refused := word(value):
            return refused
        if form.match(value) is None:
            return f"{value!r} {complaint}"
    return None


def _is_balanced(value: str) -> bool:
    closing, expected = {"(": ")", "[": "]"}, []
    for character in value:
        if character in closing:
            expected.append(closing[character])
        elif character in ")]" and (not expected or expected.pop() != character):
            return False
    return not expected


def _extra(value: str) -> str | None:
    if complaint := text(value):
        return complaint
    match = _EXTRA.match(value)
    if match is None:
        return f"{value!r} is no option: write option and value as one word, such as --mail-type=FAIL"
    own = _own_option(match["long"], match["short"])
    return f"{value!r} is dfm's to say; what stands for it: {OWN_OPTIONS[own]}" if own else None


def _own_option(long: str | None, short: str | None) -> str | None:
    if long is None:
        return _SHORT.get(short or "")
    # getopt_long(3) takes the beginning of an option's name for the option.
    return next((name for name in OWN_OPTIONS if name.startswith(long)), None)
