# ruff: noqa: ANN401, N802  (options as keywords of any type; tests bear the ids of the requirements)
"""bsub: the whole argument vector, and every answer that sites have been seen to give."""

from dataclasses import replace
from typing import Any

import pytest

from dfm.api.batch import CommandOutput, FailureKind, SubmitAnswer, SubmitFailed, Submitted, WorkerJob
from dfm.api.errors import RunnerError
from dfm.runner.lsf.dialect import LsfDialect
from dfm.runner.lsf.options import LsfOptions

GIB = 1024**3
JOB = WorkerJob(
    name="dfm-ab12cd34-default-1-1",
    slot="s-0001",
    argv=("/opt/dfm/bin/dfm", "worker", "--access", "/shared/dfm/run/access.json"),
    directory="/shared/proj",
    log="/shared/dfm/workers/dfm-ab12cd34-default-1-1.log",
)
ALWAYS = ("-J", "dfm-ab12cd34-default-1-1", "-n", "1", "-rn", "-cwd", "/shared/proj", "-o", "/dev/null")


def argv(job: WorkerJob = JOB, **options: Any) -> tuple[str, ...]:
    return LsfDialect(LsfOptions(**options)).submit(job).argv


def flags(job: WorkerJob = JOB, **options: Any) -> tuple[str, ...]:
    """What stands between bsub and the worker's command."""
    words = argv(job, **options)
    assert words[0] == "bsub"
    assert words[-4:] == JOB.argv
    return words[1:-4]


def answer(stdout: str = "", stderr: str = "", status: int = 0, *, is_timed_out: bool = False) -> SubmitAnswer:
    output = CommandOutput(status=status, stdout=stdout, stderr=stderr, is_timed_out=is_timed_out)
    return LsfDialect(LsfOptions()).parse_submit(JOB, output)


def refused(stderr: str, status: int = 255, stdout: str = "", **options: Any) -> FailureKind:
    output = CommandOutput(status=status, stdout=stdout, stderr=stderr)
    found = LsfDialect(LsfOptions(**options)).parse_submit(JOB, output)
    assert isinstance(found, SubmitFailed)
    return found.kind


# L1


@pytest.mark.parametrize(
    ("stdout", "stderr", "status", "job"),
    [
        ("Job <101> is submitted to default queue <normal>.\n", "", 0, "101"),
        ("Job <102> is submitted to queue <regr>.\n", "", 0, "102"),
        ("Job is submitted to <cpp> project.\nJob <103> is submitted to queue <regr>.\n", "", 0, "103"),
        ("Cannot connect to LSF. Please wait ...\nJob <104> is submitted to default queue <normal>.\n", "", 0, "104"),
        (
            "Verifying job submission parameters...\nAccount to charge: x\nJob <105> is submitted to queue <q>.\n",
            "",
            0,
            "105",
        ),
        ("", "Job <106> is submitted to queue <regr>.\n", 0, "106"),
        ("Job <107> is submitted to queue <regr>.\n", "wrapper: cannot write its log\n", 1, "107"),
        ("Job <108> is submitted to queue <regr>.\n", "Job will be scheduled after Wed Nov 25 16:00:00\n", 0, "108"),
        ("Job <2147483646> is submitted to queue <regr>.\n", "", 0, "2147483646"),
        ("[site] Job <109> is submitted to queue <regr>. Have fun\n", "", 0, "109"),
    ],
)
def test_L1_the_job_line_is_found_on_any_line_whatever_the_status(
    stdout: str, stderr: str, status: int, job: str
) -> None:
    assert answer(stdout, stderr, status) == Submitted(id=job)


def test_L1_stdout_is_looked_at_before_stderr() -> None:
    assert answer("Job <1> is submitted to queue <a>.\n", "Job <2> is submitted to queue <a>.\n") == Submitted(id="1")


def test_L1_of_several_jobs_the_last_is_taken_with_a_warning() -> None:
    found = answer("Job <7> is submitted to queue <a>.\nJob <8> is submitted to queue <a>.\n")
    assert found == Submitted(id="8", warning="bsub named several jobs, 7, 8; the last one is taken")


def test_L1_a_project_line_alone_is_no_job() -> None:
    found = answer("Job is submitted to <cpp> project.\n")
    assert isinstance(found, SubmitFailed)
    assert found.kind is FailureKind.AMBIGUOUS


def test_L1_a_job_line_counts_though_bsub_was_killed_after_it() -> None:
    assert answer("Job <9> is submitted to queue <a>.\n", status=143, is_timed_out=True) == Submitted(id="9")


# L3


def test_L3_nothing_that_blocks_is_ever_passed() -> None:
    everything = argv(
        replace(JOB, cores=8, memory_bytes=GIB, wall_seconds=60, queue="q", resource_select=("a",), excluded_hosts=("h",)),
        project="p", user_group="g", application="a", sla="s", license_project="l", priority=1, hosts=("h",),
        exclusive=True, set_M=True,
    )  # fmt: skip
    assert not {"-K", "-I", "-Ip", "-Is", "-E", "-pack", "bwait", "bpeek"} & set(everything)


# L4


def test_L4_argv_is_the_default_form_and_passes_plain_words_as_they_are() -> None:
    command = LsfDialect(LsfOptions()).submit(JOB)
    assert command.argv == ("bsub", *ALWAYS, *JOB.argv)
    assert (command.stdin, command.files, command.timeout_seconds) == (None, {}, 120.0)


def test_L4_a_command_with_other_words_is_one_word_quoted_for_the_shell_of_the_node() -> None:
    job = replace(JOB, argv=("/opt/dfm", "worker", "--access", "/a dir/it's;$HOME"))
    assert argv(job) == ("bsub", *ALWAYS, """/opt/dfm worker --access '/a dir/it'"'"'s;$HOME'""")


def test_L4_stdin_gives_the_same_command_as_a_script() -> None:
    command = LsfDialect(LsfOptions(submit_form="stdin")).submit(JOB)
    assert command.argv == ("bsub", *ALWAYS)
    assert command.stdin == (
        "#!/bin/sh\n"
        "cd /shared/proj || exit 2\n"
        "exec /opt/dfm/bin/dfm worker --access /shared/dfm/run/access.json\n"
    )  # fmt: skip


def test_L4_script_writes_the_same_script_beside_the_log_and_passes_its_path() -> None:
    by_stdin = LsfDialect(LsfOptions(submit_form="stdin")).submit(JOB)
    command = LsfDialect(LsfOptions(submit_form="script")).submit(JOB)
    path = "/shared/dfm/workers/dfm-ab12cd34-default-1-1.sh"
    assert command.argv == ("bsub", *ALWAYS, path)
    assert command.files == {path: by_stdin.stdin}
    assert command.stdin is None


@pytest.mark.parametrize(
    ("given", "on_the_node"),
    [
        (("/usr/bin/python3", "-m", "dfm.core", "worker"), ("/cad/dfm", "worker")),
        (("/usr/bin/python3", "-m", "dfm.core.worker", "--slot"), ("/cad/dfm", "worker", "--slot")),
        (("/usr/bin/python3", "-I", "-m", "dfm.core", "worker"), ("/cad/dfm", "worker")),
        (("/venv/bin/dfm", "worker", "-m", "x"), ("/cad/dfm", "worker", "-m", "x")),
        (("dfm",), ("/cad/dfm",)),
    ],
)
def test_L4_the_path_of_dfm_on_the_nodes_replaces_the_program(
    given: tuple[str, ...], on_the_node: tuple[str, ...]
) -> None:
    assert argv(replace(JOB, argv=given), worker_dfm_path="/cad/dfm") == ("bsub", *ALWAYS, *on_the_node)


# L5


@pytest.mark.parametrize(
    ("change", "options", "expected"),
    [
        ({}, {}, ALWAYS),
        ({"cores": 4}, {}, (*ALWAYS[:3], "4", *ALWAYS[4:], "-R", "span[hosts=1]")),
        ({"cores": 4}, {"span_hosts": False}, (*ALWAYS[:3], "4", *ALWAYS[4:])),
        ({"wall_seconds": 3600}, {}, (*ALWAYS, "-W", "60")),
        ({"wall_seconds": 3601}, {}, (*ALWAYS, "-W", "61")),
        ({"wall_seconds": 0.5}, {}, (*ALWAYS, "-W", "1")),
        ({}, {"output": "omit"}, ALWAYS[:-2]),
        ({}, {"output": "file"}, (*ALWAYS[:-1], "/shared/dfm/workers/dfm-ab12cd34-default-1-1.%J.out")),
    ],
)
def test_L5_name_slots_rn_output_limit_and_span_are_always_passed(
    change: dict[str, Any], options: dict[str, Any], expected: tuple[str, ...]
) -> None:
    assert flags(replace(JOB, **change), **options) == expected


# L6


@pytest.mark.parametrize(
    ("cores", "options", "expected"),
    [
        (4, {}, ("-R", "rusage[mem=8192] span[hosts=1]")),
        (4, {"mem_per": "slot"}, ("-R", "rusage[mem=2048] span[hosts=1]")),
        (4, {"mem_unit": "KB"}, ("-R", "rusage[mem=8388608] span[hosts=1]")),
        (4, {"mem_unit": "GB", "mem_suffix": True}, ("-R", "rusage[mem=8GB] span[hosts=1]")),
        (4, {"mem_unit": "GB", "mem_per": "slot"}, ("-R", "rusage[mem=2] span[hosts=1]")),
        (3, {"mem_per": "slot"}, ("-R", "rusage[mem=2731] span[hosts=1]")),
        (3, {"mem_per": "slot", "mem_unit": "GB"}, ("-R", "rusage[mem=3] span[hosts=1]")),
        (1, {"mem_suffix": True}, ("-R", "rusage[mem=8192MB]")),
        (1, {"set_M": True}, ("-M", "8192", "-R", "rusage[mem=8192]")),
        (4, {"set_M": True, "mem_per": "slot"}, ("-M", "8192", "-R", "rusage[mem=2048] span[hosts=1]")),
        (1, {"set_M": True, "mem_limit_unit": "KB"}, ("-M", "8388608", "-R", "rusage[mem=8192]")),
        (1, {"set_M": True, "mem_unit": "GB", "mem_suffix": True}, ("-M", "8GB", "-R", "rusage[mem=8GB]")),
    ],
)
def test_L6_memory_is_rendered_in_the_units_of_the_site(
    cores: int, options: dict[str, Any], expected: tuple[str, ...]
) -> None:
    found = flags(replace(JOB, cores=cores, memory_bytes=8 * GIB), **options)
    assert found == (*ALWAYS[:3], str(cores), *ALWAYS[4:], *expected)


@pytest.mark.parametrize(("amount", "expected"), [(1, "1"), (1024**2, "1"), (1024**2 + 1, "2"), (8 * GIB - 1, "8192")])
def test_L6_memory_is_rounded_up(amount: int, expected: str) -> None:
    assert flags(replace(JOB, memory_bytes=amount)) == (*ALWAYS, "-R", f"rusage[mem={expected}]")


def test_L6_without_an_amount_the_queue_decides() -> None:
    assert flags(set_M=True) == ALWAYS


# L7


def test_L7_what_the_site_sets_is_passed_through_in_order() -> None:
    found = flags(
        queue="regr",
        project="chip b0",
        user_group="dv",
        application="sim",
        sla="gold",
        license_project="lic a",
        priority=50,
        hosts=("hostA", "grp+2", "others"),
        exclusive=True,
        resource_select=("type==any",),
        resource_requirements=("rusage[xcelium=1,xcelium_dynamic=1:duration=1]", "order[-slots]"),
        bsub_extra=("-env", "all, ~DISPLAY"),
    )
    assert found == (
        *ALWAYS,
        *("-q", "regr", "-P", "chip b0", "-G", "dv", "-app", "sim", "-sla", "gold", "-Lp", "lic a", "-sp", "50"),
        *("-m", "hostA grp+2 others", "-x"),
        *("-R", "select[type==any]", "-R", "rusage[xcelium=1,xcelium_dynamic=1:duration=1]", "-R", "order[-slots]"),
        *("-env", "all, ~DISPLAY"),
    )


def test_L7_the_queue_of_the_task_beats_the_option() -> None:
    assert flags(replace(JOB, queue="night"), queue="regr") == (*ALWAYS, "-q", "night")


@pytest.mark.parametrize(
    ("ours", "theirs", "hosts", "expected"),
    [
        (("a",), ("b>1", "c==x"), (), "select[a && b>1 && c==x]"),
        ((), ("a || b", "c"), (), "select[(a || b) && c]"),
        ((), ("select[mem>4000]", " c "), (), "select[mem>4000 && c]"),
        (("a",), ("a",), (), "select[a]"),
        ((), (), ("node1", "node-2"), "select[hname!='node1' && hname!='node-2']"),
        (("a",), (), ("node1",), "select[a && hname!='node1']"),
    ],
)
def test_L7_predicates_are_joined_in_one_select_section(
    ours: tuple[str, ...], theirs: tuple[str, ...], hosts: tuple[str, ...], expected: str
) -> None:
    job = replace(JOB, resource_select=theirs, excluded_hosts=hosts)
    assert flags(job, resource_select=ours) == (*ALWAYS, "-R", expected)


def test_C11_hosts_that_eat_jobs_are_excluded_beside_memory_and_span() -> None:
    job = replace(JOB, cores=2, memory_bytes=GIB, excluded_hosts=("bad1",))
    assert flags(job)[-2:] == ("-R", "select[hname!='bad1'] rusage[mem=1024] span[hosts=1]")


# L16, L18


def test_L16_no_licence_is_asked_for_by_itself() -> None:
    job = replace(JOB, cores=2, memory_bytes=GIB, queue="q")
    assert [word for word in flags(job) if "rusage" in word] == ["rusage[mem=1024] span[hosts=1]"]
    assert LsfDialect(LsfOptions()).held_tokens == {}


@pytest.mark.parametrize(
    ("requirements", "held"),
    [
        (("rusage[xcelium=1]",), {"xcelium": 1}),
        (("rusage[mem=4000:vcs=2:vip=1]", "select[type==any] rusage[vcs=1]"), {"vcs": 3, "vip": 1}),
        (("rusage[xcelium=1,xcelium_dynamic=1:duration=1]",), {"xcelium": 1}),
        (("rusage[xcelium=1:duration=1:decay=1]", "rusage[swp=10]", "span[ptile=2]"), {}),
    ],
)
def test_L16_what_a_worker_holds_as_long_as_it_lives_is_known(requirements: tuple[str, ...], held: object) -> None:
    assert LsfDialect(LsfOptions(resource_requirements=requirements)).held_tokens == held


@pytest.mark.parametrize(
    ("omitted", "expected"),
    [
        (("-rn",), (*ALWAYS[:4], *ALWAYS[5:])),
        (("-rn", "-cwd"), (*ALWAYS[:4], "-o", "/dev/null")),
        (("-n",), (*ALWAYS[:2], *ALWAYS[4:])),
        (("-o", "-W"), ALWAYS[:-2]),
    ],
)
def test_L18_each_flag_of_ours_can_be_left_out(omitted: tuple[str, ...], expected: tuple[str, ...]) -> None:
    job = replace(JOB, wall_seconds=None if "-W" not in omitted else 60)
    assert flags(job, omit_flags=omitted) == expected


def test_L18_leaving_out_R_and_M_leaves_out_every_requirement() -> None:
    job = replace(JOB, cores=2, memory_bytes=GIB)
    assert flags(job, omit_flags=("-R", "-M"), set_M=True) == (*ALWAYS[:3], "2", *ALWAYS[4:])


# C


def test_C2_the_unique_name_of_the_attempt_is_the_name_of_the_job() -> None:
    command = LsfDialect(LsfOptions()).submit(JOB)
    assert command.argv[1:3] == ("-J", JOB.name)
    assert [key.name for key in command.asked] == [JOB.name]


def test_C8_a_wrapper_is_a_prefix_of_words() -> None:
    assert argv(bsub_cmd=("/cad/bin/lsf_bsub", "-proj", "X Y"))[:4] == ("/cad/bin/lsf_bsub", "-proj", "X Y", "-J")


def test_C8_behind_ssh_the_words_are_quoted_for_the_shell_there() -> None:
    job = replace(JOB, cores=2)
    assert argv(job, bsub_cmd=("ssh", "login1", "bsub"), project="a b; rm x") == (
        *("ssh", "login1", "bsub", "-J", JOB.name, "-n", "2", "-rn", "-cwd", "/shared/proj", "-o", "/dev/null"),
        *("-P", "'a b; rm x'", "-R", "'span[hosts=1]'", *JOB.argv),
    )


def test_C20_no_secret_is_in_the_words_or_the_environment() -> None:
    command = LsfDialect(LsfOptions()).submit(JOB)
    assert command.set_env == {"LC_ALL": "C", "LSB_NTRIES": "1"}


def test_C21_what_is_shown_is_what_is_run_quoted_for_a_shell() -> None:
    job = replace(JOB, cores=2)
    assert LsfDialect(LsfOptions(project="a b")).shown(job) == (
        "bsub -J dfm-ab12cd34-default-1-1 -n 2 -rn -cwd /shared/proj -o /dev/null -P 'a b' -R 'span[hosts=1]' "
        "/opt/dfm/bin/dfm worker --access /shared/dfm/run/access.json"
    )


def test_C21_a_script_is_shown_with_the_command_that_submits_it() -> None:
    assert LsfDialect(LsfOptions(submit_form="stdin")).shown(JOB) == (
        "bsub -J dfm-ab12cd34-default-1-1 -n 1 -rn -cwd /shared/proj -o /dev/null <<'END'\n"
        "#!/bin/sh\n"
        "cd /shared/proj || exit 2\n"
        "exec /opt/dfm/bin/dfm worker --access /shared/dfm/run/access.json\n"
        "END"
    )
    assert LsfDialect(LsfOptions(submit_form="script")).shown(JOB) == (
        "cat > /shared/dfm/workers/dfm-ab12cd34-default-1-1.sh <<'END'\n"
        "#!/bin/sh\n"
        "cd /shared/proj || exit 2\n"
        "exec /opt/dfm/bin/dfm worker --access /shared/dfm/run/access.json\n"
        "END\n"
        "bsub -J dfm-ab12cd34-default-1-1 -n 1 -rn -cwd /shared/proj -o /dev/null "
        "/shared/dfm/workers/dfm-ab12cd34-default-1-1.sh"
    )


# C9

NOT_SUBMITTED = " Job not submitted.\n"


@pytest.mark.parametrize(
    "text",
    [
        "nosuch: No such queue." + NOT_SUBMITTED,
        "regr: User cannot use the queue." + NOT_SUBMITTED,
        "Bad resource requirement syntax." + NOT_SUBMITTED,
        'Error near "select" : duplicate section.' + NOT_SUBMITTED,
        'Error in select section: Expected number, string, name, or "(".' + NOT_SUBMITTED,
        "Error in rusage section." + NOT_SUBMITTED,
        "'&' cannot be used in the resource requirement section." + NOT_SUBMITTED,
        "Too many processors requested." + NOT_SUBMITTED,
        "RUNLIMIT: Cannot exceed queue's hard limit(s)." + NOT_SUBMITTED,
        "MEMLIMIT: Cannot exceed queue's hard limit(s)." + NOT_SUBMITTED,
        "1x: Bad RUNLIMIT specification." + NOT_SUBMITTED,
        "Service class does not exist." + NOT_SUBMITTED,
        "Project name must be specified using bsub -P." + NOT_SUBMITTED,
        "Request aborted by esub. Job not submitted.\n",
        "Returning output by mail is not supported; please use the -o option\nRequest aborted by esub." + NOT_SUBMITTED,
        "The amount is not in the range of RESRSV_LIMIT of the queue." + NOT_SUBMITTED,
        "Usage: bsub [-h] [-V] [-H] ...\n",
        "Something that nobody has seen yet." + NOT_SUBMITTED,
        "Cannot connect to LSF. Please wait ...\nnosuch: No such queue." + NOT_SUBMITTED,
    ],
)
def test_C9_a_refusal_is_permanent_and_shown_in_the_words_of_lsf(text: str) -> None:
    found = answer(stderr=text, status=255)
    assert found == SubmitFailed(kind=FailureKind.PERMANENT, text=text.strip())


@pytest.mark.parametrize(
    "text",
    [
        "User <u>: Pending job threshold reached." + NOT_SUBMITTED,
        "User <u>: Pending job threshold reached. Retrying in 60 seconds...\n",
        "Request from non-LSF host rejected\n",
        "LSF is down. Please wait ...\n" * 4 + "Request from non-LSF host rejected\n" * 3,
        "LSF is down. Please wait...\n",
        "Failed in an LSF library call: Slave LIM configuration is not ready yet." + NOT_SUBMITTED,
        "Communication timeout." + NOT_SUBMITTED,
        "Batch daemon cannot fork." + NOT_SUBMITTED,
        "Cannot connect to LSF. Please wait ...\n",
        "LSF is processing your request. Please wait...\n",
        "Batch system concurrent job query limit exceeded\n",
        "batch system daemon not responding ... still trying\n",
        "Connection refused by server." + NOT_SUBMITTED,
        "ssh: connect to host login1 port 22: Connection refused\n",
    ],
)
def test_C9_a_busy_or_absent_lsf_is_transient(text: str) -> None:
    assert answer(stderr=text, status=255) == SubmitFailed(kind=FailureKind.TRANSIENT, text=text.strip())


@pytest.mark.parametrize(
    ("output", "text"),
    [
        (CommandOutput(status=0, stdout="", stderr=""), "bsub ended well and named no job"),
        (CommandOutput(status=255, stdout="", stderr=""), "bsub: exit status 255"),
        (CommandOutput(status=137, stdout="", stderr=""), "bsub: exit status 137"),
        (CommandOutput(status=255, stdout="", stderr="client_loop: send disconnect: Broken pipe\n"),
         "client_loop: send disconnect: Broken pipe"),
        (CommandOutput(status=1, stdout="", stderr="Traceback (most recent call last):\n"),
         "Traceback (most recent call last):"),
        (CommandOutput(status=143, stdout="", stderr="batch system daemon not responding ... still trying\n", is_timed_out=True),
         "bsub gave no answer in time: batch system daemon not responding ... still trying"),
        (CommandOutput(status=143, stdout="", stderr="", is_timed_out=True), "bsub gave no answer in time"),
    ],
)  # fmt: skip
def test_C9_where_the_job_may_exist_it_is_ambiguous(output: CommandOutput, text: str) -> None:
    found = LsfDialect(LsfOptions()).parse_submit(JOB, output)
    assert found == SubmitFailed(kind=FailureKind.AMBIGUOUS, text=text)


@pytest.mark.parametrize("status", [126, 127])
def test_C9_a_bsub_that_is_not_there_is_permanent_and_says_what_to_set(status: int) -> None:
    assert answer(status=status) == SubmitFailed(
        kind=FailureKind.PERMANENT,
        text=f"bsub cannot be started (exit status {status}); "
        "put LSF's commands on PATH (source profile.lsf) or set runner.lsf.bsub_cmd",
    )


def test_C9_the_patterns_of_the_site_come_first() -> None:
    licence_server = "gate: licence server is away." + NOT_SUBMITTED
    assert refused(licence_server) is FailureKind.PERMANENT
    assert refused(licence_server, transient_patterns=("licence server",)) is FailureKind.TRANSIENT
    assert refused("site: closed for today", permanent_patterns=("^site: closed",)) is FailureKind.PERMANENT
    assert refused("x: No such queue.", transient_patterns=("No such queue",)) is FailureKind.TRANSIENT


def test_C9_a_long_answer_is_shortened() -> None:
    found = answer(stderr="x" * 5000 + NOT_SUBMITTED, status=255)
    assert isinstance(found, SubmitFailed)
    assert found.text == "x" * 2000 + " ..."


# values


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "a[1-4]"}, "name of the worker job: 'a[1-4]' is no name of a worker job: letters, digits, '.', '-' and '_'"),
        ({"queue": "-Is"}, "queue of the task: '-Is' begins with '-' and would be taken for an option"),
        ({"queue": "a;b"}, "queue of the task: 'a;b' is no name of a queue"),
        ({"queue": ""}, "queue of the task: '' is empty"),
        ({"resource_select": ("mem>1]",)},
         "resource_select of the task: 'mem>1]' is no predicate: a section such as rusage[...] stands in resource_requirements"),
        ({"resource_select": ("rusage[x=1]",)},
         "resource_select of the task: 'rusage[x=1]' is no predicate: a section such as rusage[...] stands in resource_requirements"),
        ({"resource_select": ("(a",)}, "resource_select of the task: '(a': '(' is not closed"),
        ({"resource_select": ("a) || (b",)}, "resource_select of the task: 'a) || (b': ')' closes nothing"),
        ({"resource_select": ("a & b",)}, "resource_select of the task: 'a & b': predicates are joined with && and ||"),
        ({"resource_select": ("name=='x",)}, "resource_select of the task: \"name=='x\": a quote is not closed"),
        ({"excluded_hosts": ("a' || 'b",)}, "host to exclude: \"a' || 'b\" is no name of a host"),
        ({"directory": "relative"}, "directory of the worker job: 'relative' is not absolute"),
        ({"directory": "/a\nb"}, "directory of the worker job: '/a\\nb' holds a character that cannot be printed"),
        ({"directory": "/a/%U"}, "path of the worker job: LSF would replace what follows % in -cwd '/a/%U'"),
        ({"cores": 0}, "size of the worker job dfm-ab12cd34-default-1-1: 0 cores"),
        ({"memory_bytes": 0}, "size of the worker job dfm-ab12cd34-default-1-1: 0 bytes of memory"),
        ({"wall_seconds": -1}, "size of the worker job dfm-ab12cd34-default-1-1: a limit of -1 seconds"),
        ({"argv": ()}, "command of the worker: it is empty"),
        ({"argv": ("-K", "x")}, "command of the worker: '-K' would not be taken for a command"),
        ({"argv": ("dfm", "a\n#BSUB -K")}, "command of the worker: 'a\\n#BSUB -K' holds a character that cannot be printed"),
        ({"argv": ("dfm", "x" * 4094)}, "command of the worker: it has 4098 bytes, and bsub takes 4094"),
    ],
)  # fmt: skip
def test_a_value_that_lsf_would_misread_is_refused_and_nothing_is_submitted(
    change: dict[str, Any], message: str
) -> None:
    dialect, job = LsfDialect(LsfOptions()), replace(JOB, **change)
    with pytest.raises(RunnerError) as refusal:
        dialect.validate(job)
    assert refusal.value.message == message
    assert refusal.value.hint
    with pytest.raises(RunnerError):
        dialect.submit(job)


def test_a_percent_is_fine_where_lsf_does_not_see_it() -> None:
    job = replace(JOB, directory="/a/100%", log="/b/50%/w.log")
    LsfDialect(LsfOptions(omit_flags=("-cwd",))).validate(job)
    with pytest.raises(RunnerError, match=r"% in -o '/b/50%/dfm-"):
        LsfDialect(LsfOptions(omit_flags=("-cwd",), output="file")).validate(job)


def test_C14_the_limit_of_the_worker_is_the_limit_of_the_job() -> None:
    assert flags(replace(JOB, wall_seconds=4 * 3600.0)) == (*ALWAYS, "-W", "240")


def test_C18_a_script_ends_as_lsf_does_where_the_directory_is_missing() -> None:
    command = LsfDialect(LsfOptions(submit_form="stdin", omit_flags=("-cwd",))).submit(replace(JOB, directory="/a b"))
    assert command.stdin is not None
    assert command.stdin.splitlines()[1] == "cd '/a b' || exit 2"


def test_a_long_command_is_fine_where_it_is_a_script() -> None:
    LsfDialect(LsfOptions(submit_form="stdin")).validate(replace(JOB, argv=("dfm", "x" * 5000)))


# L17

ARRAY = replace(
    JOB,
    slot="s-1-1.%I",
    argv=(*JOB.argv, "--slot", "s-1-1.%I"),
    log="/shared/dfm/workers/dfm-ab12cd34-default-1-1.%I.log",
)


def array_argv(count: int, **options: Any) -> tuple[str, ...]:
    return LsfDialect(LsfOptions(use_arrays=True, **options)).submit_array(ARRAY, count).argv


def test_L17_arrays_are_behind_a_switch_and_bounded() -> None:
    assert LsfDialect(LsfOptions()).array_size == 1
    assert LsfDialect(LsfOptions(use_arrays=True)).array_size == 1000
    assert LsfDialect(LsfOptions(use_arrays=True, max_array_size=50)).array_size == 50


def test_L17_an_array_is_one_submission_with_a_range_in_its_name() -> None:
    name = ("-J", "dfm-ab12cd34-default-1-1[1-4]")
    assert array_argv(4) == ("bsub", *name, *ALWAYS[2:], *ARRAY.argv)


def test_L17_each_element_has_a_report_of_its_own() -> None:
    words = array_argv(4, output="file")
    assert words[words.index("-o") + 1] == "/shared/dfm/workers/dfm-ab12cd34-default-1-1.%J.%I.out"


def test_L17_an_array_takes_every_form_of_submission() -> None:
    dialect = LsfDialect(LsfOptions(use_arrays=True, submit_form="stdin"))
    command = dialect.submit_array(ARRAY, 2)
    assert command.argv == ("bsub", "-J", "dfm-ab12cd34-default-1-1[1-2]", *ALWAYS[2:])
    assert command.stdin == f"#!/bin/sh\ncd /shared/proj || exit 2\nexec {' '.join(ARRAY.argv)}\n"
    script = LsfDialect(LsfOptions(use_arrays=True, submit_form="script")).submit_array(ARRAY, 2)
    assert list(script.files) == ["/shared/dfm/workers/dfm-ab12cd34-default-1-1.sh"]


def test_L17_the_answer_to_an_array_is_an_id_for_each_element() -> None:
    output = CommandOutput(status=0, stdout="Job <44> is submitted to queue <regr>.\n", stderr="")
    found = LsfDialect(LsfOptions(use_arrays=True)).parse_submit_array(ARRAY, 3, output)
    assert list(found) == [Submitted(id="44[1]"), Submitted(id="44[2]"), Submitted(id="44[3]")]


def test_L17_an_array_that_is_refused_is_refused_in_each_element() -> None:
    output = CommandOutput(status=255, stdout="", stderr="Job array index too large. Job not submitted.\n")
    found = LsfDialect(LsfOptions(use_arrays=True)).parse_submit_array(ARRAY, 2, output)
    assert [answer.kind for answer in found if isinstance(answer, SubmitFailed)] == [FailureKind.PERMANENT] * 2
