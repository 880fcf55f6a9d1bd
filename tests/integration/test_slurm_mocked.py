"""Whole conversations with SLURM, its programs replaced by recorded answers: argv, input, environment, time-outs."""

import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from pytest_subprocess import FakeProcess
from tests.data.slurm.recording import VERSIONS, Recording

from dfm.api.batch import (
    CancelState,
    Command,
    CommandOutput,
    EndCause,
    FailureKind,
    FormatRefused,
    JobKey,
    JobState,
    Listed,
    QueryFailed,
    SubmitFailed,
    Submitted,
    WorkerJob,
)
from dfm.runner.slurm.dialect import SlurmDialect
from dfm.runner.slurm.options import SlurmOptions
from dfm.testing.slurm_cluster import run_command

JOB = WorkerJob(
    name="dfm-ab-p-10-1",
    slot="s-0010",
    argv=("/opt/dfm", "worker", "/net/access.json"),
    directory="/net/proj",
    log="/net/log/s-0010.log",
    memory_bytes=1 << 30,
    wall_seconds=3600.0,
)
SBATCH = [
    "sbatch",
    "--parsable",
    "--job-name=dfm-ab-p-10-1",
    "--comment=s-0010",
    "--nodes=1",
    "--ntasks=1",
    "--cpus-per-task=1",
    "--time=0-01:00:00",
    "--mem=1024M",
    "--no-requeue",
    "--open-mode=append",
    "--output=/net/log/s-0010.log",
    "--chdir=/net/proj",
    "--signal=B:USR1@60",
    "--export=ALL",
]
SQUEUE = ["squeue", "-h", "-t", "all", "--me", "--name=dfm-ab-p-10-1", "-O"]
FULL_FORMAT = "JobArrayID:|,Name:|,State:|,Reason:|,NodeList:|,Comment:|,exit_code:|,RestartCnt:|"
ENVIRON = {
    "PATH": "/usr/bin",
    "SLURM_CONF": "/etc/slurm.conf",
    "SLURM_JOB_ID": "1",
    "SBATCH_PARTITION": "gui",
    "SRUN_CPUS_PER_TASK": "2",
    "SQUEUE_FORMAT": "%i",
}
DIALECT = SlurmDialect()


def ask(command: Command) -> CommandOutput:
    return run_command(command, ENVIRON)


@pytest.fixture(params=VERSIONS)
def recorded(request: pytest.FixtureRequest) -> Recording:
    return Recording(request.param)


@pytest.fixture
def answers(fp: FakeProcess, recorded: Recording) -> Callable[..., Any]:
    """Let a program answer once as a real one of each recorded version did."""

    def register(argv: list[str], name: str, **more: Any) -> Any:  # noqa: ANN401  (pytest-subprocess has no types for it)
        told = recorded(name)
        return fp.register(argv, stdout=told.stdout, stderr=told.stderr, returncode=told.status, **more)

    return register


def test_a_worker_from_submission_to_end(answers: Callable[..., Any], recorded: Recording) -> None:
    typed: list[bytes] = []
    key, ended = recorded.key(10), recorded.key(6)
    assert key.id is not None
    assert ended.id is not None
    submitted = answers(SBATCH, "sbatch-ok", stdin_callable=typed.append)
    answers([*SQUEUE, FULL_FORMAT], "squeue-full")
    answers(["scancel", "-Q", key.id], "scancel-ok")
    answers(["scontrol", "-o", "show", "job", ended.id], "scontrol-cancelled")

    assert DIALECT.parse_submit(JOB, ask(DIALECT.submit(JOB))) == Submitted(id="1")
    assert typed == [b"#!/bin/sh\nexec /opt/dfm worker /net/access.json\n"]
    assert submitted.first_call.kwargs["env"] == {"PATH": "/usr/bin", "SLURM_CONF": "/etc/slurm.conf"}

    [query] = DIALECT.query("dfm-ab-", [key])
    listed = DIALECT.parse_query(query, ask(query))
    assert isinstance(listed, Listed)
    assert [(job.id, job.state, job.host) for job in listed.jobs] == [(key.id, JobState.RUNNING, "n2")]

    [cancel] = DIALECT.cancel([key])
    assert DIALECT.parse_cancel(cancel, ask(cancel)).states == {key.id: CancelState.STOPPING}

    history = DIALECT.history(ended)
    assert history is not None
    found = DIALECT.parse_history(ended, ask(history))
    assert found is not None
    assert found.cause is EndCause.KILLED_BY_OWNER


def test_C9_a_lost_answer_is_looked_up_before_anything_is_tried_again(
    answers: Callable[..., Any], recorded: Recording
) -> None:
    answers(SBATCH, "sbatch-timed-out")
    answers([*SQUEUE, FULL_FORMAT], "squeue-full")
    answer = DIALECT.parse_submit(JOB, ask(DIALECT.submit(JOB)))
    assert isinstance(answer, SubmitFailed)
    assert answer.kind is FailureKind.AMBIGUOUS
    find = DIALECT.find(JOB.name)
    found = DIALECT.parse_query(find, ask(find))
    assert isinstance(found, Listed)
    assert [job.id for job in found.jobs] == [recorded.id(10)]


def test_C9_a_controller_comes_back(answers: Callable[..., Any]) -> None:
    for name in ("sbatch-down", "sbatch-down", "sbatch-ok"):
        answers(SBATCH, name)
    answer = [DIALECT.parse_submit(JOB, ask(DIALECT.submit(JOB))) for _ in range(3)]
    assert [part.kind for part in answer if isinstance(part, SubmitFailed)] == [FailureKind.TRANSIENT] * 2
    assert answer[2] == Submitted(id="1")


def test_C7_a_program_that_hangs_is_no_answer(fp: FakeProcess) -> None:
    def hang(*_: object) -> None:
        raise subprocess.TimeoutExpired("it", 60, output=b"17\n")

    fp.register(SBATCH, callback=hang)
    fp.register([*SQUEUE, FULL_FORMAT], callback=hang)
    answer = DIALECT.parse_submit(JOB, ask(DIALECT.submit(JOB)))
    assert answer == SubmitFailed(kind=FailureKind.AMBIGUOUS, text="sbatch gave no answer in 120 s. 17")
    [query] = DIALECT.query("dfm-ab-", [JobKey(name=JOB.name, id="17")])
    listed = DIALECT.parse_query(query, ask(query))
    assert listed == QueryFailed(text="squeue gave no answer in time")


def test_programs_that_are_not_installed(fp: FakeProcess) -> None:
    def missing(*_: object) -> None:
        raise FileNotFoundError

    fp.register(SBATCH, callback=missing)
    fp.register([*SQUEUE, FULL_FORMAT], callback=missing)
    answer = DIALECT.parse_submit(JOB, ask(DIALECT.submit(JOB)))
    assert isinstance(answer, SubmitFailed)
    assert answer.kind is FailureKind.PERMANENT
    assert "load SLURM's module" in answer.text
    find = DIALECT.find(JOB.name)
    assert DIALECT.parse_query(find, ask(find)) == QueryFailed(text="squeue said nothing (status 127)")


def test_an_older_squeue_is_asked_in_a_form_that_it_knows(answers: Callable[..., Any], recorded: Recording) -> None:
    answers([*SQUEUE, FULL_FORMAT], "squeue-unknown-field")
    plain = ["squeue", "-h", "-t", "all", "--name=dfm-ab-p-10-1", "-o", "%i|%j|%T|%r|%N|%k"]
    answers(plain, "squeue-plain")
    key = recorded.key(10)
    [query] = DIALECT.query("dfm-ab-", [key])
    refused = DIALECT.parse_query(query, ask(query))
    assert isinstance(refused, FormatRefused)
    [simpler] = refused.next.query("dfm-ab-", [key])
    listed = refused.next.parse_query(simpler, ask(simpler))
    assert isinstance(listed, Listed)
    assert [(job.id, job.state) for job in listed.jobs] == [(key.id, JobState.RUNNING)]


def test_S1_a_job_of_another_cluster_is_asked_about_and_ended_there(fp: FakeProcess) -> None:
    dialect = SlurmDialect(SlurmOptions(cluster="east"))
    argv = [*SBATCH[:8], "--clusters=east", *SBATCH[8:]]
    fp.register(argv, stdout="7;east\n")
    line = "7|dfm-ab-p-10-1|RUNNING|None|e1|s-0010|0|0|\n"
    fp.register(["squeue", "--clusters=east", *SQUEUE[1:], FULL_FORMAT], stdout=f"CLUSTER: east\n{line}")
    fp.register(["scancel", "-Q", "--clusters=east", "7"])
    answer = dialect.parse_submit(JOB, ask(dialect.submit(JOB)))
    assert answer == Submitted(id="7", cluster="east")
    key = JobKey(name=JOB.name, id="7", cluster="east")
    [query] = dialect.query("dfm-ab-", [key])
    listed = dialect.parse_query(query, ask(query))
    assert isinstance(listed, Listed)
    assert [(job.id, job.cluster, job.host) for job in listed.jobs] == [("7", "east", "e1")]
    [cancel] = dialect.cancel([key])
    assert dialect.parse_cancel(cancel, ask(cancel)).states == {"7": CancelState.STOPPING}


def test_S6_accounting_that_is_not_there_ends_nothing(answers: Callable[..., Any]) -> None:
    dialect = SlurmDialect(SlurmOptions(accounting=True))
    fields = "JobID,JobName,State,ExitCode,NodeList,Reason,UID"
    window = "--starttime=1969-12-31T00:00:00"
    answers(["sacct", "-n", "-X", "-P", window, "--jobs=1", f"--format={fields}"], "sacct-disabled")
    key = JobKey(name=JOB.name, id="1")
    history = dialect.history(key)
    assert history is not None
    assert dialect.parse_history(key, ask(history)) is None


def test_C8_prefixes_of_a_site_stand_before_each_command(fp: FakeProcess) -> None:
    dialect = SlurmDialect(
        SlurmOptions(sbatch_cmd=("/cad/wrap", "-proj", "x", "sbatch"), scancel_cmd=("/cad/wrap", "scancel"))
    )
    fp.register(["/cad/wrap", "-proj", "x", *SBATCH], stdout="checking\n7\n")
    fp.register(["/cad/wrap", "scancel", "-Q", "7"])
    assert dialect.parse_submit(JOB, ask(dialect.submit(JOB))) == Submitted(id="7")
    [cancel] = dialect.cancel([JobKey(name=JOB.name, id="7")])
    assert dialect.parse_cancel(cancel, ask(cancel)).states == {"7": CancelState.STOPPING}
