"""States, reasons and exit codes: what they are to DFM."""

import pytest

from dfm.api.batch import EndCause, JobState, JobStatus
from dfm.runner.slurm.states import Facts, exit_of, status


def told(state: str, reason: str = "", **more: object) -> JobStatus:
    facts = Facts(id="7", name="dfm-ab-p-1-1", state=state, reason=reason, host="n1", **more)  # type: ignore[arg-type]
    return status(facts, may_requeue=False)


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("PENDING", JobState.PENDING),
        ("CONFIGURING", JobState.PENDING),
        ("RUNNING", JobState.RUNNING),
        ("COMPLETING", JobState.RUNNING),
        ("SIGNALING", JobState.RUNNING),
        ("RESIZING", JobState.RUNNING),
        ("STAGE_OUT", JobState.RUNNING),
        ("SUSPENDED", JobState.SUSPENDED),
        ("STOPPED", JobState.SUSPENDED),
        ("REQUEUED", JobState.PENDING),
        ("REQUEUE_FED", JobState.PENDING),
        ("REQUEUE_HOLD", JobState.HELD),
        ("SPECIAL_EXIT", JobState.HELD),
        ("RESV_DEL_HOLD", JobState.HELD),
    ],
)
def test_live_states(word: str, state: JobState) -> None:
    found = told(word)
    assert (found.state, found.cause) == (state, None)
    assert found.is_requeued == word.startswith(("REQUEUE", "SPECIAL", "RESV"))


@pytest.mark.parametrize(
    ("word", "cause"),
    [
        ("COMPLETED", EndCause.DONE),
        ("FAILED", EndCause.FAILED),
        ("CANCELLED", EndCause.KILLED_BY_OWNER),
        ("CANCELLED+", EndCause.KILLED_BY_OWNER),
        ("TIMEOUT", EndCause.WALLTIME),
        ("DEADLINE", EndCause.WALLTIME),
        ("OUT_OF_MEMORY", EndCause.MEMORY),
        ("NODE_FAIL", EndCause.NODE),
        ("BOOT_FAIL", EndCause.NODE),
        ("LAUNCH_FAILED", EndCause.LAUNCH),
        ("PREEMPTED", EndCause.PREEMPTED),
        ("REVOKED", EndCause.LOST),
    ],
)
def test_ends(word: str, cause: EndCause) -> None:
    found = told(word)
    assert (found.state, found.cause, found.host) == (JobState.ENDED, cause, "n1")


def test_C4_a_state_that_we_do_not_know_is_no_end() -> None:
    for word in ("EXPEDITING", "", "?"):
        found = told(word)
        assert (found.state, found.cause) == (JobState.UNKNOWN, None)
        assert found.warning == f"SLURM says {word!r} of job 7, a new state"


@pytest.mark.parametrize(
    "reason",
    [
        "PartitionConfig",
        "PartitionTimeLimit",
        "PartitionNodeLimit",
        "BadConstraints",
        "AccountNotAllowed",
        "QOSNotAllowed",
        "InvalidAccount",
        "InvalidQOS",
        "MaxMemPerLimit",
        "DependencyNeverSatisfied",
        "JobHoldMaxRequeue",
        "ReservationDeleted",
        "ReservationInvalid",
        "launch failed requeued held",
        "AssocMaxCpuPerJobLimit",
        "AssocMaxWallDurationPerJobLimit",
        "QOSMaxMemoryPerJob",
        "QOSMaxCpuPerNode",
        "QOSMinCpuNotSatisfied",
        "Job's account not permitted to use this partition (charged allows chips not root)",
    ],
)
def test_S7_hopeless_reasons(reason: str) -> None:
    assert told("PENDING", reason).is_hopeless


@pytest.mark.parametrize(
    "reason",
    [
        "",
        "Priority",
        "Resources",
        "Licenses",
        "Dependency",
        "BeginTime",
        "QOSMaxCpuPerUserLimit",
        "QOSMaxJobsPerUserLimit",
        "AssocGrpCpuLimit",
        "ReqNodeNotAvail, UnavailableNodes:n4",
        "ReqNodeNotAvail, May be reserved for other job",
        "ReqNodeNotAvail, Reserved for maintenance",
        "Reservation",
        "Constraints",
        "MaxCpuRunMinsPerUser",
        "MaxPoweredUpNodes",
        "JobHeldUser",
        "PartitionDown",
        "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions",
    ],
)
def test_S7_reasons_that_pass(reason: str) -> None:
    assert not told("PENDING", reason).is_hopeless


@pytest.mark.parametrize("reason", ["JobHeldUser", "JobHeldAdmin", "job requeued in held state"])
def test_a_held_job_is_told_from_one_that_waits(reason: str) -> None:
    assert told("PENDING", reason).state is JobState.HELD


def test_a_restart_shows_a_requeue() -> None:
    assert told("PENDING", "BeginTime", restarts=1).is_requeued
    assert not told("PENDING", "Priority").is_requeued
    assert not told("RUNNING", restarts=1).is_requeued


def test_who_ended_it_is_told_where_slurm_tells() -> None:
    assert told("CANCELLED by 1000", owner="1000").cause is EndCause.KILLED_BY_OWNER
    assert told("CANCELLED by 0", owner="1000").cause is EndCause.KILLED_BY_ADMIN
    assert told("CANCELLED by 0").cause is EndCause.KILLED_BY_OWNER


def test_S10_a_launch_failure_names_the_node_and_what_is_wrong_with_it() -> None:
    found = told("FAILED", "JobLaunchFailure", exit_code=15, signal=53)
    assert (found.cause, found.exit_status) == (EndCause.LAUNCH, None)
    assert found.reason == "FAILED (JobLaunchFailure): its directory or output path is not usable on n1"
    assert told("FAILED", "JobLaunchFailure").cause is EndCause.LAUNCH


@pytest.mark.parametrize("code", [{"exit_code": 0, "signal": 53}, {}])
@pytest.mark.parametrize("words", ["Real-time signal 19", "Real-time_signal_19"])
def test_S10_a_launch_failure_of_newer_versions_is_one_whether_or_not_its_exit_code_is_told(
    words: str, code: dict[str, int]
) -> None:
    found = told("FAILED", f"RaisedSignal:53({words})", **code)
    assert (found.cause, found.exit_status) == (EndCause.LAUNCH, None)
    assert found.reason == f"FAILED (RaisedSignal:53({words})): its directory or output path is not usable on n1"


@pytest.mark.parametrize("code", [{"exit_code": 0, "signal": 9}, {}])
def test_the_signal_that_ended_a_job_is_read_from_the_reason_where_its_exit_code_is_not_told(
    code: dict[str, int],
) -> None:
    found = told("FAILED", "RaisedSignal:9(Killed)", **code)
    assert (found.cause, found.exit_status) == (EndCause.FAILED, 137)
    assert found.reason == "FAILED (RaisedSignal:9(Killed)): ended by signal 9"


def test_a_job_killed_with_sigkill_is_no_launch_failure_whatever_the_reason_says() -> None:
    found = told("FAILED", "JobLaunchFailure", exit_code=0, signal=9)
    assert (found.cause, found.exit_status) == (EndCause.FAILED, 137)


def test_a_worker_that_is_not_found_on_the_node_is_a_launch_failure() -> None:
    found = told("FAILED", "NonZeroExitCode", exit_code=127, signal=0)
    assert (found.cause, found.exit_status) == (EndCause.LAUNCH, 127)
    assert found.reason == "FAILED (NonZeroExitCode): its command was not found on n1, or cannot be run there"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("768", (3, 0)),
        ("9", (0, 9)),
        ("4021", (15, 53)),
        ("3:0", (3, 0)),
        ("0:53", (0, 53)),
        ("", (None, None)),
        ("N/A", (None, None)),
    ],
)
def test_exit_codes_are_read_in_both_forms(text: str, told: tuple[int | None, int | None]) -> None:
    assert exit_of(text) == told
