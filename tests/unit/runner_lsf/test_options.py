"""What a site may set, and what is refused when the options are decoded."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from dfm.api.options import METADATA_KEY, OptionSpec, Unit, spec_of
from dfm.runner.lsf.options import LsfOptions

FIELDS = {field.name: field for field in dataclasses.fields(LsfOptions)}


def fault(name: str, value: object) -> str | None:
    check = spec_of(FIELDS[name].metadata).check
    assert check is not None
    return check(value)


@pytest.mark.parametrize("name", FIELDS)
def test_every_option_is_declared_and_documented(name: str) -> None:
    spec = FIELDS[name].metadata[METADATA_KEY]
    assert isinstance(spec, OptionSpec)
    assert re.match(r"[a-zA-Z0-9]", spec.doc)
    assert not spec.doc.endswith(".")


@pytest.mark.parametrize("name", FIELDS)
def test_every_default_is_allowed(name: str) -> None:
    spec, value = spec_of(FIELDS[name].metadata), getattr(LsfOptions(), name)
    assert spec.check is None or spec.check(value) is None
    assert not spec.choices or value is None or value in spec.choices


def test_every_option_is_in_the_guide_of_the_admin() -> None:
    guide = Path(__file__).parents[3] / "docs" / "guides" / "lsf-admin.md"
    text = guide.read_text(encoding="utf-8")
    assert [name for name in FIELDS if f"`{name}`" not in text] == []


def test_commands_are_words_and_durations_are_seconds() -> None:
    units = {name: spec_of(field.metadata).unit for name, field in FIELDS.items()}
    assert {name for name, unit in units.items() if unit is Unit.ARGV} == {
        "bsub_cmd", "bjobs_cmd", "bkill_cmd", "bhist_cmd",
    }  # fmt: skip
    assert {name for name, unit in units.items() if unit is Unit.DURATION} == {
        "submit_timeout", "query_timeout", "cancel_timeout", "history_timeout",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("queue", "regr"),
        ("queue", "regr night"),
        ("queue", "a-b_c.d@cluster2"),
        ("project", "chip b0 (2026)"),
        ("hosts", ("hostA", "grp+2", "~hostB", "others", "h@c1")),
        ("resource_select", ("type==any || type==LINUX86", "select[mem>4000]", "defined(gpu)", "hname!='a-b'")),
        ("resource_requirements", ("rusage[mem=1:duration=1] span[ptile=2]", "type==any", "1*{select[a]} + 2*{select[b]}")),
        ("bsub_cmd", ("ssh", "-o", "BatchMode=yes", "login1", "bsub")),
        ("bsub_extra", ("-env", "all, ~DISPLAY", "-Ep", "/site/post")),
        ("omit_flags", ("-rn", "-cwd")),
        ("ntries", 2),
        ("permanent_patterns", (r"^site: \d+",)),
        ("worker_dfm_path", "/cad/dfm/bin/dfm"),
        ("bsub_environment", {"LSF_ENVDIR": "/lsf/conf"}),
    ],
)  # fmt: skip
def test_what_sites_really_write_is_allowed(name: str, value: object) -> None:
    assert fault(name, value) is None


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("queue", "-K", "'-K' begins with '-' and would be taken for an option"),
        ("queue", "a,b", "'a,b' is no name of a queue"),
        ("queue", " ", "' ' is empty"),
        ("project", " -x", "' -x' begins with '-' and would be taken for an option"),
        ("project", "a\nb", "'a\\nb' holds a character that cannot be printed"),
        ("application", "", "'' is empty"),
        ("sla", "-", "'-' begins with '-' and would be taken for an option"),
        ("user_group", "\x1b[0m", "'\\x1b[0m' holds a character that cannot be printed"),
        ("license_project", "--", "'--' begins with '-' and would be taken for an option"),
        ("hosts", ("a", "-b"), "'-b' is no host or group as bsub -m takes them"),
        ("hosts", ("a b",), "'a b' is no host or group as bsub -m takes them"),
        ("resource_select", ("mem>1", "a]"), "'a]' is no predicate: a section such as rusage[...] stands in resource_requirements"),
        ("resource_select", ('name=="x',), "'name==\"x': a quote is not closed"),
        ("resource_requirements", ("rusage[mem=1",), "'rusage[mem=1': '[' is not closed"),
        ("resource_requirements", ("select[a] select[b]",), "'select[a] select[b]': section 'select' stands there twice"),
        ("resource_requirements", ("selct[a]",),
         "'selct[a]': 'selct' is no section of a resource requirement, those are select, order, rusage, span, same, cu, affinity"),
        ("resource_requirements", ("select[a|b]",), "'select[a|b]': predicates are joined with && and ||"),
        ("resource_requirements", ("select[(a]",), "'select[(a]': ']' closes nothing"),
        ("bsub_cmd", (), "a command is needed"),
        ("bsub_cmd", ("-x",), "'-x' begins with '-' and would be taken for an option"),
        ("bjobs_cmd", ("",), "'' is empty"),
        ("bsub_extra", ("sleep", "1"), "'sleep' would be taken for the command: the first word is a flag, such as -env"),
        ("bsub_extra", ("-x", "-K"), "-K is never passed to bsub: DFM never waits in bsub: the worker itself tells when it is there"),
        ("bsub_extra", ("-ISs",), "-ISs is never passed to bsub: DFM never waits in bsub: the worker itself tells when it is there"),
        ("bsub_extra", ("-E", "/x"), "-E is never passed to bsub: a pre-exec that fails puts the job back in the queue for ever"),
        ("omit_flags", ("-J",), "'-J' is none of the flags that can be left out: -rn, -n, -o, -W, -M, -R, -cwd"),
        ("ntries", 0, "0 is not 1 or 2: DFM itself tries again, and bsub would block"),
        ("ntries", 10, "10 is not 1 or 2: DFM itself tries again, and bsub would block"),
        ("permanent_patterns", ("(",), "'(' is no regular expression: missing ), unterminated subpattern at position 0"),
        ("transient_patterns", ("",), "an empty pattern would match every answer"),
        ("worker_dfm_path", "dfm", "'dfm' is not absolute"),
        ("bsub_environment", {"A-B": "1"}, "'A-B' is no name of a variable"),
        ("bsub_environment", {"A": "\0"}, "the value of A holds a zero byte"),
    ],
)  # fmt: skip
def test_what_lsf_would_misread_is_refused_by_name(name: str, value: Any, expected: str) -> None:  # noqa: ANN401
    assert fault(name, value) == expected
