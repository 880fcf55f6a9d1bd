"""squeue: what is asked, and what the answers mean."""

import dataclasses
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.data.slurm.recording import Recording

from dfm.api.batch import (
    CommandOutput,
    EndCause,
    FormatRefused,
    JobKey,
    JobState,
    JobStatus,
    Listed,
    QueryAnswer,
    QueryFailed,
)
from dfm.runner.slurm.dialect import SlurmDialect
from dfm.runner.slurm.options import SlurmOptions
from dfm.runner.slurm.query import MAX_NAMES, Form, expanded

FULL = SlurmDialect()
PLAIN = SlurmDialect(form=Form.PLAIN)
PREFIX = "dfm-ab-"

FULL_FORMAT = "JobArrayID:|,Name:|,State:|,Reason:|,NodeList:|,Comment:|,exit_code:|,RestartCnt:|"
NUMBERS = range(1, 12)
"""Jobs of the recorder, each in a state of its own."""


def key(number: int, identifier: str | None = None) -> JobKey:
    return JobKey(name=f"dfm-ab-p-{number}-1", id=identifier)


def answer(dialect: SlurmDialect, keys: list[JobKey], output: CommandOutput) -> QueryAnswer:
    [asked] = dialect.query(PREFIX, keys)
    return dialect.parse_query(asked, output)


def said(stdout: str, stderr: str = "", status: int = 0) -> CommandOutput:
    return CommandOutput(status=status, stdout=stdout, stderr=stderr)


def listed(dialect: SlurmDialect, keys: list[JobKey], output: CommandOutput) -> dict[str, JobStatus]:
    found = answer(dialect, keys, output)
    assert isinstance(found, Listed)
    return {status.id: status for status in found.jobs}


def row(number: int, state: str, reason: str = "None", node: str = "n1", code: int = 0, restarts: int = 0) -> str:
    return f"{number}|dfm-ab-p-{number}-1|{state}|{reason}|{node}|s-{number:04}|{code}|{restarts}|\n"


def test_S5_C6_one_call_asks_for_all_jobs_by_name() -> None:
    keys = [key(1, "8"), key(2), key(2, "9")]
    [asked] = FULL.query(PREFIX, keys)
    names = "--name=dfm-ab-p-1-1,dfm-ab-p-2-1"
    assert asked.argv == ("squeue", "-h", "-t", "all", "--me", names, "-O", FULL_FORMAT)
    assert asked.asked == tuple(keys)
    assert asked.timeout_seconds == 60.0


def test_S5_the_plain_form_asks_with_what_each_version_knows() -> None:
    [asked] = PLAIN.query(PREFIX, [key(1)])
    assert asked.argv == ("squeue", "-h", "-t", "all", "--name=dfm-ab-p-1-1", "-o", "%i|%j|%T|%r|%N|%k")


def test_very_many_jobs_take_few_calls_none_longer_than_a_system_allows() -> None:
    keys = [JobKey(name=f"dfm-{'x' * 60}-{number}", id=str(number)) for number in range(2 * MAX_NAMES + 1)]
    asked = FULL.query(PREFIX, keys)
    assert [len(part.asked) for part in asked] == [MAX_NAMES, MAX_NAMES, 1]
    assert max(len(word) for part in asked for word in part.argv) < 128 * 1024


def test_S1_each_cluster_is_asked_for_its_own_jobs() -> None:
    dialect = SlurmDialect(SlurmOptions(cluster="west"))
    east, lost = JobKey(name="dfm-ab-p-1-1", id="7", cluster="east"), JobKey(name="dfm-ab-p-2-1")
    asked = dialect.query(PREFIX, [east, lost])
    assert [(part.argv[1], part.asked) for part in asked] == [
        ("--clusters=east", (east,)),
        ("--clusters=west", (lost,)),
    ]


def test_S1_an_id_of_another_cluster_is_not_ours() -> None:
    output = said("CLUSTER: east\n" + row(7, "RUNNING") + "\nCLUSTER: west\n" + row(7, "PENDING", "Priority", ""))
    found = answer(FULL, [JobKey(name="dfm-ab-p-7-1", id="7", cluster="west")], output)
    assert found == Listed(
        jobs=(JobStatus(id="7", name="dfm-ab-p-7-1", state=JobState.PENDING, reason="Priority", cluster="west"),)
    )


def test_S1_an_answer_that_names_no_cluster_is_of_the_one_that_was_asked(recorded: Recording) -> None:
    job = dataclasses.replace(recorded.key(2, "dbd-squeue-full"), cluster="dfm")
    assert answer(FULL, [job], recorded("dbd-squeue-full")) == Listed(
        jobs=(
            JobStatus(
                id=str(job.id), name=job.name, state=JobState.RUNNING, host="n1", reason="RUNNING", cluster="dfm"
            ),
        )
    )


def test_S7_limits_of_accounting_are_hopeless_where_they_are_each_jobs_own(recorded: Recording) -> None:
    found = listed(FULL, [key(3), key(4)], recorded("dbd-squeue-full"))
    assert {status.name: (status.reason, status.is_hopeless) for status in found.values()} == {
        "dfm-ab-p-3-1": ("QOSMaxWallDurationPerJobLimit", True),
        "dfm-ab-p-4-1": ("QOSMaxCpuPerJobLimit", True),
    }


def test_S12_no_command_asks_for_json() -> None:
    job = key(1, "8")
    asked = [*FULL.query(PREFIX, [job]), FULL.find("x"), FULL.history(job), *FULL.cancel([job])]
    assert not [word for part in asked if part for word in part.argv if "json" in word]


def test_each_state_of_a_real_answer_is_understood(recorded: Recording) -> None:
    keys = [recorded.key(number) for number in NUMBERS]
    by_name = {status.name: status for status in listed(FULL, keys, recorded("squeue-full")).values()}
    told = {
        number: (status.state, status.cause, status.exit_status, status.host)
        for number in NUMBERS
        for status in [by_name[f"dfm-ab-p-{number}-1"]]
    }
    ended = JobState.ENDED
    assert told == {
        1: (ended, EndCause.FAILED, 3, "n1"),
        2: (ended, EndCause.LAUNCH, 127, "n1"),
        3: (ended, EndCause.FAILED, 137, "n1"),
        4: (ended, EndCause.DONE, 0, "n1"),
        5: (ended, EndCause.LAUNCH, None, "n1"),
        6: (ended, EndCause.KILLED_BY_OWNER, 143, "n1"),
        7: (JobState.SUSPENDED, None, None, "n2"),
        8: (JobState.PENDING, None, None, ""),
        9: (JobState.HELD, None, None, ""),
        10: (JobState.RUNNING, None, None, "n2"),
        11: (JobState.PENDING, None, None, ""),
    }
    assert by_name["dfm-ab-p-8-1"].is_requeued
    assert by_name["dfm-ab-p-11-1"].is_hopeless


def test_the_plain_form_tells_the_same_states(recorded: Recording) -> None:
    keys = [recorded.key(number) for number in NUMBERS]
    full, plain = (listed(d, keys, recorded(n)) for d, n in ((FULL, "squeue-full"), (PLAIN, "squeue-plain")))
    assert {i: status.state for i, status in full.items()} == {i: status.state for i, status in plain.items()}


def test_S10_C16_reasons_of_a_real_answer_are_for_a_person(recorded: Recording) -> None:
    keys = [recorded.key(number) for number in (3, 5, 7)]
    found = listed(FULL, keys, recorded("squeue-full"))
    killed, launch = {
        "22.05": ("JobLaunchFailure", "JobLaunchFailure"),
        "24.11": ("RaisedSignal:9(Killed)", "RaisedSignal:53(Real-time signal 19)"),
    }[recorded.version]
    assert [found[str(job.id)].reason for job in keys] == [
        f"FAILED ({killed}): ended by signal 9",
        f"FAILED ({launch}): its directory or output path is not usable on n1",
        "SUSPENDED",
    ]


def test_S7_a_partition_that_does_not_allow_the_account_is_hopeless(recorded: Recording) -> None:
    job, table, reason = {
        "22.05": (
            key(12),
            "squeue-full",
            "Job's account not known, so it can't use this partition (charged allows chips)",
        ),
        "24.11": (key(11), "dbd-squeue-full", "PartitionConfig"),
    }[recorded.version]
    [status] = listed(FULL, [job], recorded(table)).values()
    assert (status.state, status.reason, status.is_hopeless) == (JobState.PENDING, reason, True)


def test_S7_a_reason_that_passes_is_not_hopeless(recorded: Recording) -> None:
    [status] = listed(FULL, [key(14)], recorded("squeue-full")).values()
    assert (status.state, status.reason, status.is_hopeless) == (JobState.PENDING, "Licenses", False)


def test_preemption_of_a_real_answer(recorded: Recording) -> None:
    [status] = listed(FULL, [key(17)], recorded("squeue-full")).values()
    assert (status.state, status.cause) == (JobState.ENDED, EndCause.PREEMPTED)


def test_S5_a_pending_array_is_each_of_its_elements(recorded: Recording) -> None:
    found = listed(FULL, [key(15)], recorded("squeue-full"))
    array = recorded.id(15)
    assert {identifier: status.state.value for identifier, status in found.items()} == {
        f"{array}_1": "running",
        f"{array}_2": "running",
        f"{array}_3": "pending",
        f"{array}_4": "pending",
        f"{array}_5": "pending",
    }


def test_C4_a_job_that_is_not_listed_is_missing_and_nothing_more(recorded: Recording) -> None:
    gone = key(99, "4711")
    assert answer(FULL, [gone], recorded("squeue-unknown-names")) == Listed(jobs=(), missing=(gone,))
    assert answer(FULL, [gone], recorded("squeue-full")) == Listed(jobs=(), missing=(gone,))
    assert answer(FULL, [gone], recorded("squeue-unknown-id")) == Listed(jobs=(), missing=(gone,))


@pytest.mark.parametrize("name", ["squeue-down", "squeue-timed-out"])
def test_C4_C5_no_answer_says_nothing_of_any_job(recorded: Recording, name: str) -> None:
    output = recorded(name)
    assert answer(FULL, [key(1, "8")], output) == QueryFailed(text=output.stderr.strip())


@pytest.mark.parametrize(
    ("output", "text"),
    [
        (
            CommandOutput(status=143, stdout=row(8, "RUNNING"), stderr="", is_timed_out=True),
            "squeue gave no answer in time",
        ),
        (said("", status=255), "squeue said nothing (status 255)"),
        (said("", "squeue: not found", 127), "squeue: not found"),
        (said("<html>maintenance</html>\n"), "squeue's answer is not understood: '<html>maintenance</html>'"),
    ],
)
def test_C4_an_answer_that_is_none_is_told(output: CommandOutput, text: str) -> None:
    assert answer(FULL, [key(8, "8")], output) == QueryFailed(text=text)


def test_a_version_that_does_not_know_the_full_form_is_asked_the_plain_one(recorded: Recording) -> None:
    for name in ("squeue-unknown-field", "squeue-unknown-option"):
        output = recorded(name)
        assert answer(FULL, [key(1)], output) == FormatRefused(text=output.stderr.strip(), next=PLAIN)
        assert not isinstance(answer(PLAIN, [key(1)], output), FormatRefused)


def test_S11_what_a_rejected_submission_leaves_behind_is_no_job(recorded: Recording) -> None:
    rejected = key(9)
    output = said(row(9, "FAILED", "BadConstraints", ""))
    assert answer(FULL, [rejected], output) == Listed(jobs=(), missing=(rejected,))
    accepted = key(9, "9")
    assert listed(FULL, [accepted], output)["9"].cause is EndCause.LAUNCH
    assert "dfm-ab-p-9-1|FAILED|BadConstraints" in recorded("squeue-full").stdout


def test_C19_an_id_that_was_used_again_for_another_job_is_not_ours() -> None:
    ours = JobKey(name="dfm-ab-p-1-1", id="8")
    assert answer(FULL, [ours], said(row(8, "RUNNING"))) == Listed(jobs=(), missing=(ours,))


def test_C19_a_twin_of_a_job_of_ours_is_listed_while_it_lives() -> None:
    twin = row(8, "RUNNING").replace("8|", "9|", 1)
    assert set(listed(FULL, [key(8, "8")], said(row(8, "RUNNING") + twin))) == {"8", "9"}
    ended = twin.replace("RUNNING", "CANCELLED")
    assert set(listed(FULL, [key(8, "8")], said(row(8, "RUNNING") + ended))) == {"8"}


def test_C2_a_job_is_found_by_its_name(recorded: Recording) -> None:
    asked = FULL.find("dfm-ab-p-10-1")
    assert asked.argv == ("squeue", "-h", "-t", "all", "--me", "--name=dfm-ab-p-10-1", "-O", FULL_FORMAT)
    found = FULL.parse_query(asked, recorded("squeue-full"))
    assert isinstance(found, Listed)
    assert [status.id for status in found.jobs] == [recorded.id(10)]


def test_noise_of_a_wrapper_is_passed_over() -> None:
    output = said("Welcome | to the | farm\n\n" + row(8, "RUNNING") + "bye\n")
    assert listed(FULL, [key(8, "8")], output)["8"].state is JobState.RUNNING


@pytest.mark.parametrize("state", ["PREEMPTED", "NODE_FAIL", "BOOT_FAIL"])
def test_S9_what_may_be_requeued_is_no_end_while_it_is_listed(state: str) -> None:
    dialect = SlurmDialect(SlurmOptions(requeue=True))
    [status] = listed(dialect, [key(8, "8")], said(row(8, state))).values()
    assert (status.state, status.cause, status.is_requeued) == (JobState.PENDING, None, True)
    [final] = listed(FULL, [key(8, "8")], said(row(8, state))).values()
    assert final.state is JobState.ENDED


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("3", ["3"]),
        ("3_7", ["3_7"]),
        ("3_[1-5%2]", ["3_1", "3_2", "3_3", "3_4", "3_5"]),
        ("3_[1,4-5]", ["3_1", "3_4", "3_5"]),
        ("3_[0-9:4]", ["3_0", "3_4", "3_8"]),
        ("3_[1-...]", ["3_[1-...]"]),
        ("3_[1-]", ["3_[1-]"]),
    ],
)
def test_S5_ids_of_arrays(text: str, ids: list[str]) -> None:
    assert expanded(text) == ids


@given(st.text(st.sampled_from("0123456789_[]-,:%|x \n"), max_size=40))
def test_no_text_breaks_the_reading_of_ids(text: str) -> None:
    assert expanded(text)


@given(stdout=st.text(max_size=200), stderr=st.text(max_size=50), status=st.integers(0, 255))
def test_whatever_is_answered_each_job_is_listed_or_missing_or_there_is_no_answer(
    stdout: str, stderr: str, status: int
) -> None:
    asked = [key(1, "8"), key(2)]
    found = answer(FULL, asked, said(stdout, stderr, status))
    if isinstance(found, Listed):
        assert {job.name for job in found.jobs} | {job.name for job in found.missing} == {job.name for job in asked}
        assert all(re.match(r"\d", job.id) for job in found.jobs)
