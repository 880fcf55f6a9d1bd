"""The options: which values reach SLURM, and which are refused, with what to write instead."""

import dataclasses
import shlex
from typing import get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfm.api.batch import WorkerJob
from dfm.api.errors import RunnerError
from dfm.api.options import spec_of
from dfm.runner.slurm import check
from dfm.runner.slurm.dialect import SlurmDialect
from dfm.runner.slurm.options import SlurmOptions, check_options

JOB = WorkerJob(name="dfm-a-p-1-1", slot="s-1", argv=("dfm", "worker"), directory="/net", log="/net/log")


def test_each_option_is_documented_and_has_a_type_that_configuration_can_hold() -> None:
    kinds = {str, int, bool, str | None, int | None, tuple[str, ...]}
    hints = get_type_hints(SlurmOptions)
    for field in dataclasses.fields(SlurmOptions):
        doc = spec_of(field.metadata).doc
        assert doc, field.name
        assert doc[0].islower(), field.name
        assert hints[field.name] in kinds, field.name


def test_queue_is_another_word_for_partition() -> None:
    [field] = [field for field in dataclasses.fields(SlurmOptions) if field.name == "partition"]
    assert spec_of(field.metadata).aliases == ("queue",)


def test_the_defaults_and_common_values_are_accepted() -> None:
    check_options(SlurmOptions())
    check_options(
        SlurmOptions(
            partition="regr,long",
            account="chip-7",
            qos="high",
            constraint="[rack1*2&rack2*4]&(a|b)",
            gres=("gpu:a100:2", "shard:8G"),
            licenses=("vcs", "verdi@flex1:2"),
            reservation="tape_out",
            exclude=("n[1-4,7]", "n9"),
            cluster="east",
            worker_dfm_path="/tools/dfm/bin/dfm",
            sbatch_cmd=("ssh", "-o", "BatchMode=yes", "login1", "sbatch"),
            sbatch_extra=("--mail-type=FAIL", "--exclusive", "-k", "--ntasks-per-node=1", "--wckey=x"),
            retry_on=("busy.*",),
        )
    )


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (SlurmOptions(partition="-p"), "option partition of runner slurm: '-p' begins with '-'"),
        (SlurmOptions(partition="regr high"), "'regr high' is no name in SLURM"),
        (SlurmOptions(account=""), "option account of runner slurm: it is empty"),
        (SlurmOptions(qos="a\nb"), "has a line break"),
        (SlurmOptions(constraint="mem>8"), "write such as rhel8&(intel|amd)"),
        (SlurmOptions(constraint="(a|b]"), "are not balanced"),
        (SlurmOptions(constraint="a)"), "are not balanced"),
        (SlurmOptions(licenses=("vcs:1h",)), "'vcs:1h' is no licence in SLURM: write a name and a whole number"),
        (SlurmOptions(licenses=("vcs:0",)), "is no licence"),
        (SlurmOptions(gres=("gpu:1.5G",)), "'gpu:1.5G' is no generic resource in SLURM: write such as gpu:1"),
        (SlurmOptions(gres=("gpu:1 --wrap=x",)), "is no generic resource"),
        (SlurmOptions(exclude=("--all",)), "begins with '-'"),
        (SlurmOptions(cluster="east,west"), "is more than one cluster"),
        (SlurmOptions(cluster="all"), "is more than one cluster"),
        (SlurmOptions(worker_dfm_path="dfm"), "'dfm' is not an absolute path"),
        (SlurmOptions(sbatch_cmd=()), "it names no program"),
        (SlurmOptions(sbatch_cmd=("--parsable",)), "begins with '-'"),
        (SlurmOptions(sbatch_extra=("job.sh",)), "write option and value as one word, such as --mail-type=FAIL"),
        (SlurmOptions(sbatch_extra=("--",)), "is no option"),
        (SlurmOptions(sbatch_extra=("-",)), "is no option"),
        (SlurmOptions(sbatch_extra=("--time=1h",)), "the wall time of tasks, or runner.pool.walltime"),
        (SlurmOptions(sbatch_extra=("-t1h",)), "the wall time of tasks"),
        (SlurmOptions(sbatch_extra=("--mem=1.5G",)), "the option memory_per_core"),
        (SlurmOptions(sbatch_extra=("--mem-per-cpu=1G",)), "the option memory_per_core"),
        (SlurmOptions(sbatch_extra=("--arr=1-5",)), "one job is one worker"),
        (SlurmOptions(sbatch_extra=("--wait",)), "dfm waits for tasks, not for jobs"),
        (SlurmOptions(sbatch_extra=("-W",)), "dfm waits for tasks"),
        (SlurmOptions(sbatch_extra=("--wrap=rm -rf /",)), "the script is dfm's"),
        (SlurmOptions(sbatch_extra=("--export=NONE",)), "workers get the environment of dfm"),
        (SlurmOptions(sbatch_extra=("-peast",)), "the option partition"),
        (SlurmOptions(retry_on=("(",)), "'(' is no regular expression"),
    ],
)
def test_what_slurm_would_misread_is_refused(options: SlurmOptions, complaint: str) -> None:
    with pytest.raises(RunnerError) as caught:
        check_options(options)
    assert complaint in caught.value.message


HOSTILE = st.text(st.sampled_from("-=;&|$`'\"\\ \n\r\t\0%,:()[]{}<>*?!#~abcZ19.é\u2028"), max_size=12)


@given(value=HOSTILE)
def test_an_accepted_value_stays_inside_its_own_word(value: str) -> None:
    for name in ("partition", "account", "qos", "constraint", "reservation", "cluster"):
        options = SlurmOptions(**{name: value})  # type: ignore[arg-type]  # each of these is a text
        try:
            check_options(options)
        except RunnerError:
            continue
        argv = SlurmDialect(options).submit(JOB).argv
        option = "clusters" if name == "cluster" else name
        assert len(argv) == len(SlurmDialect().submit(JOB).argv) + 1
        assert f"--{option}={value}" in argv
        assert not set(value) & set(" \n\r\t\0'\"`$;\\<>")


@given(extra=st.lists(HOSTILE, max_size=3))
def test_accepted_extra_options_are_options_and_none_of_ours(extra: list[str]) -> None:
    if check.extra_options(extra) is None:
        assert all(word.startswith("-") and word.strip("-") for word in extra)
        argv = SlurmDialect(SlurmOptions(sbatch_extra=tuple(extra))).submit(JOB).argv
        assert argv[-len(extra) :] == tuple(extra) or not extra


@given(argv=st.lists(HOSTILE, min_size=1, max_size=4), log=HOSTILE, directory=HOSTILE)
def test_an_accepted_worker_is_the_one_that_the_script_runs(argv: list[str], log: str, directory: str) -> None:
    job = dataclasses.replace(JOB, argv=tuple(argv), log=f"/{log}", directory=f"/{directory}")
    dialect = SlurmDialect()
    try:
        dialect.validate(job)
    except RunnerError:
        return
    asked = dialect.submit(job)
    assert asked.stdin is not None
    first, second, rest = asked.stdin.split("\n")
    assert (first, rest) == ("#!/bin/sh", "")
    assert shlex.split(second) == ["exec", *argv]
    assert f"--chdir=/{directory}" in asked.argv
    assert f"--output=/{log.replace('%', '%%')}" in asked.argv
