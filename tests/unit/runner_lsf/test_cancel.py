# ruff: noqa: N802  (tests bear the ids of the requirements)
"""bkill: ids and nothing but ids."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfm.api.batch import CancelAnswer, CancelState, CommandOutput, JobKey
from dfm.runner.lsf.dialect import LsfDialect
from dfm.runner.lsf.options import LsfOptions

DIALECT = LsfDialect(LsfOptions())


def keys(*ids: str | None) -> list[JobKey]:
    return [JobKey(name=f"dfm-ab-p-{number}-1", id=job) for number, job in enumerate(ids)]


def killed(stdout: str, stderr: str = "", status: int = 0, *, is_timed_out: bool = False) -> CancelAnswer:
    (command,) = DIALECT.cancel(keys("101", "102", "103"))
    output = CommandOutput(status=status, stdout=stdout, stderr=stderr, is_timed_out=is_timed_out)
    return DIALECT.parse_cancel(command, output)


def test_L13_a_kill_names_its_ids() -> None:
    jobs = keys("101", "44[3]")
    (command,) = DIALECT.cancel(jobs)
    assert (command.argv, command.asked, command.timeout_seconds) == (("bkill", "101", "44[3]"), tuple(jobs), 60.0)


@pytest.mark.parametrize("jobs", [[], keys(None), keys("0"), keys("", "-r", "all", "0[1]", "1 0", "12[0]", "1\n")])
def test_L13_without_an_id_there_is_no_kill(jobs: list[JobKey]) -> None:
    assert DIALECT.cancel(jobs) == []


def test_L13_ids_are_killed_in_chunks_of_200_each_once() -> None:
    jobs = keys(*(str(number) for number in range(1, 452)), "1", "2")
    commands = DIALECT.cancel(jobs)
    assert [len(command.argv) - 1 for command in commands] == [200, 200, 51]
    assert sorted(int(word) for command in commands for word in command.argv[1:]) == list(range(1, 452))


@given(st.lists(st.one_of(st.none(), st.text(max_size=6), st.integers(-2, 10**10).map(str)), max_size=300))
def test_L13_whatever_is_asked_no_kill_is_empty_or_of_all_jobs_or_has_a_flag(ids: list[str | None]) -> None:
    for command in DIALECT.cancel(keys(*ids)):
        assert command.argv[0] == "bkill"
        assert 1 <= len(command.argv[1:]) <= 200
        assert all(word[0] in "123456789" for word in command.argv[1:])


def test_L13_each_line_tells_of_one_job_whatever_the_status() -> None:
    found = killed(
        "Job <101> is being terminated\n",
        "Job <102>: Job has already finished\nJob <103>: No matching job found\n",
        255,
    )
    assert found == CancelAnswer(states={"101": CancelState.STOPPING, "102": CancelState.GONE, "103": CancelState.GONE})


@pytest.mark.parametrize(
    ("line", "state"),
    [
        ("Job <101> is being terminated\n", CancelState.STOPPING),
        ("Job <101> is being signaled\n", CancelState.STOPPING),
        ("Job <101>: Operation is in progress\n", CancelState.STOPPING),
        ("Job <101>: Job has already finished\n", CancelState.GONE),
        ("Job <101>: No matching job found\n", CancelState.GONE),
    ],
)
def test_L13_an_end_that_is_under_way_or_over_is_no_failure(line: str, state: CancelState) -> None:
    assert killed("", line, 255).states == {"101": state}


def test_L13_any_other_answer_is_a_refusal_in_the_words_of_lsf() -> None:
    found = killed("", "Job <101>: User permission denied\n", 255)
    assert found == CancelAnswer(states={"101": CancelState.REFUSED}, text="Job <101>: User permission denied")


def test_L13_a_kill_that_lsf_could_not_take_tells_of_no_job() -> None:
    found = killed("", "LSF is down. Please wait ...\nRequest from non-LSF host rejected\n", 255)
    assert found == CancelAnswer(states={}, text="LSF is down. Please wait ...\nRequest from non-LSF host rejected")


def test_L13_a_kill_that_took_too_long_tells_of_those_it_came_to() -> None:
    found = killed("Job <101> is being terminated\n", status=143, is_timed_out=True)
    assert found == CancelAnswer(states={"101": CancelState.STOPPING}, text="bkill gave no answer in time")


@pytest.mark.parametrize("line", ["Job <101> is be", "Job <101>: Job has alr", "Job <101> "])
def test_L13_a_line_that_was_cut_off_tells_nothing(line: str) -> None:
    assert killed("", line, 255) == CancelAnswer(states={}, text=line.strip())


@pytest.mark.parametrize("status", [0, 255])
def test_L13_silence_is_told_as_such(status: int) -> None:
    assert killed("", "", status) == CancelAnswer(states={}, text=f"bkill said nothing (exit status {status})")


def test_L13_jobs_that_were_not_asked_about_are_left_out() -> None:
    assert killed("Job <777> is being terminated\n").states == {}
