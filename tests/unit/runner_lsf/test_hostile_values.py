"""Whatever a value holds, it is refused or arrives at its place: none ever becomes an option, a section or a command.

The reader below stands for bsub: flags with a fixed number of words, then the command, which a shell splits.
"""

import re
import shlex
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from dfm.api.batch import WorkerJob
from dfm.api.errors import RunnerError
from dfm.api.options import spec_of
from dfm.runner.lsf.dialect import LsfDialect
from dfm.runner.lsf.options import LsfOptions

TAKES_VALUE = {"-J", "-n", "-cwd", "-o", "-W", "-q", "-P", "-G", "-app", "-sla", "-Lp", "-sp", "-m", "-M", "-R"}
ALONE = {"-rn", "-x"}
JOB = WorkerJob(name="dfm-ab-p-1-1", slot="s-1", argv=("/opt/dfm", "worker"), directory="/d", log="/d/w.log")
SPICE = st.sampled_from(
    ["-K", "-Is", " -K", "--", "]", "[", "select[", "] rusage[x=1", "'", '"', "&&", "||", "&", "|", "(", ")", "#BSUB -K",
     "\n", "\r", "\0", ";", "$(x)", "`x`", "%J", "*", "{", "}", " ", "\\", "a", "mem>1", "hname", "=", "!", "\u2028", "\ud800"]
)  # fmt: skip
TEXT = st.one_of(st.text(max_size=12), st.lists(SPICE, max_size=5).map("".join))


def read_flags(words: tuple[str, ...]) -> tuple[list[tuple[str, str]], tuple[str, ...]]:
    """Return flags with their values, and the words of the command."""
    found, position = [], 0
    while position < len(words) and words[position].startswith("-"):
        flag = words[position]
        assert flag in TAKES_VALUE | ALONE, flag
        takes = flag in TAKES_VALUE
        found.append((flag, words[position + 1] if takes else ""))
        position += 2 if takes else 1
    return found, words[position:]


def passed_on(command: tuple[str, ...]) -> str:
    """Return the line that bsub makes of a command: the first word as it is, the others quoted, but not enough.

    A word with a blank gets quotes around it, single ones if it holds `"` or `$`; any other gets a backslash before
    quotes, backslashes and parentheses. What else a shell would obey stays.
    """
    line = command[0]
    for word in command[1:]:
        if " " in word:
            quote = "'" if '"' in word or "$" in word else '"'
            line += f" {quote}{word}{quote}"
        else:
            line += " " + re.sub(r"""(["'\\\\()])""", r"\\\1", word)
    return line


def submitted(job: WorkerJob, options: LsfOptions) -> tuple[str, ...] | None:
    """Return what stands after bsub, None where the job is refused."""
    try:
        return LsfDialect(options).submit(job).argv[1:]
    except RunnerError:
        return None


def allowed(name: str, value: object) -> bool:
    check = spec_of(LsfOptions.__dataclass_fields__[name].metadata).check
    return check is None or check(value) is None


def sections(requirement: str) -> list[str]:
    return re.findall(r"(\w+)\[", requirement)


@settings(max_examples=300, deadline=None)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "name": TEXT,
            "queue": TEXT,
            "directory": TEXT.map("/".__add__),
            "log": TEXT.map("/".__add__),
            "resource_select": st.lists(TEXT, max_size=3).map(tuple),
            "excluded_hosts": st.lists(TEXT, max_size=3).map(tuple),
            "argv": st.lists(TEXT, min_size=1, max_size=4).map(tuple),
            "cores": st.integers(-1, 64),
            "memory_bytes": st.integers(-1, 1 << 60),
            "wall_seconds": st.floats(allow_nan=True, allow_infinity=True),
        },
    )
)
def test_no_value_of_a_job_becomes_anything_else(change: dict[str, Any]) -> None:
    job = replace(JOB, **change)
    words = submitted(job, LsfOptions(output="file"))
    if words is None:
        return
    found, command = read_flags(words)
    assert [flag for flag, _ in found] == [
        flag for flag in ("-J", "-n", "-rn", "-cwd", "-o", "-W", "-q", "-R") if flag in dict(found)
    ]
    given = dict(found)
    assert (given["-J"], given["-n"], given["-cwd"]) == (job.name, str(job.cores), job.directory)
    assert given.get("-q") == job.queue
    assert shlex.split(passed_on(command)) == list(job.argv)
    names = sections(given.get("-R", ""))
    assert names == [name for name in ("select", "rusage", "span") if name in names]
    assert ("select" in names) == bool(job.resource_select or job.excluded_hosts)


@settings(max_examples=300, deadline=None)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "queue": TEXT,
            "project": TEXT,
            "user_group": TEXT,
            "application": TEXT,
            "sla": TEXT,
            "license_project": TEXT,
            "hosts": st.lists(TEXT, min_size=1, max_size=3).map(tuple),
            "resource_select": st.lists(TEXT, max_size=3).map(tuple),
            "resource_requirements": st.lists(TEXT, max_size=3).map(tuple),
            "worker_dfm_path": TEXT,
        },
    )
)
def test_no_option_that_passed_its_check_becomes_anything_else(given_options: dict[str, Any]) -> None:
    options = {name: value for name, value in given_options.items() if allowed(name, value)}
    words = submitted(JOB, LsfOptions(**options))
    if words is None:
        return
    found, command = read_flags(words)
    flags = {
        "queue": "-q",
        "project": "-P",
        "user_group": "-G",
        "application": "-app",
        "sla": "-sla",
        "license_project": "-Lp",
    }
    values = dict(found)
    assert {flag: values.get(flag) for flag in flags.values()} == {
        flag: options.get(name) for name, flag in flags.items()
    }
    assert values.get("-m", "").split() == list(options.get("hosts", ()))
    ours = ["select"] if options.get("resource_select") else []
    requirements = [value for flag, value in found if flag == "-R"]
    assert requirements[len(ours) :] == list(options.get("resource_requirements", ()))
    assert [sections(value) for value in requirements[: len(ours)]] == [ours][: len(ours)]
    assert shlex.split(passed_on(command)) == [options.get("worker_dfm_path", "/opt/dfm"), "worker"]


@settings(max_examples=200, deadline=None)
@given(st.lists(TEXT, min_size=1, max_size=4).map(tuple), st.sampled_from(["stdin", "script"]))
def test_a_script_runs_exactly_the_command_and_holds_no_directive(argv: tuple[str, ...], form: str) -> None:
    try:
        command = LsfDialect(LsfOptions(submit_form=form)).submit(replace(JOB, argv=argv))
    except RunnerError:
        return
    text = command.stdin or "".join(command.files.values())
    lines = text.splitlines()
    assert lines[:2] == ["#!/bin/sh", "cd /d || exit 2"]
    assert shlex.split(lines[2]) == ["exec", *argv]
    assert len(lines) == 3


@settings(max_examples=200, deadline=None)
@given(st.lists(TEXT, min_size=1, max_size=4).map(tuple), TEXT)
def test_behind_ssh_the_other_shell_reads_the_same_words(argv: tuple[str, ...], project: str) -> None:
    charged = project if allowed("project", project) else None
    job = replace(JOB, argv=argv)
    here = submitted(job, LsfOptions(project=charged))
    there = submitted(job, LsfOptions(bsub_cmd=("ssh", "login1", "bsub"), project=charged))
    assert (here is None) == (there is None)
    if here is not None and there is not None:
        assert tuple(shlex.split(" ".join(there[2:]))) == here
