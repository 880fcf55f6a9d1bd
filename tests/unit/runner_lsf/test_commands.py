# ruff: noqa: N802  (tests bear the ids of the requirements)
"""The environment and the prefixes of LSF's commands."""

import pytest

from dfm.api.batch import Command, JobKey, WorkerJob
from dfm.runner.lsf.commands import Commands, Tool
from dfm.runner.lsf.dialect import LsfDialect
from dfm.runner.lsf.options import LsfOptions

JOB = WorkerJob(name="dfm-ab-p-1-1", slot="s-1", argv=("/opt/dfm",), directory="/d", log="/d/l")
KEY = JobKey(name="dfm-ab-p-1-1", id="101")


def all_commands(options: LsfOptions) -> list[Command]:
    dialect = LsfDialect(options)
    history = dialect.history(KEY)
    assert history is not None
    return [
        dialect.submit(JOB),
        *dialect.query("dfm-ab-", [KEY]),
        dialect.find("dfm-ab-p-1-1"),
        history,
        *dialect.cancel([KEY]),
        *(probe.command for probe in dialect.probes()),
    ]


def left_of(environ: dict[str, str], command: Command) -> dict[str, str]:
    """What the contract says becomes of an environment."""

    def goes(name: str) -> bool:
        patterns = command.unset_env
        return name not in command.keep_env and any(
            name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern for pattern in patterns
        )

    return {name: value for name, value in environ.items() if not goes(name)} | dict(command.set_env)


@pytest.mark.parametrize(
    "name",
    [
        "BSUB_QUIET", "BSUB_QUIET2", "BSUB_STDERR", "BSUB_CHK_RESREQ", "LSB_BJOBS_FORMAT", "LSB_BJOBS_PENDREASON_LEVEL",
        "LSB_BJOBS_CONSISTENT_EXIT_CODE", "LSB_JOBID", "LSB_JOBINDEX", "LSB_JOBNAME", "LSB_BATCH_JID", "LSB_HOSTS",
        "LSB_MCPU_HOSTS", "LSB_DJOB_NUMPROC", "LSB_DJOB_HOSTFILE", "LSB_QUEUE", "LSB_RESTART", "LSB_BSUB_ERR_RETRY",
        "LSB_OUTPUTFILE", "LSB_JOBFILENAME", "LSB_BIND_CPU_LIST", "LSB_EFFECTIVE_RSRCREQ", "LS_JOBPID", "LS_SUBCWD",
    ],
)  # fmt: skip
def test_L2_what_changes_answers_or_is_of_a_job_around_us_is_removed_from_every_command(name: str) -> None:
    for command in all_commands(LsfOptions()):
        assert left_of({name: "1"}, command) == {"LC_ALL": "C", "LSB_NTRIES": "1"}


@pytest.mark.parametrize(
    "name",
    ["LSF_ENVDIR", "LSF_SERVERDIR", "LSF_BINDIR", "LSF_LIBDIR", "LSB_DEFAULTPROJECT", "LSB_DEFAULTQUEUE",
     "LSB_SUB_PARM_FILE", "LSB_SUB_ADDITIONAL", "PATH", "HOME"],
)  # fmt: skip
def test_L2_what_says_which_lsf_to_talk_to_is_kept(name: str) -> None:
    for command in all_commands(LsfOptions()):
        assert left_of({name: "x"}, command)[name] == "x"


def test_L2_a_project_of_ours_beats_that_of_the_environment() -> None:
    for command in all_commands(LsfOptions(project="p")):
        assert "LSB_DEFAULTPROJECT" not in left_of({"LSB_DEFAULTPROJECT": "x"}, command)


def test_L2_bsub_may_try_twice_where_the_site_says_so() -> None:
    assert {command.set_env["LSB_NTRIES"] for command in all_commands(LsfOptions(ntries=2))} == {"2"}


def test_C7_every_command_has_a_time_limit_and_no_input_but_a_script() -> None:
    options = LsfOptions(submit_timeout=5, query_timeout=6, history_timeout=7, cancel_timeout=8)
    limits = [command.timeout_seconds for command in all_commands(options)]
    assert limits == [5, 6, 6, 7, 8, 5, 6, 6, 6, 6, 6]
    assert all(command.stdin is None for command in all_commands(options))


def test_C8_variables_of_the_site_are_set_for_every_command() -> None:
    options = LsfOptions(bsub_environment={"LSF_ENVDIR": "/lsf/conf", "LSB_NTRIES": "3"})
    for command in all_commands(options):
        assert command.set_env == {"LC_ALL": "C", "LSB_NTRIES": "3", "LSF_ENVDIR": "/lsf/conf"}


@pytest.mark.parametrize(
    ("bsub", "bjobs"),
    [
        (("bsub",), ("bjobs",)),
        (("/lsf/10.1/bin/bsub",), ("/lsf/10.1/bin/bjobs",)),
        (("ssh", "login1", "bsub"), ("ssh", "login1", "bjobs")),
        (("ssh", "login1", "env", "LSB_NTRIES=1", "/lsf/bin/bsub"), ("ssh", "login1", "env", "LSB_NTRIES=1", "/lsf/bin/bjobs")),
        (("lsf_bsub", "-proj", "X"), ("bjobs",)),
    ],
)  # fmt: skip
def test_C8_the_other_tools_are_reached_as_bsub_is(bsub: tuple[str, ...], bjobs: tuple[str, ...]) -> None:
    assert Commands(LsfOptions(bsub_cmd=bsub)).prefix(Tool.BJOBS) == bjobs


def test_C8_each_tool_may_have_a_prefix_of_its_own() -> None:
    options = LsfOptions(bjobs_cmd=("a", "bjobs"), bkill_cmd=("b", "bkill"), bhist_cmd=("c", "bhist"))
    prefixes = [Commands(options).prefix(tool) for tool in (Tool.BSUB, Tool.BJOBS, Tool.BKILL, Tool.BHIST)]
    assert prefixes == [("bsub",), ("a", "bjobs"), ("b", "bkill"), ("c", "bhist")]


@pytest.mark.parametrize(
    ("remote_shell", "prefix", "word"),
    [
        ("auto", ("ssh", "login1", "bjobs"), "'dfm-ab-*'"),
        ("auto", ("/usr/bin/ssh", "login1", "bjobs"), "'dfm-ab-*'"),
        ("auto", ("gate", "bjobs"), "dfm-ab-*"),
        ("always", ("gate", "bjobs"), "'dfm-ab-*'"),
        ("never", ("ssh", "login1", "bjobs"), "dfm-ab-*"),
    ],
)
def test_C8_words_are_quoted_once_more_where_a_shell_reads_them(
    remote_shell: str, prefix: tuple[str, ...], word: str
) -> None:
    dialect = LsfDialect(LsfOptions(bjobs_cmd=prefix, remote_shell=remote_shell))
    (command,) = dialect.query("dfm-ab-", [KEY])
    assert command.argv[-1] == word
