"""F12: faults on order. Each kind does what it says, as often as it was ordered."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dfm.testing.fake_lsf import FakeLsf, Params
from dfm.testing.fake_lsf.faults import Kind, OrderError

pytestmark = pytest.mark.timeout(60)
JOB_LINE = "Job <101> is submitted to default queue <normal>.\n"


@pytest.fixture
def lsf(tmp_path: Path) -> Iterator[FakeLsf]:
    with FakeLsf(tmp_path, speed=100) as cluster:
        yield cluster


def test_f12_hang_does_nothing_and_ends_in_a_failed_call(lsf: FakeLsf) -> None:
    lsf.inject("bsub", "hang", seconds=10)
    answer = lsf.run("bsub", "true")
    assert answer.stdout == ""
    assert answer.stderr == "Failed in an LSF library call: Communication timeout\n"
    assert (answer.returncode, lsf.jobs()) == (255, [])
    assert lsf.run("bsub", "-H", "true").stdout == JOB_LINE


def test_f12_hang_without_seconds_is_for_ever(lsf: FakeLsf) -> None:
    lsf.inject("bjobs", "hang")
    with pytest.raises(subprocess.TimeoutExpired):
        lsf.run("bjobs", timeout=0.5)


def test_f12_slow_answers_late(lsf: FakeLsf) -> None:
    lsf.inject("bsub", "slow", seconds=20)
    assert lsf.run("bsub", "-H", "true").stdout == JOB_LINE
    (call,) = lsf.invocations("bsub")
    assert call.ended is not None
    assert call.ended - call.started >= lsf.seconds(20)


def test_f12_down_says_so_until_it_is_up_again(lsf: FakeLsf) -> None:
    lsf.inject("bsub", "down", seconds=15)
    answer = lsf.run("bsub", "-H", "true")
    assert answer.stderr == "batch system daemon not responding ... still trying\n" * 2
    assert answer.stdout == JOB_LINE


def test_f12_down_obeys_ntries(lsf: FakeLsf) -> None:
    lsf.inject("bjobs", "down", times=2)
    once = lsf.run("bjobs", env={"LSB_NTRIES": "1"})
    twice = lsf.run("bjobs", env={"LSB_NTRIES": "2"})
    assert (once.stderr, once.returncode) == ("Connection refused by server\n", 255)
    assert twice.stderr == "batch system daemon not responding ... still trying\nConnection refused by server\n"


def test_f12_down_may_end_in_a_rejection(lsf: FakeLsf) -> None:
    lsf.inject("bjobs", "down", seconds=5, text="lim", end="non-lsf-host")
    answer = lsf.run("bjobs")
    assert answer.stderr == "LSF is down. Please wait ...\n" + "Request from non-LSF host rejected\n" * 3
    assert (answer.stdout, answer.returncode) == ("", 255)


def test_f12_rc255_empty_submits_nothing(lsf: FakeLsf) -> None:
    lsf.inject("bsub", "rc255-empty")
    answer = lsf.run("bsub", "true")
    assert (answer.stdout, answer.stderr, answer.returncode, lsf.jobs()) == ("", "", 255, [])


@pytest.mark.parametrize(("accepted", "count"), [("yes", 1), ("no", 0)])
def test_f12_ok_empty_may_have_submitted_or_not(lsf: FakeLsf, accepted: str, count: int) -> None:
    lsf.inject("bsub", "ok-empty", accepted=accepted)
    answer = lsf.run("bsub", "-H", "true")
    assert (answer.stdout, answer.stderr, answer.returncode, len(lsf.jobs())) == ("", "", 0, count)


def test_f12_ok_empty_of_bjobs_lists_nothing(lsf: FakeLsf) -> None:
    lsf.run("bsub", "-H", "true")
    lsf.inject("bjobs", "ok-empty")
    answer = lsf.run("bjobs")
    assert (answer.stdout, answer.stderr, answer.returncode) == ("", "", 0)
    assert lsf.run("bjobs").stdout != ""


@pytest.mark.parametrize(
    ("settings", "noise"),
    [({}, "Job is submitted to <cpp> project.\n"), ({"text": "Account: x, balance 3"}, "Account: x, balance 3\n")],
)
def test_f12_noise_before_comes_before_the_answer(lsf: FakeLsf, settings: dict[str, str], noise: str) -> None:
    lsf.inject("bsub", "noise-before", **settings)
    answer = lsf.run("bsub", "-H", "true")
    assert (answer.stdout, answer.returncode) == (noise + JOB_LINE, 0)


def test_f12_cannot_connect_may_be_on_stdout(lsf: FakeLsf) -> None:
    lsf.run("bsub", "-H", "true")
    lsf.inject("bjobs", "noise-stdout-cannot-connect")
    answer = lsf.run("bjobs", "-json", "-o", "jobid stat")
    assert answer.stdout == (
        'Cannot connect to LSF. Please wait ...\n{"COMMAND":"bjobs","JOBS":1,"RECORDS":[{"JOBID":"101","STAT":"PSUSP"}]}\n'
    )


def test_f12_a_submission_may_succeed_and_never_answer(lsf: FakeLsf) -> None:
    lsf.inject("bsub", "submit-but-time-out")
    with pytest.raises(subprocess.TimeoutExpired):
        lsf.run("bsub", "-J", "unique", "-H", "true", timeout=1)
    assert [job.name for job in lsf.jobs()] == ["unique"]


def test_f12_a_submission_may_be_taken_twice(lsf: FakeLsf) -> None:
    lsf.inject("bsub", "submit-twice")
    assert "<102>" in lsf.run("bsub", "-J", "unique", "-H", "true").stdout
    assert [(job.id, job.name) for job in lsf.jobs()] == [(101, "unique"), (102, "unique")]


def test_f12_a_job_may_be_invisible_at_first(lsf: FakeLsf) -> None:
    lsf.inject("bsub", "invisible", seconds=100_000)
    lsf.run("bsub", "-J", "late", "-H", "true")
    assert lsf.run("bjobs", "101").stderr == "Job <101> is not found\n"
    assert lsf.run("bjobs", "-J", "late").stderr == "Job <late> is not found\n"


def test_f12_all_jobs_are_invisible_for_newjob_refresh(tmp_path: Path) -> None:
    with FakeLsf(tmp_path, speed=100, params=Params(newjob_refresh=100_000)) as lsf:
        lsf.run("bsub", "-H", "true")
        assert lsf.run("bjobs").stderr == "No unfinished job found\n"


def test_f12_bjobs_may_forget_a_job_that_goes_on(lsf: FakeLsf) -> None:
    lsf.run("bsub", "-H", "true")
    lsf.inject("bjobs", "forget", job=101)
    assert lsf.run("bjobs", "-a", "101").stderr == "Job <101> is not found\n"
    assert lsf.run("bjobs", "-a").stderr == "No job found\n"
    assert lsf.job(101).state == "PSUSP"


def test_f12_json_may_be_garbage(lsf: FakeLsf) -> None:
    lsf.inject("bjobs", "garbage-json")
    answer = lsf.run("bjobs", "-json", "-o", "jobid")
    assert (answer.stdout, answer.returncode) == (
        '{"COMMAND":"bjobs","JOBS":1,"RECORDS":[{"JOBID":"1"\x00\ufffd<<<\n',
        0,
    )


def test_f12_an_answer_may_end_in_its_midst(lsf: FakeLsf) -> None:
    lsf.run("bsub", "-H", "true")
    whole = lsf.run("bjobs", "-w").stdout
    lsf.inject("bjobs", "partial-output")
    answer = lsf.run("bjobs", "-w")
    assert (answer.stdout, answer.returncode) == (whole[: len(whole) // 2], 0)


def test_f12_bsub_waits_at_the_pending_threshold(lsf: FakeLsf) -> None:
    lsf.inject("bsub", "pending-threshold", seconds=90)
    answer = lsf.run("bsub", "-H", "true")
    line = r"User <\S+>: Pending job threshold reached. Retrying in 60 seconds...\n"
    assert re.fullmatch(line * 2, answer.stderr)
    assert answer.stdout == JOB_LINE


def test_f12_bsub_waits_at_max_pend_jobs_as_often_as_ntries_says(tmp_path: Path) -> None:
    with FakeLsf(tmp_path, speed=1000, params=Params(max_pend_jobs=1)) as lsf:
        lsf.run("bsub", "-H", "true")
        answer = lsf.run("bsub", "-H", "true", env={"LSB_NTRIES": "2"})
    assert answer.stderr.count("Retrying in 60 seconds...\n") == 2
    assert answer.stderr.endswith("Pending job threshold reached. Job not submitted.\n")
    assert (answer.stdout, answer.returncode) == ("", 255)


def test_f12_an_esub_may_abort(lsf: FakeLsf) -> None:
    lsf.inject("bsub", "esub-abort", text="no mail here")
    answer = lsf.run("bsub", "true")
    assert answer.stderr == "no mail here\nRequest aborted by esub. Job not submitted.\n"
    assert (answer.returncode, lsf.jobs()) == (255, [])


def test_f12_there_may_be_too_many_queries(lsf: FakeLsf) -> None:
    lsf.inject("bjobs", "query-limit")
    answer = lsf.run("bjobs")
    assert (answer.stderr, answer.returncode) == ("Batch system concurrent job query limit exceeded\n", 255)


def test_f12_the_host_may_be_rejected(lsf: FakeLsf) -> None:
    lsf.inject("bsub", "non-lsf-host")
    answer = lsf.run("bsub", "true")
    assert answer.stderr == "LSF is down. Please wait ...\n" * 4 + "Request from non-LSF host rejected\n" * 3
    assert (answer.stdout, answer.returncode) == ("", 255)


def test_f12_any_text_may_refuse(lsf: FakeLsf) -> None:
    lsf.inject("bkill", "refuse", text="Batch daemon cannot fork", status=7)
    answer = lsf.run("bkill", "101")
    assert (answer.stdout, answer.stderr, answer.returncode) == ("", "Batch daemon cannot fork\n", 7)


def test_f12_a_fault_hits_as_often_as_ordered_and_one_command_only(lsf: FakeLsf) -> None:
    lsf.inject("bjobs", "rc255-empty", times=2)
    assert lsf.run("lsid").returncode == 0
    assert [lsf.run("bjobs").returncode for _ in range(3)] == [255, 255, 0]


def test_f12_a_fault_without_end_can_be_taken_back(lsf: FakeLsf) -> None:
    lsf.inject("bjobs", "rc255-empty", times=0)
    assert [lsf.run("bjobs").returncode for _ in range(3)] == [255, 255, 255]
    lsf.clear_faults()
    assert lsf.run("bjobs").returncode == 0


def test_f12_faults_outlive_a_restart(lsf: FakeLsf) -> None:
    lsf.inject("bjobs", "rc255-empty")
    lsf.ctl.restart_mbatchd()
    assert [lsf.run("bjobs").returncode for _ in range(2)] == [255, 0]


def test_f12_faults_come_from_a_control_file_too(lsf: FakeLsf) -> None:
    Path(lsf.directory, "faults").write_text('# comment\nbjobs refuse text="two words" status=9\n', encoding="utf-8")
    assert (lsf.run("bjobs").stderr, lsf.run("bjobs").returncode) == ("two words\n", 0)


def test_f12_a_control_file_that_makes_no_sense_is_told_in_the_log_and_stops_nothing(lsf: FakeLsf) -> None:
    Path(lsf.directory, "faults").write_text("bjobs explode\nbjobs rc255-empty\n", encoding="utf-8")
    assert [lsf.run("bjobs").returncode for _ in range(2)] == [255, 0]
    assert "no fault 'explode'" in Path(lsf.directory, "mbatchd.log").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("order", "complaint"),
    [
        (("nosuch", "hang"), "COMMAND: bsub, bjobs, bkill"),
        (("bsub", "explode"), "no fault 'explode'; there are hang, slow"),
    ],
)
def test_f12_an_order_that_makes_no_sense_is_refused(lsf: FakeLsf, order: tuple[str, str], complaint: str) -> None:
    with pytest.raises(OrderError, match=complaint):
        lsf.inject(*order)


def test_f12_a_setting_that_makes_no_sense_is_refused(lsf: FakeLsf) -> None:
    with pytest.raises(OrderError, match="no setting 'second' of a fault; there are accepted, end, job, seconds"):
        lsf.inject("bsub", "hang", second=1)
    with pytest.raises(OrderError, match="not a number"):
        lsf.inject("bsub", "hang", seconds="soon")


def test_f12_every_kind_has_a_test() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    assert [kind for kind in Kind if f'"{kind}"' not in source] == []
