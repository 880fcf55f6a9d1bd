"""Whatever a command answers, the dialect reads it: nothing raises, and nothing is concluded that was not said."""

from hypothesis import given, settings
from hypothesis import strategies as st

from dfm.api.batch import (
    CommandOutput,
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
from dfm.runner.lsf.dialect import LsfDialect
from dfm.runner.lsf.options import LsfOptions
from dfm.runner.lsf.query import Form, is_id

JOB = WorkerJob(name="dfm-ab-p-1-1", slot="s-1", argv=("/opt/dfm",), directory="/d", log="/d/w.log")
KEYS = [JobKey(name="dfm-ab-p-1-1", id="101"), JobKey(name="dfm-ab-p-2-1", id="999")]
PIECES = st.sampled_from(
    ["Job <101>", " is submitted to queue <q>.", "\n", " is not found", "LSF is down. Please wait ...", "{", "}", '{"RECORDS":[', "]}",
     '{"JOBID":"101","STAT":"RUN"}', '"', ",", "101^0^RUN^h^-^-^-^dfm-ab-p-1-1", "101 u RUN q f h n Nov 1 1:00", "^", "Usage: bjobs",
     "Exited with exit code ", "1", "99999999999", "Done successfully", ", Job Name <dfm-ab-p-1-1>", "TERM_", "OWNER", "\n" + " " * 21,
     ": Job has already finished", " is being terminated", "No job found", "\0", "\u0661", "JOBID USER STAT", "Job <0>", "null"]
)  # fmt: skip
STREAM = st.one_of(st.text(max_size=40), st.lists(PIECES, max_size=12).map("".join))
OUTPUT = st.builds(
    CommandOutput,
    status=st.sampled_from([0, 1, 99, 126, 127, 137, 143, 254, 255]),
    stdout=STREAM,
    stderr=STREAM,
    is_timed_out=st.booleans(),
)


@settings(max_examples=400, deadline=None)
@given(OUTPUT)
def test_a_submission_names_a_job_or_says_what_to_do_next(output: CommandOutput) -> None:
    match LsfDialect(LsfOptions()).parse_submit(JOB, output):
        case Submitted(id=job):
            assert is_id(job)
            assert f"Job <{job}> is submitted" in output.stdout + "\n" + output.stderr
        case SubmitFailed(kind=kind, text=text):
            assert text
            assert kind is FailureKind.AMBIGUOUS or (output.status != 0 and not output.is_timed_out)


@settings(max_examples=400, deadline=None)
@given(OUTPUT, st.sampled_from(Form))
def test_a_query_lists_or_misses_each_job_or_is_no_answer(output: CommandOutput, form: Form) -> None:
    dialect = LsfDialect(LsfOptions(name_query="ids"), form=form)
    (command,) = dialect.query("dfm-ab-", KEYS)
    match dialect.parse_query(command, output):
        case Listed(jobs=jobs, missing=missing):
            assert not output.is_timed_out
            assert {job.id for job in jobs} & {"101", "999"} == {key.id for key in KEYS} - {key.id for key in missing}
            assert all(is_id(job.id) and (job.cause is None) == (job.state is not JobState.ENDED) for job in jobs)
            assert output.stdout or output.stderr
        case QueryFailed(text=text):
            assert text
        case FormatRefused(next=simpler):
            assert isinstance(simpler, LsfDialect)
            assert simpler.form.value == form.value + 1


@settings(max_examples=400, deadline=None)
@given(OUTPUT)
def test_a_history_tells_of_an_end_of_this_job_or_nothing(output: CommandOutput) -> None:
    found = LsfDialect(LsfOptions()).parse_history(KEYS[0], output)
    if found is not None:
        assert (found.id, found.state, output.is_timed_out) == ("101", JobState.ENDED, False)
        assert found.cause is not None
        assert "Job <101>" in output.stdout


@settings(max_examples=200, deadline=None)
@given(OUTPUT)
def test_a_kill_tells_of_no_job_that_was_not_asked_about(output: CommandOutput) -> None:
    dialect = LsfDialect(LsfOptions())
    (command,) = dialect.cancel(KEYS)
    assert set(dialect.parse_cancel(command, output).states) <= {"101", "999"}


@settings(max_examples=200, deadline=None)
@given(OUTPUT)
def test_a_check_always_comes_to_a_finding(output: CommandOutput) -> None:
    for probe in LsfDialect(LsfOptions(queue="regr")).probes():
        assert list(probe.judge(output))


def test_a_document_of_absurd_depth_is_no_answer() -> None:
    dialect = LsfDialect(LsfOptions())
    (command,) = dialect.query("dfm-ab-", KEYS)
    output = CommandOutput(status=0, stdout='{"a":' * 200_000 + "1" + "}" * 200_000, stderr="")
    assert isinstance(dialect.parse_query(command, output), QueryFailed)
