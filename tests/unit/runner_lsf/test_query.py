# ruff: noqa: N802  (tests bear the ids of the requirements)
"""bjobs: how it is asked, and what is read out of every form of answer."""

import json
from dataclasses import replace

import pytest

from dfm.api.batch import (
    Command,
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
from dfm.runner.lsf.dialect import LsfDialect
from dfm.runner.lsf.options import LsfOptions
from dfm.runner.lsf.query import Form

PREFIX = "dfm-ab-"
FIRST = JobKey(name="dfm-ab-p-1-1", id="101")
SECOND = JobKey(name="dfm-ab-p-2-1", id="999")
NAMELESS = JobKey(name="dfm-ab-p-3-1")
FIELDS = "jobid jobindex stat exec_host exit_code exit_reason pend_reason job_name"
RUNNING = JobStatus(id="101", name="dfm-ab-p-1-1", state=JobState.RUNNING, host="hostA")


def asked(*jobs: JobKey, form: Form = Form.JSON) -> Command:
    return LsfDialect(LsfOptions(name_query="ids"), form=form).query(PREFIX, jobs)[0]


def read(stdout: str = "", stderr: str = "", status: int = 0, form: Form = Form.JSON, *jobs: JobKey) -> QueryAnswer:
    command = asked(*(jobs or (FIRST, SECOND)), form=form)
    output = CommandOutput(status=status, stdout=stdout, stderr=stderr)
    return LsfDialect(LsfOptions(), form=form).parse_query(command, output)


def record(**fields: str) -> str:
    return json.dumps({"COMMAND": "bjobs", "JOBS": 1, "RECORDS": [{"JOBID": "101", "JOB_NAME": FIRST.name, **fields}]})


def status(**fields: str) -> JobStatus:
    found = read(record(**fields), "", 0, Form.JSON, FIRST)
    assert isinstance(found, Listed)
    (one,) = found.jobs
    return one


# L8, C6


def test_L8_the_first_rung_asks_once_for_all_jobs_by_the_pattern_of_their_names() -> None:
    (command,) = LsfDialect(LsfOptions()).query(PREFIX, [FIRST, SECOND, NAMELESS])
    assert command.argv == ("bjobs", "-a", "-json", "-o", FIELDS, "-J", "dfm-ab-*")
    assert (command.asked, command.timeout_seconds, command.stdin) == ((FIRST, SECOND, NAMELESS), 60.0, None)


@pytest.mark.parametrize(
    ("form", "words"),
    [
        (Form.JSON, ("bjobs", "-a", "-json", "-o", FIELDS, "101", "999")),
        (Form.DELIMITED, ("bjobs", "-a", "-noheader", "-o", f"{FIELDS} delimiter='^'", "101", "999")),
        (Form.COLUMNS, ("bjobs", "-a", "-o", "jobid stat exec_host job_name", "101", "999")),
        (Form.WIDE, ("bjobs", "-a", "-w", "101", "999")),
    ],
)
def test_L8_each_rung_asks_in_a_simpler_form(form: Form, words: tuple[str, ...]) -> None:
    assert asked(FIRST, SECOND, form=form).argv == words


@pytest.mark.parametrize("form", [Form.DELIMITED, Form.COLUMNS, Form.WIDE])
def test_L8_below_the_first_rung_ids_are_asked_and_jobs_without_one_by_name(form: Form) -> None:
    commands = LsfDialect(LsfOptions(), form=form).query(PREFIX, [FIRST, NAMELESS])
    assert [command.argv[-2:] for command in commands] == [(commands[0].argv[-2], "101"), ("-J", NAMELESS.name)]
    assert [command.asked for command in commands] == [(FIRST,), (NAMELESS,)]


def test_L8_ids_are_asked_in_chunks_of_200() -> None:
    jobs = [JobKey(name=f"dfm-ab-p-{number}-1", id=str(number)) for number in range(1, 402)]
    commands = LsfDialect(LsfOptions(name_query="ids")).query(PREFIX, jobs)
    assert [len(command.asked) for command in commands] == [200, 200, 1]
    assert [word for command in commands for word in command.argv[5:]] == [str(job.id) for job in jobs]


@pytest.mark.parametrize(
    ("form", "text", "simpler"),
    [
        (Form.JSON, "bjobs: illegal option -- j\nUsage: bjobs [-h] [-V] [-w | -l] ...\n", Form.DELIMITED),
        (Form.JSON, "Usage: bjobs [-h]\n", Form.DELIMITED),
        (Form.DELIMITED, "bjobs: illegal option -- n\n", Form.COLUMNS),
        (Form.DELIMITED, "jobindex in the format string is not a valid field name.\n", Form.COLUMNS),
        (Form.COLUMNS, "<exec_host> in the format string is not a valid field name.\n", Form.WIDE),
    ],
)
def test_L8_a_form_that_is_refused_leads_to_the_next_one(form: Form, text: str, simpler: Form) -> None:
    found = read("", text, 99, form)
    assert found == FormatRefused(text=text.strip(), next=LsfDialect(LsfOptions(), form=simpler))


def test_L8_a_table_in_place_of_json_is_a_refusal() -> None:
    table = "JOBID   USER    STAT  QUEUE      FROM_HOST   EXEC_HOST   JOB_NAME   SUBMIT_TIME\n"
    assert isinstance(read(table), FormatRefused)


def test_L8_below_the_last_rung_there_is_no_answer() -> None:
    found = read("", "Usage: bjobs\n", 255, Form.WIDE)
    assert found == QueryFailed(text="bjobs refuses even its plainest form: Usage: bjobs")


def test_L8_a_refusal_keeps_the_options_of_the_site() -> None:
    dialect = LsfDialect(LsfOptions(queue="regr"))
    command = dialect.query(PREFIX, [FIRST])[0]
    found = dialect.parse_query(command, CommandOutput(status=255, stdout="", stderr="Usage: bjobs\n"))
    assert isinstance(found, FormatRefused)
    assert found.next == replace(dialect, form=Form.DELIMITED)


# L9


def test_L9_json_rows_and_errors_are_read_whatever_the_status() -> None:
    text = (
        '{"COMMAND":"bjobs","JOBS":2,"RECORDS":[{"JOBID":"101","STAT":"RUN"},'
        '{"JOBID":"999","ERROR":"Job <999> is not found"}]}'
    )
    expected = Listed(jobs=(JobStatus(id="101", state=JobState.RUNNING),), missing=(SECOND,))
    assert [read(text, "", status) for status in (0, 99, 254, 255)] == [expected] * 4


@pytest.mark.parametrize("status", [0, 255])
def test_L9_delimited_rows_are_read_and_the_missing_id_from_stderr(status: int) -> None:
    found = read("101^0^RUN^hostA^-^-^-^dfm-ab-p-1-1\n", "Job <999> is not found\n", status, Form.DELIMITED)
    assert found == Listed(jobs=(RUNNING,), missing=(SECOND,))


@pytest.mark.parametrize(
    ("form", "stdout"),
    [
        (Form.COLUMNS, "JOBID   STAT  EXEC_HOST  JOB_NAME\n101     RUN   hostA      dfm-ab-p-1-1\n"),
        (
            Form.WIDE,
            (
                "JOBID   USER    STAT  QUEUE      FROM_HOST   EXEC_HOST   JOB_NAME   SUBMIT_TIME\n"
                "101     dv      RUN   normal     login1      hostA       dfm-ab-p-1-1 Nov 25 16:07\n"
            ),
        ),
    ],
)
def test_L9_tables_are_read_by_their_columns(form: Form, stdout: str) -> None:
    assert read(stdout, "Job <999> is not found\n", 255, form) == Listed(jobs=(RUNNING,), missing=(SECOND,))


def test_L9_a_job_without_a_host_does_not_shift_the_columns() -> None:
    pending = JobStatus(id="101", name="dfm-ab-p-1-1", state=JobState.PENDING)
    wide = (
        "JOBID   USER    STAT  QUEUE      FROM_HOST   EXEC_HOST   JOB_NAME   SUBMIT_TIME\n"
        "101     dv      PEND  normal     login1      {}       dfm-ab-p-1-1 Nov 25 16:07\n"
    )
    assert read(wide.format("-"), "", 0, Form.WIDE, FIRST) == Listed(jobs=(pending,))
    assert read(wide.format(" "), "", 0, Form.WIDE, FIRST) == Listed(jobs=(pending,))
    assert read("JOBID STAT EXEC_HOST JOB_NAME\n101 PEND dfm-ab-p-1-1\n", "", 0, Form.COLUMNS, FIRST) == Listed(
        jobs=(pending,)
    )


def test_L9_continuation_lines_of_parallel_jobs_are_passed_over() -> None:
    stdout = (
        "JOBID   USER    STAT  QUEUE      FROM_HOST   EXEC_HOST   JOB_NAME   SUBMIT_TIME\n"
        "101     dv      RUN   normal     login1      hostA       *m-ab-p-1-1 Nov 25 16:07\n"
        "                                             hostB\n"
    )
    cut = replace(RUNNING, name="*m-ab-p-1-1")
    assert read(stdout, "", 0, Form.WIDE, FIRST) == Listed(jobs=(cut,))


@pytest.mark.parametrize("status", [0, 254, 255])
@pytest.mark.parametrize(
    "text",
    [
        "No unfinished job found\n",
        "No job found\n",
        "No matching job found\n",
        "No running job found\n",
        "No DONE/EXIT job found\n",
        "Job <dfm-ab-*> is not found\n",
        "Job array <dfm-ab-*> is not found\n",
    ],
)
@pytest.mark.parametrize("form", list(Form))
def test_L9_nothing_found_is_a_good_answer(form: Form, text: str, status: int) -> None:
    assert read("", text, status, form) == Listed(jobs=(), missing=(FIRST, SECOND))


def test_L9_an_empty_document_is_a_good_answer() -> None:
    assert read('{"COMMAND":"bjobs","JOBS":0,"RECORDS":[]}') == Listed(jobs=(), missing=(FIRST, SECOND))


@pytest.mark.parametrize("form", list(Form))
@pytest.mark.parametrize(
    "text",
    [
        "batch system daemon not responding ... still trying\n" * 3,
        "LSF is down. Please wait ...\n" * 4 + "Request from non-LSF host rejected\n" * 3,
        "LSF is processing your request. Please wait...\n",
        "Batch system concurrent query limit exceeded\n",
        "Failed in an LSF library call: Communication time out\n",
        "Cannot connect to LSF. Please wait ...\n",
    ],
)
def test_L9_a_busy_or_absent_lsf_is_no_answer(form: Form, text: str) -> None:
    assert read("", text, 255, form) == QueryFailed(text=text.strip())


@pytest.mark.parametrize("form", list(Form))
@pytest.mark.parametrize("status", [0, 255])
def test_L9_silence_is_no_answer(form: Form, status: int) -> None:
    assert read("", "", status, form) == QueryFailed(text=f"bjobs gave an empty answer (exit status {status})")


@pytest.mark.parametrize("form", list(Form))
def test_L9_a_query_that_was_killed_is_no_answer(form: Form) -> None:
    output = CommandOutput(status=143, stdout="101^0^RUN^hostA^-^-^-^dfm-ab-p-1-1\n", stderr="", is_timed_out=True)
    found = LsfDialect(LsfOptions(), form=form).parse_query(asked(FIRST, form=form), output)
    assert found == QueryFailed(text="bjobs gave no answer in 60 s")


@pytest.mark.parametrize(
    "text", ["{garbage", '{"COMMAND":"bjobs","JOBS":2,"RECORDS":[{"JOBID":"1', '{"RECORDS": 5}', '["x"] {}', "}{"]
)
def test_L9_broken_json_is_no_answer(text: str) -> None:
    assert isinstance(read(text), QueryFailed)


@pytest.mark.parametrize("form", [Form.COLUMNS, Form.WIDE])
def test_L9_a_table_that_was_cut_off_is_no_answer(form: Form) -> None:
    cut = "JOBID   USER    STAT  QUEUE      FROM_HOST   EXEC_HOST   JOB_NAME   SUBMIT_TIME\n101     dv"
    assert read(cut, "", 0, form, FIRST) == QueryFailed(text=f"the answer of bjobs cannot be read: {cut}")


def test_L9_what_a_terminal_would_obey_is_not_shown() -> None:
    assert read("{\x1b[2J\x00") == QueryFailed(text="the answer of bjobs cannot be read: {?[2J?")


def test_L9_words_before_the_document_do_no_harm() -> None:
    text = "Cannot connect to LSF. Please wait ...\n" + record(STAT="RUN", EXEC_HOST="hostA") + "\n"
    assert read(text, "", 0, Form.JSON, FIRST) == Listed(jobs=(RUNNING,))


def test_L9_a_line_that_was_cut_off_makes_the_whole_answer_none() -> None:
    cut = "101^0^RUN^hostA^-^-^-^dfm-ab-p-1-1\n999^0^RU"
    assert read(cut, "", 0, Form.DELIMITED) == QueryFailed(text="bjobs was cut off in the middle of a line")


def test_L9_rows_before_lsf_went_down_are_no_answer_for_the_other_jobs() -> None:
    row, down = "101^0^RUN^hostA^-^-^-^dfm-ab-p-1-1\n", "LSF is down. Please wait ...\n"
    assert isinstance(read(row, down, 255, Form.DELIMITED), QueryFailed)
    assert read(row, down, 0, Form.DELIMITED, FIRST) == Listed(jobs=(RUNNING,))


def test_L9_a_reason_may_hold_the_delimiter() -> None:
    found = read("101^0^PEND^-^-^-^a^b^c^dfm-ab-p-1-1\n", "", 0, Form.DELIMITED, FIRST)
    assert found == Listed(jobs=(JobStatus(id="101", name="dfm-ab-p-1-1", state=JobState.PENDING, reason="a^b^c"),))


def test_L9_a_bjobs_that_is_not_there_says_what_to_set() -> None:
    assert read("", "", 127) == QueryFailed(text="bjobs cannot be started; set runner.lsf.bjobs_cmd")


def test_L9_fields_may_all_be_absent() -> None:
    assert read('{"RECORDS":[{"JOBID":"101","STAT":"PEND"},{"STAT":"RUN"},{}]}', "", 0, Form.JSON, FIRST) == Listed(
        jobs=(JobStatus(id="101", state=JobState.PENDING),)
    )


# C4, C16, C19


def test_C3_a_job_that_was_requeued_under_its_id_is_pending_again() -> None:
    again = JobStatus(id="101", name=FIRST.name, state=JobState.PENDING)
    assert read(record(STAT="PEND"), "", 0, Form.JSON, FIRST) == Listed(jobs=(again,))


def test_C6_any_number_of_jobs_is_one_question_of_constant_size() -> None:
    jobs = [JobKey(name=f"dfm-ab-p-{number}-1", id=str(number)) for number in range(1, 1001)]
    one, many = LsfDialect(LsfOptions()).query(PREFIX, jobs[:1]), LsfDialect(LsfOptions()).query(PREFIX, jobs)
    assert [command.argv for command in many] == [command.argv for command in one]
    assert len(many) == 1


def test_L10_a_job_that_is_not_visible_yet_is_missing_and_nothing_more() -> None:
    dialect = LsfDialect(LsfOptions())
    (command,) = dialect.query(PREFIX, [FIRST])
    output = CommandOutput(status=255, stdout="", stderr="Job <dfm-ab-*> is not found\n")
    assert dialect.parse_query(command, output) == Listed(jobs=(), missing=(FIRST,))


def test_C4_absence_is_missing_and_no_end() -> None:
    found = read(record(STAT="RUN", EXEC_HOST="hostA"))
    assert found == Listed(jobs=(RUNNING,), missing=(SECOND,))


def test_C4_a_job_whose_id_is_not_known_is_recognised_by_its_name() -> None:
    key = JobKey(name=FIRST.name)
    dialect = LsfDialect(LsfOptions())
    (command,) = dialect.query(PREFIX, [key, NAMELESS])
    output = CommandOutput(status=0, stdout=record(STAT="RUN", EXEC_HOST="hostA"), stderr="")
    assert dialect.parse_query(command, output) == Listed(jobs=(RUNNING,), missing=(NAMELESS,))


def test_C9_a_lost_submission_is_looked_for_by_its_name() -> None:
    dialect = LsfDialect(LsfOptions())
    command = dialect.find(FIRST.name)
    assert command.argv == ("bjobs", "-a", "-json", "-o", FIELDS, "-J", "dfm-ab-p-1-1")
    there = CommandOutput(status=0, stdout=record(STAT="PEND"), stderr="")
    gone = CommandOutput(status=255, stdout="", stderr="Job <dfm-ab-p-1-1> is not found\n")
    assert dialect.parse_query(command, there) == Listed(
        jobs=(JobStatus(id="101", name=FIRST.name, state=JobState.PENDING),)
    )
    assert dialect.parse_query(command, gone) == Listed(jobs=(), missing=(JobKey(name=FIRST.name),))


def test_C9_a_job_that_is_found_by_its_name_bears_it_though_the_table_cuts_it() -> None:
    dialect = LsfDialect(LsfOptions(), form=Form.COLUMNS)
    output = CommandOutput(status=0, stdout="JOBID STAT EXEC_HOST JOB_NAME\n101 RUN hostA *p-1-1\n", stderr="")
    assert dialect.parse_query(dialect.find(FIRST.name), output) == Listed(jobs=(RUNNING,))


def test_C19_an_id_that_was_used_again_is_not_ours() -> None:
    text = record(STAT="RUN").replace(FIRST.name, "somebody-elses-job")
    assert read(text, "", 0, Form.JSON, FIRST) == Listed(jobs=(), missing=(FIRST,))


def test_C19_jobs_of_ours_that_were_not_asked_about_are_listed_too() -> None:
    found = read(record(STAT="RUN", EXEC_HOST="hostA"), "", 0, Form.JSON, SECOND)
    assert found == Listed(jobs=(RUNNING,), missing=(SECOND,))


# L11


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("PEND", JobState.PENDING),
        ("PROV", JobState.PENDING),
        ("WAIT", JobState.PENDING),
        ("PSUSP", JobState.HELD),
        ("RUN", JobState.RUNNING),
        ("USUSP", JobState.SUSPENDED),
        ("SSUSP", JobState.SUSPENDED),
        ("DONE", JobState.ENDED),
        ("EXIT", JobState.ENDED),
        ("POST_DONE", JobState.ENDED),
        ("POST_ERR", JobState.ENDED),
        ("UNKWN", JobState.UNKNOWN),
        ("ZOMBI", JobState.ENDED),
        ("XYZZY", JobState.UNKNOWN),
    ],
)
def test_L11_states_are_mapped_as_the_manual_says(word: str, state: JobState) -> None:
    assert status(STAT=word).state is state


def test_L11_a_state_that_is_not_known_is_unknown_with_a_warning() -> None:
    assert status(STAT="XYZZY").warning == "LSF tells a state that is not known here: 'XYZZY'"


@pytest.mark.parametrize("word", ["USUSP", "SSUSP"])
def test_C16_a_suspended_job_is_alive(word: str) -> None:
    found = status(STAT=word, EXEC_HOST="hostA")
    assert (found.state, found.cause, found.host) == (JobState.SUSPENDED, None, "hostA")


def test_L15_a_job_that_waits_in_a_chunk_is_pending_with_a_warning() -> None:
    assert status(STAT="WAIT").warning == (
        "the job waits behind another one of its chunk, which may never end: use a queue without CHUNK_JOB_SIZE"
    )


def test_C12_the_reason_of_waiting_is_told() -> None:
    found = status(STAT="PEND", PEND_REASON="Job slot limit reached: 3 hosts;", EXIT_REASON="", EXIT_CODE="")
    assert found.reason == "Job slot limit reached: 3 hosts;"


@pytest.mark.parametrize(
    ("text", "host"), [("hostA", "hostA"), ("4*hostA", "hostA"), ("4*hostA:2*hostB", "hostA"), ("-", ""), ("", "")]
)
def test_the_first_host_of_a_job_is_told(text: str, host: str) -> None:
    assert status(STAT="RUN", EXEC_HOST=text).host == host


@pytest.mark.parametrize(
    ("reason", "has_no_host"),
    [
        ("There are no suitable hosts for the job;", True),
        ("Job's resource requirements not satisfied: 3 hosts;", True),
        ("Job's resource requirements not satisfied: 3 hosts; Job slot limit reached: 2 hosts;", False),
        ("Job's requirements for resource reservation not satisfied;", False),
        ("New job is waiting for scheduling;", False),
        ("", False),
    ],
)
def test_C12_a_job_that_fits_no_host_is_told_from_one_that_waits_for_room(reason: str, *, has_no_host: bool) -> None:
    assert status(STAT="PEND", PEND_REASON=reason).has_no_host == has_no_host


# L14


@pytest.mark.parametrize(
    ("word", "code", "reason", "cause"),
    [
        ("DONE", "0", "", EndCause.DONE),
        ("DONE", "-", "-", EndCause.DONE),
        ("POST_DONE", "0", "", EndCause.DONE),
        ("POST_ERR", "0", "", EndCause.DONE),
        ("ZOMBI", "", "", EndCause.LOST),
        ("EXIT", "1", "", EndCause.FAILED),
        ("EXIT", "140", "", EndCause.WALLTIME),
        ("EXIT", "127", "", EndCause.LAUNCH),
        ("EXIT", "126", "", EndCause.LAUNCH),
        ("EXIT", "2", "", EndCause.LAUNCH),
        ("EXIT", "137", "", EndCause.FAILED),
        ("EXIT", "143", "", EndCause.FAILED),
        ("EXIT", "", "", EndCause.KILLED_BY_OWNER),
        ("EXIT", "137", "TERM_RUNLIMIT: job killed after reaching LSF run time limit", EndCause.WALLTIME),
        ("EXIT", "152", "TERM_CPULIMIT: job killed after reaching LSF CPU usage limit", EndCause.WALLTIME),
        ("EXIT", "140", "TERM_DEADLINE: job killed by deadline", EndCause.WALLTIME),
        ("EXIT", "137", "TERM_MEMLIMIT: job killed after reaching LSF memory usage limit", EndCause.MEMORY),
        ("EXIT", "137", "TERM_SWAP: job killed after reaching LSF swap usage limit", EndCause.MEMORY),
        ("EXIT", "143", "TERM_OWNER: job killed by owner", EndCause.KILLED_BY_OWNER),
        ("EXIT", "", "TERM_FORCE_OWNER: job killed by owner without time for cleanup", EndCause.KILLED_BY_OWNER),
        ("EXIT", "143", "TERM_ADMIN: job killed by root or LSF administrator", EndCause.KILLED_BY_ADMIN),
        ("EXIT", "9", "TERM_FORCE_ADMIN: job killed without cleanup", EndCause.KILLED_BY_ADMIN),
        ("EXIT", "9", "TERM_ORPHAN_SYSTEM: orphan", EndCause.KILLED_BY_ADMIN),
        ("EXIT", "143", "TERM_PREEMPT: job killed after preemption", EndCause.PREEMPTED),
        ("EXIT", "143", "TERM_LOAD: job killed after load exceeded threshold", EndCause.PREEMPTED),
        ("EXIT", "143", "TERM_WINDOW: job killed after queue run window closed", EndCause.PREEMPTED),
        ("EXIT", "143", "TERM_RC_RECLAIM: host was reclaimed", EndCause.PREEMPTED),
        ("EXIT", "143", "TERM_CHKPNT: job killed after checkpointing", EndCause.PREEMPTED),
        ("EXIT", "137", "TERM_PROCESSLIMIT: too many processes", EndCause.FAILED),
        ("EXIT", "137", "TERM_THREADLIMIT: too many threads", EndCause.FAILED),
        ("EXIT", "", "TERM_ZOMBIE: job exited while LSF is not available", EndCause.LOST),
        ("EXIT", "2", "TERM_CWD_NOTEXIST: current working directory is not accessible", EndCause.LAUNCH),
        ("EXIT", "1", "TERM_PRE_EXEC_FAIL: pre-exec failed", EndCause.LAUNCH),
        ("EXIT", "", "TERM_REMOVE_HUNG_JOB: job removed from LSF", EndCause.NODE),
        ("EXIT", "140", "TERM_EXTERNAL_SIGNAL: job killed by a signal external to LSF", EndCause.WALLTIME),
        ("EXIT", "1", "TERM_OTHER: member of a chunk job", EndCause.FAILED),
        ("EXIT", "127", "TERM_UNKNOWN: unknown", EndCause.LAUNCH),
    ],
)  # fmt: skip
def test_L14_ends_are_explained(word: str, code: str, reason: str, cause: EndCause) -> None:
    found = status(STAT=word, EXIT_CODE=code, EXIT_REASON=reason)
    assert (found.state, found.cause) == (JobState.ENDED, cause)
    assert found.exit_status == (int(code) if code.isdigit() else None)
    told = {"127": "exit status 127: the command was not found on the host"}
    told["126"] = "exit status 126: the command cannot be executed on the host"
    assert found.reason == (told.get(code, "") if reason in ("", "-") else reason)


def test_L14_a_job_that_never_had_a_host_was_killed_before_it_ran() -> None:
    for form, text in (
        (Form.DELIMITED, "101^0^EXIT^{}^-^-^-^dfm-ab-p-1-1\n"),
        (Form.COLUMNS, "JOBID STAT EXEC_HOST JOB_NAME\n101 EXIT {} dfm-ab-p-1-1\n"),
    ):
        causes = []
        for host in ("-", "hostA"):
            found = read(text.format(host), "", 0, form, FIRST)
            assert isinstance(found, Listed)
            causes.append(found.jobs[0].cause)
        assert causes == [EndCause.KILLED_BY_OWNER, EndCause.FAILED]


def test_L14_a_job_that_was_requeued_will_run_again() -> None:
    found = status(STAT="EXIT", EXIT_CODE="143", EXIT_REASON="TERM_REQUEUE_ADMIN: job killed and requeued by admin")
    assert (found.cause, found.is_requeued) == (EndCause.KILLED_BY_ADMIN, True)


# L17


ELEMENT = f"{FIRST.name}[3]"


def test_L17_an_element_of_an_array_has_its_index_in_its_id_and_in_its_name() -> None:
    key = JobKey(name=ELEMENT, id="44[3]")
    text = '{"RECORDS":[{"JOBID":"44","JOBINDEX":"3","STAT":"RUN","JOB_NAME":"dfm-ab-p-1-1[3]"}]}'
    assert asked(key).argv[-1] == "44[3]"
    assert read(text, "", 0, Form.JSON, key) == Listed(
        jobs=(JobStatus(id="44[3]", name=ELEMENT, state=JobState.RUNNING),)
    )
    assert status(STAT="RUN", JOBINDEX="0").id == "101"


@pytest.mark.parametrize(
    ("form", "stdout"),
    [
        (Form.DELIMITED, f"44^3^RUN^hostA^-^-^-^{ELEMENT}\n"),
        (Form.COLUMNS, f"JOBID STAT EXEC_HOST JOB_NAME\n44 RUN hostA {ELEMENT}\n"),
        (
            Form.WIDE,
            f"JOBID USER STAT QUEUE FROM_HOST EXEC_HOST JOB_NAME SUBMIT_TIME\n44 me RUN q h hostA {ELEMENT} Nov 25 16:00\n",
        ),
    ],
)
def test_L17_where_no_index_is_told_it_is_that_of_the_name(form: Form, stdout: str) -> None:
    element = JobStatus(id="44[3]", name=ELEMENT, state=JobState.RUNNING, host="hostA")
    assert read(stdout, "", 0, form, JobKey(name=ELEMENT, id="44[3]")) == Listed(jobs=(element,))


def test_L17_an_array_is_looked_for_by_its_name_and_all_its_elements_are_told() -> None:
    rows = "".join(f"44^{index}^PEND^-^-^-^-^{FIRST.name}[{index}]\n" for index in (1, 2))
    found = read(rows, "", 0, Form.DELIMITED, JobKey(name=FIRST.name))
    assert isinstance(found, Listed)
    assert [(job.id, job.name) for job in found.jobs] == [
        ("44[1]", f"{FIRST.name}[1]"),
        ("44[2]", f"{FIRST.name}[2]"),
    ]
    assert found.missing == ()


def test_L17_an_element_that_is_gone_is_missing_though_others_are_listed() -> None:
    keys = [JobKey(name=f"{FIRST.name}[{index}]", id=f"44[{index}]") for index in (1, 2)]
    found = read(f"44^1^RUN^hostA^-^-^-^{FIRST.name}[1]\n", "Job <44[2]> is not found\n", 255, Form.DELIMITED, *keys)
    assert isinstance(found, Listed)
    assert found.missing == (keys[1],)
