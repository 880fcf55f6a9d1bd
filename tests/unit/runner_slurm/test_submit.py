"""sbatch: what is asked, and what the answers mean."""

import dataclasses
import math
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.data.slurm.recording import Recording

from dfm.api.batch import CommandOutput, FailureKind, SubmitFailed, Submitted, WorkerJob
from dfm.api.errors import RunnerError
from dfm.runner.slurm.command import KEEP_ENV, UNSET_ENV
from dfm.runner.slurm.dialect import SlurmDialect
from dfm.runner.slurm.options import SlurmOptions

PLAIN = SlurmDialect()


def test_S3_everything_that_slurm_could_choose_is_said(job: WorkerJob) -> None:
    assert PLAIN.submit(job).argv == (
        "sbatch",
        "--parsable",
        "--job-name=dfm-ab12-p-7-1",
        "--comment=s-0007",
        "--nodes=1",
        "--ntasks=1",
        "--cpus-per-task=2",
        "--time=0-01:30:00",
        "--mem=3072M",
        "--no-requeue",
        "--open-mode=append",
        "--output=/net/run/workers/s-0007.log",
        "--chdir=/net/proj",
        "--signal=B:USR1@60",
        "--export=ALL",
    )


def test_each_option_has_its_place_in_the_command(job: WorkerJob) -> None:
    options = SlurmOptions(
        partition="regr",
        account="chip7",
        qos="high",
        constraint="rhel8",
        gres=("gpu:1", "nvme:a:2"),
        licenses=("vcs:1", "verdi"),
        reservation="tapeout",
        nice=100,
        exclude=("n7", "n[9-12]"),
        cluster="east",
        requeue=True,
        sbatch_cmd=("ssh-less", "sbatch"),
        sbatch_extra=("--mail-type=FAIL",),
    )
    asked = dataclasses.replace(job, excluded_hosts=("n3",), wall_seconds=None, memory_bytes=None)
    assert SlurmDialect(options).submit(asked).argv == (
        "ssh-less",
        "sbatch",
        "--parsable",
        "--job-name=dfm-ab12-p-7-1",
        "--comment=s-0007",
        "--nodes=1",
        "--ntasks=1",
        "--cpus-per-task=2",
        "--partition=regr",
        "--account=chip7",
        "--qos=high",
        "--constraint=rhel8",
        "--gres=gpu:1,nvme:a:2",
        "--licenses=vcs:1,verdi",
        "--reservation=tapeout",
        "--nice=100",
        "--exclude=n7,n[9-12],n3",
        "--clusters=east",
        "--mem=4096M",
        "--requeue",
        "--open-mode=append",
        "--output=/net/run/workers/s-0007.log",
        "--chdir=/net/proj",
        "--signal=B:USR1@60",
        "--export=ALL",
        "--mail-type=FAIL",
    )


def option_of(argv: tuple[str, ...], name: str) -> str | None:
    return next((word.partition("=")[2] for word in argv if word.startswith(f"--{name}=")), None)


def test_a_tasks_own_queue_beats_the_option(job: WorkerJob) -> None:
    dialect = SlurmDialect(SlurmOptions(partition="regr"))
    assert option_of(dialect.submit(dataclasses.replace(job, queue="gui,long")).argv, "partition") == "gui,long"


@pytest.mark.parametrize(
    ("seconds", "limit"),
    [
        (0.5, "0-00:01:00"),
        (60, "0-00:01:00"),
        (61, "0-00:02:00"),
        (330, "0-00:06:00"),
        (86400, "1-00:00:00"),
        (3 * 86400 + 7260, "3-02:01:00"),
    ],
)
def test_time_is_written_with_its_unit_and_rounded_up_to_minutes(job: WorkerJob, seconds: float, limit: str) -> None:
    assert option_of(PLAIN.submit(dataclasses.replace(job, wall_seconds=seconds)).argv, "time") == limit


@pytest.mark.parametrize(("amount", "text"), [(1, "1M"), (1 << 20, "1M"), ((1 << 20) + 1, "2M"), (1610612736, "1536M")])
def test_memory_is_written_in_whole_mebibytes_rounded_up(job: WorkerJob, amount: int, text: str) -> None:
    assert option_of(PLAIN.submit(dataclasses.replace(job, memory_bytes=amount)).argv, "mem") == text


def test_memory_is_left_to_slurm_only_where_a_person_says_so(job: WorkerJob) -> None:
    silent = dataclasses.replace(job, memory_bytes=None)
    assert option_of(PLAIN.submit(silent).argv, "mem") == "4096M"
    assert option_of(SlurmDialect(SlurmOptions(memory_per_core=None)).submit(silent).argv, "mem") is None


@pytest.mark.parametrize(("seconds", "margin"), [(0, "1"), (30.2, "31"), (1e9, "65535")])
def test_the_warning_stays_in_the_range_that_sbatch_takes(job: WorkerJob, seconds: float, margin: str) -> None:
    argv = PLAIN.submit(dataclasses.replace(job, warning_seconds=seconds)).argv
    assert option_of(argv, "signal") == f"B:USR1@{margin}"


def test_predicates_and_the_constraint_all_hold(job: WorkerJob) -> None:
    dialect = SlurmDialect(SlurmOptions(constraint="intel|amd"))
    asked = dataclasses.replace(job, resource_select=("rhel8", "[rack1|rack2]"))
    assert option_of(dialect.submit(asked).argv, "constraint") == "(intel|amd)&rhel8&[rack1|rack2]"
    assert option_of(dialect.submit(job).argv, "constraint") == "intel|amd"


def test_percent_signs_in_the_log_mean_themselves(job: WorkerJob) -> None:
    argv = PLAIN.submit(dataclasses.replace(job, log="/net/100%j/a.log")).argv
    assert option_of(argv, "output") == "/net/100%%j/a.log"


def test_S2_the_script_goes_through_stdin_and_the_worker_replaces_the_shell(job: WorkerJob) -> None:
    spaced = dataclasses.replace(job, argv=("/opt/my dfm", "worker", "$HOME/`x`'"))
    assert PLAIN.submit(spaced).stdin == "#!/bin/sh\nexec '/opt/my dfm' worker '$HOME/`x`'\"'\"''\n"


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (("/here/python3", "-m", "dfm.core", "worker", "x"), ("/there/dfm", "worker", "x")),
        (("/here/python3", "-m", "dfm.core.worker", "x"), ("/there/dfm", "worker", "x")),
        (("/here/dfm", "worker", "x"), ("/there/dfm", "worker", "x")),
    ],
)
def test_the_nodes_own_dfm_takes_the_place_of_this_one(
    job: WorkerJob, argv: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    dialect = SlurmDialect(SlurmOptions(worker_dfm_path="/there/dfm"))
    script = dialect.submit(dataclasses.replace(job, argv=argv)).stdin
    assert script == f"#!/bin/sh\nexec {shlex.join(expected)}\n"


def test_S4_C20_slurms_own_variables_do_not_reach_it_except_where_its_configuration_is(job: WorkerJob) -> None:
    asked = PLAIN.submit(job)
    assert (asked.unset_env, asked.keep_env, asked.set_env) == (UNSET_ENV, KEEP_ENV, {})
    assert {"SLURM_*", "SBATCH_*", "SRUN_*"} <= set(asked.unset_env)
    assert asked.keep_env == ("SLURM_CONF", "SLURM_CONF_SERVER")


def test_C8_behind_ssh_each_word_is_quoted_for_the_far_shell(job: WorkerJob) -> None:
    dialect = SlurmDialect(SlurmOptions(sbatch_cmd=("/usr/bin/ssh", "login1", "sbatch")))
    argv = dialect.submit(dataclasses.replace(job, directory="/net/my proj; rm")).argv
    assert argv[:3] == ("/usr/bin/ssh", "login1", "sbatch")
    far = shlex.split(" ".join(argv[2:]))
    assert tuple(far) == PLAIN.submit(dataclasses.replace(job, directory="/net/my proj; rm")).argv


def test_C7_a_submission_has_two_minutes(job: WorkerJob) -> None:
    assert PLAIN.submit(job).timeout_seconds == 120.0


def test_C21_a_dry_run_shows_what_a_person_would_type(job: WorkerJob) -> None:
    asked = PLAIN.submit(job)
    assert PLAIN.shown(job) == (
        f"{shlex.join(asked.argv)} <<'END_OF_SCRIPT'\n"
        "#!/bin/sh\n"
        "exec /opt/dfm/bin/dfm worker /net/run/access.json --slot s-0007\n"
        "END_OF_SCRIPT"
    )


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"name": "-x"}, "the name of job '-x' cannot be given to SLURM: '-x' begins with '-'"),
        ({"name": "a[1]"}, "'a[1]' has other characters than letters, digits, '.', '-' and '_'"),
        ({"slot": "s,1"}, "'s,1' has other characters"),
        ({"argv": ()}, "it names no program"),
        ({"argv": ("dfm", "a\nb")}, "'a\\nb' has a line break or another control character"),
        ({"argv": ("dfm", "a\r\nb")}, "has a line break"),
        ({"directory": "proj"}, "'proj' is not an absolute path"),
        ({"log": "/net/a\\b"}, "has a backslash, which sbatch would drop"),
        ({"queue": "--wrap=x"}, "begins with '-'"),
        ({"queue": ""}, "it is empty"),
        ({"queue": "a b"}, "'a b' is no name in SLURM"),
        ({"resource_select": ("mem>8000",)}, "which knows features only: write such as rhel8&(intel|amd)"),
        ({"resource_select": ("a&&b",)}, "which knows features only"),
        ({"resource_select": ("(a|b",)}, "the brackets of '(a|b' are not balanced"),
        ({"excluded_hosts": ("n1 n2",)}, "is no name of nodes in SLURM: write such as n7 or n[1-4]"),
        ({"cores": 0}, "0 is no number of cores"),
        ({"memory_bytes": 0}, "0 bytes: 0 would be the whole node"),
        ({"wall_seconds": 0.0}, "0.0 seconds: 0 would be no limit"),
        ({"wall_seconds": math.nan}, "nan seconds"),
        ({"wall_seconds": math.inf}, "inf seconds"),
        ({"warning_seconds": math.inf}, "inf seconds"),
    ],
)
def test_what_slurm_would_misread_is_refused(job: WorkerJob, change: dict[str, object], complaint: str) -> None:
    with pytest.raises(RunnerError) as caught:
        PLAIN.validate(dataclasses.replace(job, **change))  # type: ignore[arg-type]  # a table of changes
    assert complaint in caught.value.message


def test_a_common_job_is_not_refused(job: WorkerJob) -> None:
    PLAIN.validate(
        dataclasses.replace(job, queue="regr,long", resource_select=("(a|b)&c*2",), excluded_hosts=("n[1-4]",))
    )


@pytest.mark.parametrize(
    ("stdout", "expected"),
    [
        ("7\n", Submitted(id="7")),
        ("7;east\n", Submitted(id="7", cluster="east")),
        ("Welcome to the farm\n12\n", Submitted(id="12")),
        ("12\nyour balance: 3 hours\n", Submitted(id="12")),
        ("1\n12;east\n", Submitted(id="12", cluster="east")),
        ("Submitted batch job 7\n", Submitted(id="7")),
        ("note\nSubmitted batch job 7 on cluster east\n", Submitted(id="7", cluster="east")),
    ],
)
def test_S1_the_id_is_found_among_noise_and_its_cluster_kept(job: WorkerJob, stdout: str, expected: Submitted) -> None:
    assert PLAIN.parse_submit(job, CommandOutput(status=0, stdout=stdout, stderr="")) == expected


def test_S1_a_real_sbatch_is_understood(job: WorkerJob, recorded: Recording) -> None:
    assert PLAIN.parse_submit(job, recorded("sbatch-ok")) == Submitted(id="1")
    assert PLAIN.parse_submit(job, recorded("sbatch-prose")) == Submitted(id="2")


def test_a_warning_beside_the_id_is_passed_on(job: WorkerJob) -> None:
    answer = PLAIN.parse_submit(job, CommandOutput(status=0, stdout="7\n", stderr="sbatch: warning: slow\n"))
    assert answer == Submitted(id="7", warning="sbatch: warning: slow")


REJECTED = {
    "partition": "sbatch: error: invalid partition specified: nosuch\n"
    "sbatch: error: Batch job submission failed: Invalid partition name specified",
    "time": "sbatch: error: Invalid --time specification",
    "memory": "sbatch: error: Invalid --mem specification",
    "cores": "sbatch: error: CPU count per node can not be satisfied\n"
    "sbatch: error: Batch job submission failed: Requested node configuration is not available",
    "memory-beyond-nodes": "sbatch: error: Memory specification can not be satisfied\n"
    "sbatch: error: Batch job submission failed: Requested node configuration is not available",
    "constraint": "sbatch: error: Batch job submission failed: Invalid feature specification",
    "gres": "sbatch: error: Invalid generic resource (gres) specification",
    "licenses": "sbatch: error: Batch job submission failed: Invalid license specification",
    "reservation": "sbatch: error: Batch job submission failed: Requested reservation is invalid",
    "exclude": "sbatch: error: Batch job submission failed: Invalid node name specified",
    "option": "sbatch: unrecognized option '--bogus'\nTry \"sbatch --help\" for more information",
    "time-limit": "sbatch: error: Batch job submission failed:"
    " Requested time limit is invalid (missing or exceeds some limit)",
}


@pytest.mark.parametrize("name", REJECTED)
def test_C9_a_refusal_is_permanent_and_told_in_slurms_own_words(job: WorkerJob, recorded: Recording, name: str) -> None:
    answer = PLAIN.parse_submit(job, recorded(f"sbatch-rejected-{name}"))
    assert answer == SubmitFailed(kind=FailureKind.PERMANENT, text=REJECTED[name])


def test_C9_an_account_that_the_partition_does_not_allow_is_refused(job: WorkerJob) -> None:
    # Newer versions say the same, but of themselves only where there is accounting.
    assert PLAIN.parse_submit(job, Recording("22.05")("sbatch-rejected-account")) == SubmitFailed(
        kind=FailureKind.PERMANENT,
        text="sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified",
    )


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("unknown-account", "Invalid account or account/partition combination specified"),
        ("unknown-qos", "Invalid qos specification"),
        ("qos-wall", "QOSMaxWallDurationPerJobLimit"),
        ("qos-cores", "QOSMaxCpuPerJobLimit"),
        ("unknown-cluster", "No cluster 'nosuch' known by database."),
    ],
)
def test_C9_a_refusal_by_accounting_is_permanent(job: WorkerJob, recorded: Recording, name: str, words: str) -> None:
    answer = PLAIN.parse_submit(job, recorded(f"dbd-sbatch-rejected-{name}"))
    assert isinstance(answer, SubmitFailed)
    assert answer.kind is FailureKind.PERMANENT
    assert words in answer.text


def test_C9_a_limit_on_how_many_are_submitted_passes(job: WorkerJob, recorded: Recording) -> None:
    answer = PLAIN.parse_submit(job, recorded("dbd-sbatch-submit-limit"))
    assert isinstance(answer, SubmitFailed)
    assert answer.kind is FailureKind.TRANSIENT


def test_S1_a_real_sbatch_names_the_cluster(job: WorkerJob, recorded: Recording) -> None:
    identifier = recorded.id(2, "dbd-squeue-full")
    assert PLAIN.parse_submit(job, recorded("dbd-sbatch-cluster")) == Submitted(id=identifier, cluster="dfm")


def test_C9_a_controller_that_is_away_is_tried_again_later(job: WorkerJob, recorded: Recording) -> None:
    assert PLAIN.parse_submit(job, recorded("sbatch-down")) == SubmitFailed(
        kind=FailureKind.TRANSIENT,
        text="sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)",
    )


def test_C9_after_a_lost_answer_the_job_may_exist(job: WorkerJob, recorded: Recording) -> None:
    assert PLAIN.parse_submit(job, recorded("sbatch-timed-out")) == SubmitFailed(
        kind=FailureKind.AMBIGUOUS,
        text="sbatch: error: Batch job submission failed: Socket timed out on send/recv operation",
    )


@pytest.mark.parametrize(
    ("output", "kind"),
    [
        (CommandOutput(status=0, stdout="", stderr=""), FailureKind.AMBIGUOUS),
        (CommandOutput(status=0, stdout="thank you\n", stderr=""), FailureKind.AMBIGUOUS),
        (CommandOutput(status=143, stdout="", stderr="", is_timed_out=True), FailureKind.AMBIGUOUS),
        (CommandOutput(status=0, stdout="7\n", stderr="", is_timed_out=True), FailureKind.AMBIGUOUS),
        (CommandOutput(status=1, stdout="7\n", stderr=""), FailureKind.AMBIGUOUS),
        (CommandOutput(status=137, stdout="", stderr=""), FailureKind.AMBIGUOUS),
        (CommandOutput(status=255, stdout="", stderr=""), FailureKind.AMBIGUOUS),
        (
            CommandOutput(status=255, stdout="", stderr="Connection to login1 closed by remote host."),
            FailureKind.AMBIGUOUS,
        ),
        (
            CommandOutput(status=255, stdout="", stderr="ssh: connect to host login1 port 22: Connection refused"),
            FailureKind.TRANSIENT,
        ),
        (CommandOutput(status=127, stdout="", stderr=""), FailureKind.PERMANENT),
        (
            CommandOutput(
                status=1,
                stdout="",
                stderr="sbatch: error: QOSMaxSubmitJobPerUserLimit\nsbatch: error: Batch job submission failed: Job violates"
                " accounting/QOS policy (job submit limit, user's size and/or time limits)\n",
            ),
            FailureKind.TRANSIENT,
        ),
        (
            CommandOutput(
                status=1,
                stdout="",
                stderr="sbatch: error: QOSMaxWallDurationPerJobLimit\nsbatch: error: Batch job submission failed: Job violates"
                " accounting/QOS policy (job submit limit, user's size and/or time limits)\n",
            ),
            FailureKind.PERMANENT,
        ),
        (
            CommandOutput(
                status=1,
                stdout="",
                stderr="sbatch: error: Batch job submission failed: Protocol authentication error\n",
            ),
            FailureKind.TRANSIENT,
        ),
        (
            CommandOutput(
                status=1,
                stdout="",
                stderr="sbatch: error: Batch job submission failed: Rate limit exceeded, please retry later\n",
            ),
            FailureKind.TRANSIENT,
        ),
        (CommandOutput(status=1, stdout="", stderr="sbatch: error: pick a project, please\n"), FailureKind.PERMANENT),
    ],
)
def test_C9_other_answers_are_told_apart(job: WorkerJob, output: CommandOutput, kind: FailureKind) -> None:
    answer = PLAIN.parse_submit(job, output)
    assert isinstance(answer, SubmitFailed)
    assert answer.kind is kind
    assert answer.text


def test_C9_a_site_says_which_refusals_pass(job: WorkerJob) -> None:
    dialect = SlurmDialect(SlurmOptions(retry_on=("licen[cs]e server",)))
    busy = CommandOutput(status=1, stdout="", stderr="sbatch: error: the license server is busy\n")
    assert dialect.parse_submit(job, busy) == SubmitFailed(
        kind=FailureKind.TRANSIENT, text="sbatch: error: the license server is busy"
    )
    lost = dataclasses.replace(busy, is_timed_out=True)
    answer = dialect.parse_submit(job, lost)
    assert isinstance(answer, SubmitFailed)
    assert answer.kind is FailureKind.AMBIGUOUS


def test_sbatch_that_is_not_installed_is_told_with_what_to_do(job: WorkerJob) -> None:
    answer = PLAIN.parse_submit(job, CommandOutput(status=127, stdout="", stderr=""))
    assert answer == SubmitFailed(
        kind=FailureKind.PERMANENT,
        text="sbatch was not found; load SLURM's module, or set sbatch_cmd of runner slurm.",
    )


def test_a_host_that_knows_no_cluster_is_told_in_slurms_words(job: WorkerJob) -> None:
    words = (
        "sbatch: error: resolve_ctls_from_dns_srv: res_nsearch error: Unknown host\n"
        "sbatch: error: fetch_config: DNS SRV lookup failed\n"
        "sbatch: error: _establish_config_source: failed to fetch config\n"
        "sbatch: fatal: Could not establish a configuration source\n"
    )
    answer = PLAIN.parse_submit(job, CommandOutput(status=1, stdout="", stderr=words))
    assert answer == SubmitFailed(kind=FailureKind.TRANSIENT, text=words.strip())


ANSWERS = st.lists(
    st.sampled_from(
        ["7", "7;east", "Submitted batch job 9", "sbatch: error: no", "Socket timed out", "noise", "", "7 8"]
    )
)


@given(stdout=ANSWERS, stderr=ANSWERS, status=st.integers(0, 255), is_timed_out=st.booleans())
def test_C9_a_job_is_believed_in_only_after_an_answer_of_success(
    stdout: list[str], stderr: list[str], status: int, is_timed_out: bool
) -> None:
    output = CommandOutput(status=status, stdout="\n".join(stdout), stderr="\n".join(stderr), is_timed_out=is_timed_out)
    answer = PLAIN.parse_submit(WorkerJob(name="a", slot="b", argv=("c",), directory="/", log="/d"), output)
    if isinstance(answer, Submitted):
        assert (status, is_timed_out) == (0, False)
        assert answer.id in "\n".join([*stdout, *stderr])
    else:
        assert answer.text
        assert answer.kind is FailureKind.AMBIGUOUS or (status != 0 and not is_timed_out)
