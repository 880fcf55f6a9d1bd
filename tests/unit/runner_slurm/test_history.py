"""How a job ended that squeue no longer lists."""

import pytest
from tests.data.slurm.recording import Recording

from dfm.api.batch import CommandOutput, EndCause, JobKey, JobState, JobStatus
from dfm.runner.slurm.dialect import SlurmDialect
from dfm.runner.slurm.options import SlurmOptions

PLAIN = SlurmDialect()
ACCOUNTING = SlurmDialect(SlurmOptions(accounting=True))
AT_NOON = 1_790_000_000.0


def key(number: int, identifier: str | None, cluster: str | None = None) -> JobKey:
    return JobKey(name=f"dfm-ab-p-{number}-1", id=identifier, cluster=cluster, submitted_at=AT_NOON)


def test_S6_scontrol_is_asked_where_there_is_no_accounting() -> None:
    asked = PLAIN.history(key(1, "8"))
    assert asked is not None
    assert asked.argv == ("scontrol", "-o", "show", "job", "8")


def test_S6_sacct_is_asked_from_a_day_before_the_submission_on() -> None:
    asked = ACCOUNTING.history(key(1, "8", "east"))
    assert asked is not None
    assert asked.argv == (
        "sacct",
        "--clusters=east",
        "-n",
        "-X",
        "-P",
        "--starttime=2026-09-20T14:13:20",
        "--jobs=8",
        "--format=JobID,JobName,State,ExitCode,NodeList,Reason,UID",
    )


def test_a_job_without_an_id_has_no_history() -> None:
    assert PLAIN.history(key(1, None)) is None


@pytest.mark.parametrize(
    ("name", "number", "cause", "exit_status"),
    [
        ("failed", 1, EndCause.FAILED, 3),
        ("not-found", 2, EndCause.LAUNCH, 127),
        ("killed", 3, EndCause.FAILED, 137),
        ("done", 4, EndCause.DONE, 0),
        ("launch", 5, EndCause.LAUNCH, None),
        ("cancelled", 6, EndCause.KILLED_BY_OWNER, 143),
        ("preempted", 17, EndCause.PREEMPTED, 143),
    ],
)
def test_S6_S10_ends_that_scontrol_remembers(
    recorded: Recording, name: str, number: int, cause: EndCause, exit_status: int | None
) -> None:
    job = recorded.key(number)
    found = PLAIN.parse_history(job, recorded(f"scontrol-{name}"))
    assert found is not None
    assert (found.id, found.name, found.state) == (job.id, job.name, JobState.ENDED)
    assert (found.cause, found.exit_status) == (cause, exit_status)


def test_a_job_that_scontrol_shows_alive_is_alive(recorded: Recording) -> None:
    job = recorded.key(10)
    assert PLAIN.parse_history(job, recorded("scontrol-running")) == JobStatus(
        id=str(job.id), name=job.name, state=JobState.RUNNING, host="n2", reason="RUNNING"
    )
    requeued = PLAIN.parse_history(recorded.key(8), recorded("scontrol-requeued"))
    assert requeued is not None
    assert (requeued.state, requeued.is_requeued) == (JobState.PENDING, True)


def test_C4_what_nobody_remembers_is_no_end(recorded: Recording) -> None:
    assert PLAIN.parse_history(key(1, "99999"), recorded("scontrol-unknown")) is None
    assert ACCOUNTING.parse_history(key(1, "1"), recorded("sacct-disabled")) is None
    assert ACCOUNTING.parse_history(key(1, "1"), CommandOutput(status=0, stdout="", stderr="")) is None


def test_S6_ends_in_a_real_answer_of_accounting(recorded: Recording) -> None:
    jobs = {number: recorded.key(number, "dbd-squeue-full") for number in (5, 6, 7, 8, 10, 3, 1)}
    found = {number: ACCOUNTING.parse_history(job, recorded("dbd-sacct")) for number, job in jobs.items()}
    told = {number: (s.state.value, s.cause, s.exit_status, s.host) for number, s in found.items() if s is not None}
    assert told == {
        5: ("ended", EndCause.FAILED, 3, "n1"),
        6: ("ended", EndCause.FAILED, 137, "n1"),
        7: ("ended", EndCause.LAUNCH, None, "n1"),
        8: ("ended", EndCause.DONE, 0, "n1"),
        10: ("ended", EndCause.KILLED_BY_OWNER, 0, "n1"),
        3: ("pending", None, None, ""),
        1: ("running", None, None, "n1"),
    }


def test_C4_accounting_that_lags_ends_nothing(recorded: Recording) -> None:
    assert ACCOUNTING.parse_history(key(1, "99999"), recorded("dbd-sacct-unknown")) is None


def test_C19_another_job_of_the_same_id_is_not_ours(recorded: Recording) -> None:
    assert PLAIN.parse_history(key(99, recorded.id(1)), recorded("scontrol-failed")) is None
    assert PLAIN.parse_history(key(1, recorded.id(2)), recorded("scontrol-failed")) is None


def test_an_answer_after_the_time_out_counts_as_none() -> None:
    cut = CommandOutput(status=143, stdout="8|dfm-ab-p-1-1|FAILED|3:0|n1|None|0\n", stderr="", is_timed_out=True)
    assert ACCOUNTING.parse_history(key(1, "8"), cut) is None


@pytest.mark.parametrize(
    ("line", "cause", "exit_status"),
    [
        ("8|dfm-ab-p-1-1|COMPLETED|0:0|n1|None|1000", EndCause.DONE, 0),
        ("8|dfm-ab-p-1-1|FAILED|3:0|n1|None|1000", EndCause.FAILED, 3),
        ("8|dfm-ab-p-1-1|FAILED|0:53|n1|None|1000", EndCause.LAUNCH, None),
        ("8|dfm-ab-p-1-1|OUT_OF_MEMORY|0:125|n1|None|1000", EndCause.MEMORY, 253),
        ("8|dfm-ab-p-1-1|CANCELLED by 1000|0:15|n1|None|1000", EndCause.KILLED_BY_OWNER, 143),
        ("8|dfm-ab-p-1-1|CANCELLED by 0|0:15|n1|None|1000", EndCause.KILLED_BY_ADMIN, 143),
        ("8|dfm-ab-p-1-1|TIMEOUT|0:0|n1|TimeLimit|1000", EndCause.WALLTIME, 0),
        ("8|dfm-ab-p-1-1|NODE_FAIL|0:0|n1|NodeDown|1000", EndCause.NODE, 0),
    ],
)
def test_S6_ends_that_accounting_remembers(line: str, cause: EndCause, exit_status: int) -> None:
    noisy = f"old|line\n7|other|FAILED|1:0|n2|None|1000\n{line}\n"
    found = ACCOUNTING.parse_history(key(1, "8", "east"), CommandOutput(status=0, stdout=noisy, stderr=""))
    assert found is not None
    assert (found.cause, found.exit_status, found.host, found.cluster) == (cause, exit_status, "n1", "east")
