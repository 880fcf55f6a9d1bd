"""scancel: what is asked, and what its silence means."""

from collections.abc import Sequence

from tests.data.slurm.recording import Recording

from dfm.api.batch import CancelAnswer, CancelState, CommandOutput, JobKey
from dfm.runner.slurm.cancel import MAX_IDS
from dfm.runner.slurm.dialect import SlurmDialect

DIALECT = SlurmDialect()


def keys(*identifiers: str) -> list[JobKey]:
    return [JobKey(name=f"dfm-ab-p-{identifier}-1", id=identifier) for identifier in identifiers]


def answer(jobs: Sequence[JobKey], output: CommandOutput) -> CancelAnswer:
    [asked] = DIALECT.cancel(jobs)
    return DIALECT.parse_cancel(asked, output)


def test_S8_each_command_names_its_ids() -> None:
    [asked] = DIALECT.cancel(keys("7", "9"))
    assert asked.argv == ("scancel", "-Q", "7", "9")
    assert asked.asked == tuple(keys("7", "9"))


def test_there_is_no_command_for_no_jobs_nor_for_those_without_an_id() -> None:
    assert DIALECT.cancel([]) == []
    assert DIALECT.cancel([JobKey(name="dfm-ab-p-1-1")]) == []


def test_S1_a_job_is_ended_in_its_own_cluster() -> None:
    jobs = [JobKey(name="a", id="7", cluster="west"), JobKey(name="b", id="7", cluster="east"), *keys("8")]
    assert [asked.argv for asked in DIALECT.cancel(jobs)] == [
        ("scancel", "-Q", "8"),
        ("scancel", "-Q", "--clusters=east", "7"),
        ("scancel", "-Q", "--clusters=west", "7"),
    ]


def test_very_many_jobs_are_ended_in_parts() -> None:
    asked = DIALECT.cancel(keys(*map(str, range(MAX_IDS + 1))))
    assert [len(part.asked) for part in asked] == [MAX_IDS, 1]


def test_S8_silence_is_no_confirmation_of_an_end(recorded: Recording) -> None:
    running = recorded.id(10)
    assert answer(keys(running, "99999"), recorded("scancel-ok")) == CancelAnswer(
        states={running: CancelState.STOPPING, "99999": CancelState.STOPPING}
    )


def test_one_refusal_says_nothing_of_the_others(recorded: Recording) -> None:
    output = recorded("scancel-denied")
    held, suspended = recorded.id(9), recorded.id(7)
    assert answer(keys(held, suspended, "3"), output) == CancelAnswer(
        states={held: CancelState.REFUSED, suspended: CancelState.REFUSED, "3": CancelState.STOPPING},
        text=output.stderr.strip(),
    )


def test_jobs_that_had_ended_are_gone() -> None:
    stderr = (
        "scancel: error: Kill job error on job id 7: Invalid job id specified\n"
        "scancel: error: Kill job error on job id 8: Job/step already completing or completed\n"
    )
    states = answer(keys("7", "8"), CommandOutput(status=1, stdout="", stderr=stderr)).states
    assert states == {"7": CancelState.GONE, "8": CancelState.GONE}


def test_a_controller_that_is_away_says_nothing_of_any_job(recorded: Recording) -> None:
    output = recorded("scancel-down")
    assert answer(keys("1", "2"), output) == CancelAnswer(states={}, text=output.stderr.strip())
    lost = CommandOutput(status=143, stdout="", stderr="", is_timed_out=True)
    assert answer(keys("1"), lost) == CancelAnswer(states={}, text="scancel gave no answer (status 143)")
