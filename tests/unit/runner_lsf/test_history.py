# ruff: noqa: N802  (tests bear the ids of the requirements)
"""bhist -l: ends that bjobs has forgotten."""

import textwrap

import pytest

from dfm.api.batch import CommandOutput, EndCause, JobKey, JobState, JobStatus
from dfm.runner.lsf.dialect import LsfDialect
from dfm.runner.lsf.options import LsfOptions

JOB = JobKey(name="dfm-ab-p-1-1", id="101")
HEAD = """\
Job <101>, Job Name <dfm-ab-p-1-1>, User <dv>, Project <default>, Command </opt/dfm worker>
Wed Nov 25 16:00:00: Submitted from host <login1>, to Queue <normal>, CWD </shared/proj>;
"""
RUN = """\
Wed Nov 25 16:00:10: Dispatched to <hostA>;
Wed Nov 25 16:00:10: Starting (Pid 4711);
Wed Nov 25 16:00:11: Running with execution home </home/dv>, Execution CWD </shared/proj>, Execution Pid <4711>;
"""
TAIL = """
Summary of time in seconds spent in various states by  Wed Nov 25 16:10:00
  PEND     PSUSP    RUN      USUSP    SSUSP    UNKWN    TOTAL
  10       0        590      0        0        0        600
"""


def wrapped(text: str) -> str:
    """Wrap as bhist does: at 80 columns, in the middle of words, 21 blanks before what goes on."""
    lines = []
    for line in text.splitlines():
        lines.append(line[:80])
        rest = line[80:]
        lines += [" " * 21 + rest[start : start + 59] for start in range(0, len(rest), 59)]
    return "\n".join(lines) + "\n"


def told(events: str, job: JobKey = JOB) -> JobStatus | None:
    output = CommandOutput(status=0, stdout=wrapped(HEAD + events + TAIL), stderr="")
    return LsfDialect(LsfOptions()).parse_history(job, output)


def ended(
    cause: EndCause, exit_status: int | None, reason: str, host: str = "hostA", *, is_requeued: bool = False
) -> JobStatus:
    return JobStatus(
        id="101",
        name="dfm-ab-p-1-1",
        state=JobState.ENDED,
        cause=cause,
        exit_status=exit_status,
        host=host,
        reason=reason,
        is_requeued=is_requeued,
    )


def test_L12_history_is_asked_about_one_job_by_its_id() -> None:
    command = LsfDialect(LsfOptions()).history(JOB)
    assert command is not None
    assert (command.argv, command.asked, command.timeout_seconds) == (("bhist", "-l", "101"), (JOB,), 60.0)


def test_L12_history_can_be_switched_off_and_needs_an_id() -> None:
    assert LsfDialect(LsfOptions(history="never")).history(JOB) is None
    assert LsfDialect(LsfOptions()).history(JobKey(name="dfm-ab-p-1-1")) is None
    assert LsfDialect(LsfOptions()).history(JobKey(name="dfm-ab-p-1-1", id="0")) is None


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        (RUN + "Wed Nov 25 16:10:00: Done successfully. The CPU time used is 0.1 seconds;\n",
         ended(EndCause.DONE, 0, "exit code 0")),
        (RUN + "Wed Nov 25 16:10:00: Exited with exit code 140. The CPU time used is 9.1 seconds;\n"
         "Wed Nov 25 16:10:00: Completed <exit>; TERM_RUNLIMIT: job killed after reaching LSF run time limit;\n",
         ended(EndCause.WALLTIME, 140, "TERM_RUNLIMIT: job killed after reaching LSF run time limit")),
        (RUN + "Wed Nov 25 16:10:00: Exited with exit code 140. The CPU time used is 9.1 seconds;\n",
         ended(EndCause.WALLTIME, 140, "exit code 140")),
        (RUN + "Wed Nov 25 16:10:00: Exited with exit code 127. The CPU time used is 0.1 seconds;\n",
         ended(EndCause.LAUNCH, 127, "exit code 127")),
        (RUN + "Wed Nov 25 16:10:00: Exited by signal 9. The CPU time used is 0.1 seconds;\n",
         ended(EndCause.FAILED, 137, "exited by signal 9")),
        (RUN + "Wed Nov 25 16:10:00: Exited by signal 12. The CPU time used is 0.1 seconds;\n",
         ended(EndCause.WALLTIME, 140, "exited by signal 12")),
        (RUN + "Wed Nov 25 16:10:00: Signal <KILL> requested by user or administrator <dv>;\n"
         "Wed Nov 25 16:10:02: Exited with exit code 130. The CPU time used is 0.1 seconds;\n"
         "Wed Nov 25 16:10:02: Completed <exit>; TERM_OWNER: job killed by owner;\n",
         ended(EndCause.KILLED_BY_OWNER, 130, "TERM_OWNER: job killed by owner")),
        ("Wed Nov 25 16:10:00: Exited; job has been forced to exit with exit code 0 by user or administrator <dv>;\n",
         ended(EndCause.LOST, None, "forced to exit; its process may be alive", host="")),
        ("Wed Nov 25 16:10:00: Signal <KILL> requested by user or administrator <dv>;\nWed Nov 25 16:10:00: Exited;\n",
         ended(EndCause.KILLED_BY_OWNER, None, "killed before it ran", host="")),
        (("Wed Nov 25 16:00:10: Dispatched 1 Task(s) on Host(s) <hostB>, Allocated 1 Slot(s) on Host(s) <hostB>;\n"
         "Wed Nov 25 16:10:00: Exited with exit code 1. The CPU time used is 0.1 seconds;\n"
         "Wed Nov 25 16:10:00: Completed <exit>; TERM_MEMLIMIT: job killed after reaching LSF memory usage limit;\n"),
         ended(EndCause.MEMORY, 1, "TERM_MEMLIMIT: job killed after reaching LSF memory usage limit", "hostB")),
    ],
)  # fmt: skip
def test_L12_the_end_is_read_from_wrapped_lines(events: str, expected: JobStatus) -> None:
    assert told(events) == expected


@pytest.mark.parametrize(
    "events",
    [
        "",
        RUN,
        RUN + "Wed Nov 25 16:05:00: Unknown; unable to reach the execution host;\n",
        RUN + "Wed Nov 25 16:05:00: Exited with exit code 130. The CPU time used is 1 seconds;\n"
        "Wed Nov 25 16:05:01: Job has been requeued;\n",
        RUN + "Wed Nov 25 16:05:00: Exited with exit code 1. The CPU time used is 1 seconds;\n" + RUN,
    ],
)
def test_L12_a_job_that_is_alive_has_not_ended(events: str) -> None:
    assert told(events) is None


def test_L12_the_last_run_of_a_job_counts() -> None:
    first = RUN + "Wed Nov 25 16:05:00: Exited with exit code 9. The CPU time used is 1 seconds;\n"
    first += "Wed Nov 25 16:05:00: Completed <exit>; TERM_PREEMPT: job killed after preemption;\n"
    last = RUN.replace("hostA", "hostC") + "Wed Nov 25 16:20:00: Exited with exit code 3. The CPU time is 1;\n"
    assert told(first + last) == ended(EndCause.FAILED, 3, "exit code 3", "hostC")


@pytest.mark.parametrize("status", [0, 255])
def test_L12_a_job_that_history_does_not_know_tells_nothing(status: int) -> None:
    output = CommandOutput(status=status, stdout="No matching job found\n", stderr="")
    assert LsfDialect(LsfOptions()).parse_history(JOB, output) is None


def test_L12_a_history_that_was_killed_tells_nothing() -> None:
    output = CommandOutput(
        status=143, stdout=HEAD + RUN + "Wed Nov 25 16:10:00: Done successfully.\n", stderr="", is_timed_out=True
    )
    assert LsfDialect(LsfOptions()).parse_history(JOB, output) is None


def test_C19_the_history_of_another_job_that_bore_the_id_before_is_passed_over() -> None:
    other = HEAD.replace("dfm-ab-p-1-1", "older") + RUN + "Wed Nov 25 16:10:00: Done successfully. The CPU time\n"
    rule = "-" * 78 + "\n"
    ours = HEAD + RUN + "Wed Nov 25 16:10:00: Exited with exit code 5. The CPU time used is 1 seconds;\n"
    dialect = LsfDialect(LsfOptions())
    both = CommandOutput(status=0, stdout=wrapped(ours + rule + other), stderr="")
    assert dialect.parse_history(JOB, both) == ended(EndCause.FAILED, 5, "exit code 5")
    assert dialect.parse_history(JOB, CommandOutput(status=0, stdout=wrapped(other), stderr="")) is None


@pytest.mark.parametrize("width", range(60, 90, 7))
def test_L12_the_place_of_the_wrap_makes_no_difference(width: int) -> None:
    line = "Wed Nov 25 16:10:00: Exited with exit code 143. The CPU time used is 9.1 seconds; and so on and so on"
    text = textwrap.dedent(HEAD + RUN) + line[:width] + "\n" + " " * 21 + line[width:] + "\n"
    found = LsfDialect(LsfOptions()).parse_history(JOB, CommandOutput(status=0, stdout=text, stderr=""))
    assert found == ended(EndCause.FAILED, 143, "exit code 143")


@pytest.mark.parametrize("width", range(22, 46))
def test_L12_even_where_it_is_in_the_middle_of_the_words_that_count(width: int) -> None:
    line = "Wed Nov 25 16:10:00: Exited with exit code 143. The CPU time used is 9.1 seconds;"
    text = HEAD + RUN + line[:width] + "\n" + " " * 21 + line[width:] + "\n"
    found = LsfDialect(LsfOptions()).parse_history(JOB, CommandOutput(status=0, stdout=text, stderr=""))
    assert found == ended(EndCause.FAILED, 143, "exit code 143")
