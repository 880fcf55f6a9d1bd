# ruff: noqa: N802  (tests bear the ids of the requirements)
"""The checks of `dfm doctor --runner lsf`."""

from typing import Any

import pytest

from dfm.api.batch import Command, CommandOutput, Finding, Probe, Standing
from dfm.runner.lsf.dialect import LsfDialect
from dfm.runner.lsf.options import LsfOptions

OK, WARNING, ERROR, SKIPPED = Standing.OK, Standing.WARNING, Standing.ERROR, Standing.SKIPPED
BQUEUES = """
QUEUE: regr
  -- regressions

PARAMETERS/STATISTICS
PRIO NICE STATUS          MAX JL/U JL/P JL/H NJOBS  PEND   RUN SSUSP USUSP  RSV
 30   20  {status}       -    -    -    -     0     0     0     0     0    0
Interval for a host to accept two jobs is 0 seconds
{more}
"""


def probe(name: str, **options: Any) -> Probe:  # noqa: ANN401
    return next(found for found in LsfDialect(LsfOptions(**options)).probes() if found.name == name)


def judged(name: str, output: CommandOutput, **options: Any) -> list[Finding]:  # noqa: ANN401
    return list(probe(name, **options).judge(output))


def said(stdout: str = "", stderr: str = "", status: int = 0, *, is_timed_out: bool = False) -> CommandOutput:
    return CommandOutput(status=status, stdout=stdout, stderr=stderr, is_timed_out=is_timed_out)


def standings(findings: list[Finding]) -> list[Standing]:
    return [finding.standing for finding in findings]


def test_C21_the_checks_ask_these_commands_and_submit_nothing() -> None:
    commands: list[Command] = [found.command for found in LsfDialect(LsfOptions(queue="regr")).probes()]
    fields = "jobid jobindex stat exec_host exit_code exit_reason pend_reason job_name"
    assert [command.argv for command in commands] == [
        ("bsub", "-V"),
        ("lsid",),
        ("bjobs", "-a", "-json", "-o", fields, "-J", "dfm-doctor-*"),
        ("bqueues", "-l", "regr"),
        ("bparams", "-a"),
        ("badmin", "showconf", "mbd"),
    ]


def test_a_bsub_that_is_there_tells_its_version() -> None:
    found = judged("bsub", said(stderr="IBM Spectrum LSF 10.1.0.12, Jun 10 2021\nCopyright\n"), project="p")
    assert found == [Finding(standing=OK, text="bsub: IBM Spectrum LSF 10.1.0.12, Jun 10 2021")]


@pytest.mark.parametrize("status", [126, 127])
def test_a_bsub_that_is_not_there_is_an_error_that_says_what_to_do(status: int) -> None:
    (found,) = judged("bsub", said(status=status))
    assert (found.standing, found.text) == (ERROR, "bsub cannot be started")
    assert found.hint == "source LSF's profile.lsf (or cshrc.lsf), or set runner.lsf.bsub_cmd"


def test_a_bsub_that_hangs_is_an_error() -> None:
    assert standings(judged("bsub", said(status=143, is_timed_out=True))) == [ERROR]


def test_without_a_project_a_hint_tells_where_to_set_one() -> None:
    assert judged("bsub", said(stderr="LSF 10.1\n"))[1] == Finding(
        standing=SKIPPED, text="no project is set", hint="where the site asks for one: runner.lsf.project"
    )


def test_L2_behind_ssh_the_missing_environment_is_told() -> None:
    bare = judged("bsub", said(stderr="LSF\n"), project="p", bsub_cmd=("ssh", "login1", "bsub"))
    whole = judged("bsub", said(stderr="LSF\n"), project="p", bsub_cmd=("ssh", "l", "env", "LSB_NTRIES=1", "bsub"))
    assert (standings(bare), standings(whole)) == ([OK, WARNING], [OK])


def test_the_cluster_is_named() -> None:
    text = "IBM Spectrum LSF Standard 10.1.0.12, Jun 10 2021\n\nMy cluster name is chip\nMy master name is m1\n"
    assert judged("cluster", said(text)) == [
        Finding(standing=OK, text="IBM Spectrum LSF Standard 10.1.0.12, Jun 10 2021, cluster chip")
    ]


def test_a_look_alike_without_lsid_is_only_a_warning() -> None:
    assert standings(judged("cluster", said(status=127))) == [WARNING]


@pytest.mark.parametrize(
    ("output", "standing", "text"),
    [
        (said(stderr="Job <dfm-doctor-*> is not found\n", status=255), OK, "bjobs answers in the form json"),
        (said(stderr="Usage: bjobs [-h]\n", status=255), WARNING,
         "bjobs does not know the form json; a simpler one will be used"),
        (said(stderr="LSF is down. Please wait ...\n", status=255), ERROR,
         "bjobs gives no answer: LSF is down. Please wait ..."),
        (said(status=127), ERROR, "bjobs gives no answer: bjobs cannot be started; set runner.lsf.bjobs_cmd"),
    ],
)  # fmt: skip
def test_L8_the_form_of_the_query_is_tried(output: CommandOutput, standing: Standing, text: str) -> None:
    (found,) = judged("bjobs", output)
    assert (found.standing, found.text) == (standing, text)


def test_a_queue_that_is_open_is_fine() -> None:
    text = BQUEUES.format(status="Open:Active", more="")
    assert judged("queue", said(text), queue="regr") == [Finding(standing=OK, text="queue regr is open")]


def test_a_queue_that_is_not_there_is_an_error_in_the_words_of_lsf() -> None:
    (found,) = judged("queue", said(stderr="regr: No such queue\n", status=255), queue="regr")
    assert (found.standing, found.text) == (ERROR, "regr: No such queue")


@pytest.mark.parametrize("status", ["Closed:Active", "Open:Inact_Win", "Closed:Inact_Adm"])
def test_a_queue_that_is_shut_is_a_warning(status: str) -> None:
    (found,) = judged("queue", said(BQUEUES.format(status=status, more="")), queue="regr")
    assert (found.standing, found.text) == (WARNING, f"queue regr is {status}")


@pytest.mark.parametrize(("line", "standing"), [("CHUNK_JOB_SIZE: 4", WARNING), ("CHUNK_JOB_SIZE:  1", OK), ("", OK)])
def test_L15_a_chunk_queue_is_warned_of(line: str, standing: Standing) -> None:
    found = judged("queue", said(BQUEUES.format(status="Open:Active", more=line)), queue="regr")
    assert standings(found) == [standing]


def test_without_a_queue_the_default_is_used() -> None:
    assert standings(judged("queue", said("QUEUE_NAME PRIO STATUS\nnormal 30 Open:Active\n"))) == [SKIPPED]


@pytest.mark.parametrize("output", [said(), said(status=127), said(status=143, is_timed_out=True)])
def test_a_bqueues_that_tells_nothing_is_a_warning(output: CommandOutput) -> None:
    assert standings(judged("queue", output, queue="regr")) == [WARNING]


@pytest.mark.parametrize(
    ("text", "mem_per", "standing", "hint"),
    [
        ("RESOURCE_RESERVE_PER_TASK = Y\n", "slot", OK, ""),
        ("RESOURCE_RESERVE_PER_TASK = Y\n", "host", WARNING, "ask the admin of LSF; probably runner.lsf.mem_per=slot"),
        ("RESOURCE_RESERVE_PER_SLOT = N\n", "slot", WARNING, "ask the admin of LSF; probably runner.lsf.mem_per=host"),
        ("", "host", SKIPPED, "ask the admin of LSF, and compare with bjobs -l of a job"),
    ],
)
def test_L6_how_memory_is_reserved_is_suggested(text: str, mem_per: str, standing: Standing, hint: str) -> None:
    (found,) = judged("memory per slot", said(text), mem_per=mem_per)
    assert (found.standing, found.hint) == (standing, hint)


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        ("LSF_UNIT_FOR_LIMITS = MB\n", {}, [OK]),
        ("LSF_UNIT_FOR_LIMITS=GB\n", {}, [WARNING]),
        ("LSF_UNIT_FOR_LIMITS=GB\n", {"mem_suffix": True}, [OK]),
        ("LSF_UNIT_FOR_LIMITS=GB\n", {"mem_unit": "GB"}, [OK]),
        ("", {}, [SKIPPED]),
        ("", {"set_M": True}, [SKIPPED, WARNING]),
        ("", {"set_M": True, "mem_limit_unit": "KB"}, [SKIPPED]),
        ("", {"set_M": True, "mem_suffix": True}, [SKIPPED]),
    ],
)
def test_L6_the_unit_of_memory_is_suggested(text: str, options: dict[str, Any], expected: list[Standing]) -> None:
    assert standings(judged("memory unit", said(text), **options)) == expected
