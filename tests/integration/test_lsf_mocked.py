# ruff: noqa: N802  (tests bear the ids of the requirements)
"""The LSF dialect through real calls of `subprocess`, with pytest-subprocess in the place of LSF's commands.

The executor below does what the contract of `Command` says and nothing more. Every process must have been registered, so
that a command with one word too many or too few fails the test that runs it.
"""

import os
import subprocess
from collections.abc import Sequence
from dataclasses import replace

import pytest
from pytest_subprocess import FakeProcess
from pytest_subprocess.fake_popen import FakePopen

from dfm.api.batch import (
    CancelAnswer,
    CancelState,
    Command,
    CommandOutput,
    EndCause,
    FailureKind,
    FormatRefused,
    JobKey,
    JobState,
    JobStatus,
    Listed,
    QueryAnswer,
    QueryFailed,
    Standing,
    SubmitAnswer,
    SubmitFailed,
    Submitted,
    WorkerJob,
)
from dfm.runner.lsf.dialect import LsfDialect
from dfm.runner.lsf.options import LsfOptions

FIELDS = "jobid jobindex stat exec_host exit_code exit_reason pend_reason job_name"
JOB = WorkerJob(
    name="dfm-ab-p-1-1",
    slot="s-0001",
    argv=("/opt/dfm", "worker", "/shared/access.json"),
    directory="/shared/proj",
    log="/shared/workers/dfm-ab-p-1-1.log",
    cores=4,
    memory_bytes=8 << 30,
    wall_seconds=3600.0,
)
KEY = JobKey(name="dfm-ab-p-1-1", id="101")
GONE = JobKey(name="dfm-ab-p-2-1", id="999")
BSUB = [
    *("bsub", "-J", "dfm-ab-p-1-1", "-n", "4", "-rn", "-cwd", "/shared/proj", "-o", "/dev/null", "-W", "60"),
    *("-R", "rusage[mem=8192] span[hosts=1]", "/opt/dfm", "worker", "/shared/access.json"),
]
BJOBS = ["bjobs", "-a", "-json", "-o", FIELDS, "-J", "dfm-ab-*"]
HANG = 5.0
"""How long a command that hangs would take; the executor gives up far sooner, by the exception of the mock."""


def environment_of(command: Command) -> dict[str, str]:
    def goes(name: str) -> bool:
        return name not in command.keep_env and any(
            name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern for pattern in command.unset_env
        )

    return {name: value for name, value in os.environ.items() if not goes(name)} | dict(command.set_env)


def executed(command: Command) -> CommandOutput:
    """Run a command to its end or its time-out."""
    try:
        done = subprocess.run(
            command.argv,
            input=command.stdin,
            stdin=subprocess.DEVNULL if command.stdin is None else None,
            env=environment_of(command),
            capture_output=True,
            text=True,
            timeout=command.timeout_seconds,
            check=False,
        )
    except FileNotFoundError:
        return CommandOutput(status=127, stdout="", stderr="")
    except subprocess.TimeoutExpired as expired:
        return CommandOutput(status=143, stdout=_text(expired.stdout), stderr=_text(expired.stderr), is_timed_out=True)
    return CommandOutput(status=done.returncode, stdout=done.stdout, stderr=done.stderr)


def _text(said: bytes | str | None) -> str:
    return said.decode() if isinstance(said, bytes) else said or ""


def submit(dialect: LsfDialect, job: WorkerJob = JOB) -> SubmitAnswer:
    return dialect.parse_submit(job, executed(dialect.submit(job)))


def ask(dialect: LsfDialect, *jobs: JobKey) -> list[QueryAnswer]:
    return [dialect.parse_query(command, executed(command)) for command in dialect.query("dfm-ab-", jobs)]


def hang(process: FakePopen) -> None:
    raise subprocess.TimeoutExpired(process.args, HANG)


@pytest.fixture
def dialect() -> LsfDialect:
    return LsfDialect(LsfOptions())


@pytest.mark.parametrize(
    ("stdout", "expected"),
    [
        ("Job <101> is submitted to default queue <normal>.\n", Submitted(id="101")),
        ("Job <102> is submitted to queue <regr>.\n", Submitted(id="102")),
        ("Job is submitted to <cpp> project.\nJob <103> is submitted to queue <regr>.\n", Submitted(id="103")),
    ],
)
def test_L1_golden_submissions(fp: FakeProcess, dialect: LsfDialect, stdout: str, expected: Submitted) -> None:
    fp.register(BSUB, stdout=stdout)
    assert submit(dialect) == expected
    assert list(fp.calls) == [tuple(BSUB)]


@pytest.mark.parametrize(
    ("stderr", "kind"),
    [
        ("Request aborted by esub. Job not submitted.\n", FailureKind.PERMANENT),
        ("nosuch: No such queue. Job not submitted.\n", FailureKind.PERMANENT),
        ("regr: User cannot use the queue. Job not submitted.\n", FailureKind.PERMANENT),
        ("Project name must be specified using bsub -P\n", FailureKind.PERMANENT),
        ("User <u>: Pending job threshold reached. Job not submitted.\n", FailureKind.TRANSIENT),
        ("LSF is down. Please wait ...\n" * 4 + "Request from non-LSF host rejected\n" * 3, FailureKind.TRANSIENT),
        ("batch system daemon not responding ... still trying\n", FailureKind.TRANSIENT),
    ],
)
def test_C9_golden_refusals(fp: FakeProcess, dialect: LsfDialect, stderr: str, kind: FailureKind) -> None:
    fp.register(BSUB, stderr=stderr, returncode=255)
    assert submit(dialect) == SubmitFailed(kind=kind, text=stderr.strip())
    assert len(fp.calls) == 1, "the dialect itself never tries again"


@pytest.mark.parametrize("status", [0, 255])
def test_C9_a_submission_without_a_word_is_ambiguous(fp: FakeProcess, dialect: LsfDialect, status: int) -> None:
    fp.register(BSUB, returncode=status)
    answer = submit(dialect)
    assert isinstance(answer, SubmitFailed)
    assert answer.kind is FailureKind.AMBIGUOUS


def test_C9_a_submission_that_hangs_is_ambiguous(fp: FakeProcess, dialect: LsfDialect) -> None:
    fp.register(BSUB, stderr="batch system daemon not responding ... still trying\n", callback=hang)
    answer = submit(dialect)
    assert isinstance(answer, SubmitFailed)
    assert (answer.kind, answer.text) == (FailureKind.AMBIGUOUS, "bsub gave no answer in time")


def test_C9_a_lost_submission_is_found_by_its_name_and_not_sent_again(fp: FakeProcess, dialect: LsfDialect) -> None:
    fp.register(BSUB)
    fp.register(
        [*BJOBS[:-1], "dfm-ab-p-1-1"],
        stdout='{"COMMAND":"bjobs","JOBS":1,"RECORDS":[{"JOBID":"101","STAT":"PEND","JOB_NAME":"dfm-ab-p-1-1"}]}\n',
    )
    assert isinstance(submit(dialect), SubmitFailed)
    command = dialect.find(JOB.name)
    assert dialect.parse_query(command, executed(command)) == Listed(
        jobs=(JobStatus(id="101", name="dfm-ab-p-1-1", state=JobState.PENDING),)
    )
    assert [call[0] for call in fp.calls if isinstance(call, Sequence)] == ["bsub", "bjobs"]


def test_C9_after_a_transient_failure_the_same_command_may_be_tried_again(fp: FakeProcess, dialect: LsfDialect) -> None:
    fp.register(BSUB, stderr="Communication timeout. Job not submitted.\n", returncode=255)
    fp.register(BSUB, stdout="Job <104> is submitted to default queue <normal>.\n")
    first, second = submit(dialect), submit(dialect)
    assert isinstance(first, SubmitFailed)
    assert (first.kind, second) == (FailureKind.TRANSIENT, Submitted(id="104"))


def test_C9_a_bsub_that_is_not_on_path_is_permanent(
    fp: FakeProcess, dialect: LsfDialect, tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    fp.allow_unregistered(allow=True)
    monkeypatch.setenv("PATH", str(tmp_path))
    answer = submit(dialect)
    assert isinstance(answer, SubmitFailed)
    assert answer.kind is FailureKind.PERMANENT
    assert answer.text.startswith("bsub cannot be started (exit status 127); put LSF's commands on PATH")


def test_L4_a_script_goes_to_the_input_of_bsub(fp: FakeProcess) -> None:
    given: list[str] = []

    def take(text: str) -> dict[str, str]:
        given.append(text)
        return {"stdout": "Job <105> is submitted to default queue <normal>.\n"}

    fp.register(BSUB[:-3], stdin_callable=take)
    assert submit(LsfDialect(LsfOptions(submit_form="stdin"))) == Submitted(id="105")
    assert given == ["#!/bin/sh\ncd /shared/proj || exit 2\nexec /opt/dfm worker /shared/access.json\n"]


def test_C8_a_wrapper_stands_before_the_flags(fp: FakeProcess) -> None:
    fp.register(["lsf_bsub", "-proj", "X", *BSUB[1:]], stdout="Job <106> is submitted to queue <x>.\n")
    assert submit(LsfDialect(LsfOptions(bsub_cmd=("lsf_bsub", "-proj", "X")))) == Submitted(id="106")


def test_L2_the_environment_of_a_job_around_us_does_not_reach_bsub(
    fp: FakeProcess, dialect: LsfDialect, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("BSUB_QUIET", "y"), ("LSB_JOBID", "7"), ("LSF_ENVDIR", "/lsf"), ("LSB_SUB_X", "1")):
        monkeypatch.setenv(name, value)
    recorded = fp.register(BSUB, stdout="Job <107> is submitted to queue <x>.\n")
    submit(dialect)
    (call,) = recorded.calls
    assert call.kwargs is not None
    environ = call.kwargs["env"]
    names = ("BSUB_QUIET", "LSB_JOBID", "LSF_ENVDIR", "LSB_SUB_X", "LSB_NTRIES", "LC_ALL")
    assert [environ.get(name) for name in names] == [None, None, "/lsf", "1", "1", "C"]


def test_L9_golden_json(fp: FakeProcess, dialect: LsfDialect) -> None:
    fp.register(
        BJOBS,
        stdout='{"COMMAND":"bjobs","JOBS":2,"RECORDS":[{"JOBID":"101","STAT":"RUN"},'
        '{"JOBID":"999","ERROR":"Job <999> is not found"}]}',
    )
    assert ask(dialect, KEY, GONE) == [Listed(jobs=(JobStatus(id="101", state=JobState.RUNNING),), missing=(GONE,))]
    assert len(fp.calls) == 1, "one question for all jobs"


@pytest.mark.parametrize("status", [0, 255])
def test_L8_the_ladder_is_climbed_down_to_the_form_that_is_known(
    fp: FakeProcess, dialect: LsfDialect, status: int
) -> None:
    fp.register(BJOBS, stderr="bjobs: illegal option -- json\nUsage: bjobs [-h] [-V]\n", returncode=255)
    fp.register(
        ["bjobs", "-a", "-noheader", "-o", f"{FIELDS} delimiter='^'", "101", "999"],
        stdout="101^0^RUN^hostA^-^-^-^dfm-ab-p-1-1\n",
        stderr="Job <999> is not found\n",
        returncode=status,
    )
    (refused,) = ask(dialect, KEY, GONE)
    assert isinstance(refused, FormatRefused)
    assert isinstance(refused.next, LsfDialect)
    running = JobStatus(id="101", name="dfm-ab-p-1-1", state=JobState.RUNNING, host="hostA")
    assert ask(refused.next, KEY, GONE) == [Listed(jobs=(running,), missing=(GONE,))]


def test_L18_a_look_alike_is_asked_in_the_plainest_form(fp: FakeProcess, dialect: LsfDialect) -> None:
    fp.register(BJOBS, stderr="Usage: bjobs [-h]\n", returncode=255)
    fp.register(
        ["bjobs", "-a", "-noheader", "-o", f"{FIELDS} delimiter='^'", "101"], stderr="Usage: bjobs\n", returncode=255
    )
    fp.register(
        ["bjobs", "-a", "-o", "jobid stat exec_host job_name", "101"],
        stderr="<exec_host> in the format string is not a valid field name.\n",
        returncode=99,
    )
    fp.register(
        ["bjobs", "-a", "-w", "101"],
        stdout="JOBID   USER    STAT  QUEUE      FROM_HOST   EXEC_HOST   JOB_NAME   SUBMIT_TIME\n"
        "101     dv      SSUSP normal     login1      4*hostA     dfm-ab-p-1-1 Nov 25 16:07\n",
    )
    for _ in range(3):
        (refused,) = ask(dialect, KEY)
        assert isinstance(refused, FormatRefused)
        assert isinstance(refused.next, LsfDialect)
        dialect = refused.next
    assert ask(dialect, KEY) == [
        Listed(jobs=(JobStatus(id="101", name="dfm-ab-p-1-1", state=JobState.SUSPENDED, host="hostA"),))
    ]


@pytest.mark.parametrize("status", [0, 254, 255])
def test_L9_golden_nothing_found(fp: FakeProcess, dialect: LsfDialect, status: int) -> None:
    fp.register(BJOBS, stderr="No unfinished job found\n", returncode=status)
    assert ask(dialect, KEY) == [Listed(jobs=(), missing=(KEY,))]


@pytest.mark.parametrize(
    "stderr",
    [
        "batch system daemon not responding ... still trying\n" * 3,
        "LSF is down. Please wait ...\n" * 4 + "Request from non-LSF host rejected\n" * 3,
        "",
    ],
)
def test_L9_golden_down_is_no_answer(fp: FakeProcess, dialect: LsfDialect, stderr: str) -> None:
    fp.register(BJOBS, stderr=stderr, returncode=255)
    (answer,) = ask(dialect, KEY)
    assert isinstance(answer, QueryFailed)


def test_C7_a_query_that_hangs_is_no_answer(fp: FakeProcess, dialect: LsfDialect) -> None:
    fp.register(BJOBS, callback=hang)
    assert ask(dialect, KEY) == [QueryFailed(text="bjobs gave no answer in 60 s")]


def test_L13_golden_kill(fp: FakeProcess, dialect: LsfDialect) -> None:
    fp.register(
        ["bkill", "101", "102"],
        stdout="Job <101> is being terminated\n",
        stderr="Job <102>: Job has already finished\n",
        returncode=255,
    )
    (command,) = dialect.cancel([KEY, JobKey(name="dfm-ab-p-2-1", id="102")])
    assert dialect.parse_cancel(command, executed(command)) == CancelAnswer(
        states={"101": CancelState.STOPPING, "102": CancelState.GONE}
    )


def test_L13_no_process_is_started_to_kill_nothing(fp: FakeProcess, dialect: LsfDialect) -> None:
    for jobs in ([], [JobKey(name="a")], [JobKey(name="a", id="0")]):
        for command in dialect.cancel(jobs):
            executed(command)
    assert not fp.calls


def test_L12_golden_history_of_an_unknown_job(fp: FakeProcess, dialect: LsfDialect) -> None:
    fp.register(["bhist", "-l", "101"], stdout="No matching job found\n", returncode=255)
    command = dialect.history(KEY)
    assert command is not None
    assert dialect.parse_history(KEY, executed(command)) is None


def test_L12_a_job_that_was_purged_is_explained_by_its_history(fp: FakeProcess, dialect: LsfDialect) -> None:
    fp.register(BJOBS, stderr="Job <dfm-ab-*> is not found\n", returncode=255)
    fp.register(
        ["bhist", "-l", "101"],
        stdout="Job <101>, Job Name <dfm-ab-p-1-1>, User <dv>, Project <default>, Command </o\n"
        "                     pt/dfm worker /shared/access.json>\n"
        "Wed Nov 25 16:00:10: Dispatched to <hostA>;\n"
        "Wed Nov 25 17:00:10: Exited with exit code 140. The CPU time used is 9.1 seconds\n"
        "                     ;\n"
        "Wed Nov 25 17:00:10: Completed <exit>; TERM_RUNLIMIT: job killed after reaching L\n"
        "                     SF run time limit;\n",
    )
    assert ask(dialect, KEY) == [Listed(jobs=(), missing=(KEY,))]
    command = dialect.history(KEY)
    assert command is not None
    found = dialect.parse_history(KEY, executed(command))
    assert found == JobStatus(
        id="101",
        name="dfm-ab-p-1-1",
        state=JobState.ENDED,
        cause=EndCause.WALLTIME,
        exit_status=140,
        host="hostA",
        reason="TERM_RUNLIMIT: job killed after reaching LSF run time limit",
    )


def test_C21_the_doctor_tells_of_a_healthy_cluster(fp: FakeProcess) -> None:
    fp.register(["bsub", "-V"], stderr="IBM Spectrum LSF 10.1.0.12, Jun 10 2021\n")
    fp.register(["lsid"], stdout="IBM Spectrum LSF Standard 10.1.0.12\n\nMy cluster name is chip\n")
    fp.register([*BJOBS[:-1], "dfm-doctor-*"], stderr="Job <dfm-doctor-*> is not found\n", returncode=255)
    fp.register(["bqueues", "-l", "regr"], stdout="PRIO NICE STATUS\n 30  20  Open:Active  -\n")
    fp.register(["bparams", "-a"], stdout="RESOURCE_RESERVE_PER_TASK = N\n")
    fp.register(["badmin", "showconf", "mbd"], stdout="LSF_UNIT_FOR_LIMITS = MB\n")
    dialect = LsfDialect(LsfOptions(queue="regr", project="p"))
    found = [finding.standing for probe in dialect.probes() for finding in probe.judge(executed(probe.command))]
    assert found == [Standing.OK] * 6


def test_C21_the_doctor_survives_a_host_without_lsf(
    fp: FakeProcess, tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    fp.allow_unregistered(allow=True)
    monkeypatch.setenv("PATH", str(tmp_path))
    dialect = LsfDialect(LsfOptions(queue="regr", project="p"))
    found = [finding.standing for probe in dialect.probes() for finding in probe.judge(executed(probe.command))]
    bad, odd, unknown = Standing.ERROR, Standing.WARNING, Standing.SKIPPED
    assert found == [bad, odd, bad, odd, unknown, unknown]


def test_C11_an_excluded_host_is_in_the_next_submission(fp: FakeProcess, dialect: LsfDialect) -> None:
    words = [word.replace("rusage", "select[hname!='bad1'] rusage") for word in BSUB]
    fp.register(words, stdout="Job <108> is submitted to default queue <normal>.\n")
    assert submit(dialect, replace(JOB, excluded_hosts=("bad1",))) == Submitted(id="108")


@pytest.mark.parametrize(
    "word", ["a b", "it's", '"', "$HOME", "`id`", "a;b", "*", "(x)", "\\", "", "#", "~", "é", "a\"b $c 'd'"]
)
def test_L4_the_shell_of_the_node_gives_the_worker_its_words(dialect: LsfDialect, word: str) -> None:
    """A command of other than plain words is one word to bsub, which hands it to a shell as it is."""
    argv = dialect.submit(replace(JOB, argv=("printf", "%s|", word, "end"))).argv
    line = argv[-1]
    said = subprocess.run(["/bin/sh", "-c", line], capture_output=True, text=True, check=True, timeout=60)
    assert said.stdout == f"{word}|end|"
