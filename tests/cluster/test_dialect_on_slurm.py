"""The dialect against a real SLURM: its commands are accepted, and its readings are true."""

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.runs import UNWRITABLE

from dfm.api.batch import (
    CancelState,
    EndCause,
    FailureKind,
    JobKey,
    JobState,
    JobStatus,
    Listed,
    QueryFailed,
    Standing,
    SubmitAnswer,
    SubmitFailed,
    Submitted,
    WorkerJob,
)
from dfm.runner.slurm.dialect import SlurmDialect
from dfm.runner.slurm.options import SlurmOptions
from dfm.runner.slurm.query import Form
from dfm.testing.slurm_cluster import Shape, SlurmCluster, run_command

pytestmark = pytest.mark.cluster

SLEEP = ("/bin/sleep", "600")
PREFIX = "dfm-test-"


class Site:
    """A cluster, and a dialect that speaks to it."""

    def __init__(self, cluster: SlurmCluster, directory: Path, environ: Mapping[str, str] | None = None) -> None:
        self.cluster = cluster
        self.directory = directory
        self.environ = {**os.environ, **cluster.environ, **(environ or {})}
        self._count = 0

    def job(self, argv: Sequence[str] = SLEEP, **more: object) -> WorkerJob:
        """Return a job that no other job of this machine has the name of."""
        self._count += 1
        job = WorkerJob(
            name=f"dfm-test-{self.directory.name}-{self._count}-1",
            slot=f"s-{self._count:04}",
            argv=tuple(argv),
            directory=str(self.directory),
            log=str(self.directory / f"{self._count}.log"),
            memory_bytes=10 << 20,
        )
        return dataclasses.replace(job, **more)  # type: ignore[arg-type]  # fields of a job

    def submit(self, job: WorkerJob, dialect: SlurmDialect) -> SubmitAnswer:
        dialect.validate(job)
        return dialect.parse_submit(job, run_command(dialect.submit(job), self.environ))

    def started(self, job: WorkerJob, dialect: SlurmDialect) -> JobKey:
        answer = self.submit(job, dialect)
        assert isinstance(answer, Submitted), answer
        return JobKey(name=job.name, id=answer.id, cluster=answer.cluster)

    def query(self, key: JobKey, dialect: SlurmDialect) -> Listed | QueryFailed:
        [command] = dialect.query(PREFIX, [key])
        answer = dialect.parse_query(command, run_command(command, self.environ))
        assert isinstance(answer, Listed | QueryFailed)
        return answer

    def status(self, key: JobKey, dialect: SlurmDialect) -> JobStatus | None:
        answer = self.query(key, dialect)
        return answer.jobs[0] if isinstance(answer, Listed) and answer.jobs else None

    def wait(
        self, key: JobKey, dialect: SlurmDialect, is_so: Callable[[JobStatus], bool], seconds: float = 60.0
    ) -> JobStatus:
        seen: list[JobStatus | None] = [None]

        def look() -> bool:
            seen[0] = self.status(key, dialect)
            return seen[0] is not None and is_so(seen[0])

        self.cluster.wait_until(look, f"{key}: {seen}", seconds)
        assert seen[0] is not None
        return seen[0]

    def find(self, name: str, dialect: SlurmDialect) -> Listed | QueryFailed:
        command = dialect.find(name)
        answer = dialect.parse_query(command, run_command(command, self.environ))
        assert isinstance(answer, Listed | QueryFailed)
        return answer

    def history(self, key: JobKey, dialect: SlurmDialect) -> JobStatus | None:
        command = dialect.history(key)
        assert command is not None
        return dialect.parse_history(key, run_command(command, self.environ))

    def cancel(self, key: JobKey, dialect: SlurmDialect) -> Mapping[str, CancelState]:
        [command] = dialect.cancel([key])
        return dialect.parse_cancel(command, run_command(command, self.environ)).states


@pytest.fixture
def site(cluster: SlurmCluster, tmp_path: Path) -> Site:
    return Site(cluster, tmp_path)


@pytest.fixture
def own_site(own_cluster: SlurmCluster, tmp_path: Path) -> Site:
    """A cluster that the test may break."""
    return Site(own_cluster, tmp_path)


PLAIN = SlurmDialect()


def is_running(status: JobStatus) -> bool:
    return status.state is JobState.RUNNING


def is_ended(status: JobStatus) -> bool:
    return status.state is JobState.ENDED


def log_of(job: WorkerJob) -> str:
    """Return what the job has written so far: a job that runs may not have its log yet."""
    path = Path(job.log)
    return path.read_text(encoding="utf-8") if path.exists() else ""


def test_S1_S8_a_worker_is_submitted_seen_running_and_cancelled(site: Site) -> None:
    key = site.started(site.job(), PLAIN)
    running = site.wait(key, PLAIN, is_running)
    assert (running.id, running.name, running.host) == (key.id, key.name, "n1")
    assert site.cancel(key, PLAIN) == {key.id: CancelState.STOPPING}
    ended = site.wait(key, PLAIN, is_ended)
    assert (ended.cause, ended.exit_status) == (EndCause.KILLED_BY_OWNER, 143)
    assert site.cancel(key, PLAIN) == {key.id: CancelState.STOPPING}


def test_S2_S3_C17_the_worker_runs_where_and_as_it_was_told(site: Site) -> None:
    directory = site.directory / "100%j of it's"
    directory.mkdir()
    show = 'echo "$PWD|$1|$SLURM_CPUS_PER_TASK|$SLURM_MEM_PER_NODE|$SLURMD_NODENAME"; echo "$0" >&2'
    job = site.job(
        ("/bin/sh", "-c", show, "zero", "a 'b' $c `d`"), directory=str(directory), log=str(directory / "log"), cores=3
    )
    (directory / "log").write_text("before\n")
    key = site.started(job, PLAIN)
    assert site.wait(key, PLAIN, is_ended).cause is EndCause.DONE
    assert (directory / "log").read_text() == f"before\n{directory}|a 'b' $c `d`|3|10|n1\nzero\n"


def test_C2_a_job_is_found_by_its_name_and_another_is_not(site: Site) -> None:
    job = site.job(name=f"dfm-test-{'x' * 120}-1-1")
    key = site.started(job, PLAIN)
    found = site.find(job.name, PLAIN)
    assert isinstance(found, Listed)
    assert [(status.id, status.name) for status in found.jobs] == [(key.id, job.name)]
    assert site.find("dfm-test-none-1-1", PLAIN) == Listed(jobs=(), missing=(JobKey(name="dfm-test-none-1-1"),))


def test_S5_the_plain_form_tells_the_same(site: Site) -> None:
    key = site.started(site.job(), PLAIN)
    full = site.wait(key, PLAIN, is_running)
    assert site.status(key, SlurmDialect(form=Form.PLAIN)) == full


@pytest.mark.parametrize(
    ("options", "change", "words"),
    [
        (SlurmOptions(partition="nosuch"), {}, "invalid partition specified: nosuch"),
        (SlurmOptions(), {"queue": "nosuch"}, "invalid partition specified: nosuch"),
        (SlurmOptions(), {"cores": 9}, "CPU count per node can not be satisfied"),
        (SlurmOptions(), {"memory_bytes": 1 << 40}, "Memory specification can not be satisfied"),
        (SlurmOptions(), {"resource_select": ("nosuch",)}, "Invalid feature specification"),
        (SlurmOptions(licenses=("vcs:3",)), {}, "Invalid license specification"),
        (SlurmOptions(gres=("gpu:1",)), {}, "Invalid generic resource (gres) specification"),
        (SlurmOptions(reservation="nosuch"), {}, "Requested reservation is invalid"),
        (SlurmOptions(), {"excluded_hosts": ("nosuch",)}, "Invalid node name specified"),
    ],
)
def test_C9_S11_a_request_that_cannot_be_is_refused_at_once_and_leaves_no_job(
    site: Site, options: SlurmOptions, change: dict[str, Any], words: str
) -> None:
    job = site.job(**change)
    answer = site.submit(job, SlurmDialect(options))
    assert isinstance(answer, SubmitFailed), answer
    assert answer.kind is FailureKind.PERMANENT
    assert words in answer.text
    assert site.find(job.name, PLAIN) == Listed(jobs=(), missing=(JobKey(name=job.name),))


@pytest.mark.parametrize(
    ("partition", "change", "reason"),
    [
        ("regr_high", {"wall_seconds": 36000.0}, "PartitionTimeLimit"),
        ("small", {"memory_bytes": 2000 << 20}, "MaxMemPerLimit"),
    ],
)
def test_S7_a_request_that_would_wait_for_ever_is_hopeless(
    site: Site, partition: str, change: dict[str, Any], reason: str
) -> None:
    dialect = SlurmDialect(SlurmOptions(partition=partition))
    key = site.started(site.job(**change), dialect)
    assert site.wait(key, dialect, lambda status: status.reason == reason).is_hopeless


@pytest.mark.usefixtures("checked_accounts")
def test_S7_a_partition_that_does_not_allow_the_account_is_hopeless(site: Site) -> None:
    dialect = SlurmDialect(SlurmOptions(partition="charged", account="nobody"))
    key = site.started(site.job(), dialect)
    assert site.wait(key, dialect, lambda status: "can't use this partition" in status.reason).is_hopeless


def test_S7_a_request_that_waits_its_turn_is_not_hopeless(site: Site) -> None:
    dialect = SlurmDialect(SlurmOptions(licenses=("vcs:2",)))
    first, second = (site.started(site.job(), dialect) for _ in range(2))
    site.wait(first, dialect, is_running)
    waiting = site.wait(second, dialect, lambda status: status.reason == "Licenses")
    assert (waiting.state, waiting.is_hopeless) == (JobState.PENDING, False)


def test_S7_a_request_that_only_drained_nodes_can_be_given_is_not_hopeless(site: Site) -> None:
    dialect = SlurmDialect(SlurmOptions(constraint="bigmem"))
    site.cluster.drain("n4")
    try:
        key = site.started(site.job(cores=8), dialect)
        waiting = site.wait(key, dialect, lambda status: "ReqNodeNotAvail" in status.reason)
    finally:
        site.cluster.resume_node("n4")
    assert (waiting.state, waiting.is_hopeless) == (JobState.PENDING, False)
    assert site.wait(key, dialect, is_running).host == "n4"


@pytest.mark.parametrize("state", ["DOWN", "DRAIN", "INACTIVE"])
def test_S7_C9_a_partition_that_is_closed_for_a_while_is_waited_for(site: Site, state: str) -> None:
    dialect = SlurmDialect(SlurmOptions(partition="regr_high"))
    site.cluster.set_partition("regr_high", state)
    try:
        answer = site.submit(job := site.job(), dialect)
        if state == "DOWN":
            key = JobKey(name=job.name, id=answer.id if isinstance(answer, Submitted) else None)
            waiting = site.wait(key, dialect, lambda status: status.reason == "PartitionDown")
            assert (waiting.state, waiting.is_hopeless) == (JobState.PENDING, False)
        else:
            assert isinstance(answer, SubmitFailed), answer
            assert answer.kind is FailureKind.TRANSIENT
            assert "Required partition not available (inactive or drain)" in answer.text
    finally:
        site.cluster.set_partition("regr_high", "UP")


def test_S10_a_log_that_the_node_cannot_write_is_a_launch_failure(site: Site) -> None:
    key = site.started(site.job(log=UNWRITABLE), PLAIN)
    ended = site.wait(key, PLAIN, is_ended)
    assert (ended.cause, ended.exit_status) == (EndCause.LAUNCH, None)
    assert ended.reason.startswith("FAILED (")
    assert ended.reason.endswith("): its directory or output path is not usable on n1")
    assert site.status(key, SlurmDialect(form=Form.PLAIN)) == ended
    remembered = site.history(key, PLAIN)
    assert remembered is not None
    assert (remembered.cause, remembered.exit_status) == (EndCause.LAUNCH, None)


def test_a_worker_that_is_not_on_the_node_is_a_launch_failure(site: Site) -> None:
    job = site.job(("/no/such/dfm", "worker"))
    key = site.started(job, PLAIN)
    ended = site.wait(key, PLAIN, is_ended)
    assert (ended.cause, ended.exit_status) == (EndCause.LAUNCH, 127)
    assert "/no/such/dfm" in Path(job.log).read_text()


@pytest.mark.parametrize(
    ("body", "cause", "exit_status"),
    [("exit 0", EndCause.DONE, 0), ("exit 3", EndCause.FAILED, 3), ("kill -9 $$", EndCause.FAILED, 137)],
)
def test_S6_how_a_worker_ended_is_told_by_squeue_and_by_scontrol(
    site: Site, body: str, cause: EndCause, exit_status: int
) -> None:
    key = site.started(site.job(("/bin/sh", "-c", body)), PLAIN)
    ended = site.wait(key, PLAIN, is_ended)
    assert (ended.cause, ended.exit_status) == (cause, exit_status)
    assert site.history(key, PLAIN) == ended


def test_S6_without_accounting_nothing_is_concluded(site: Site) -> None:
    key = JobKey(name="dfm-test-none-1-1", id="999999")
    assert site.history(key, PLAIN) is None
    assert site.history(key, SlurmDialect(SlurmOptions(accounting=True))) is None
    assert site.query(key, PLAIN) == Listed(jobs=(), missing=(key,))


def test_C16_a_suspended_worker_is_alive(site: Site) -> None:
    key = site.started(site.job(), PLAIN)
    site.wait(key, PLAIN, is_running)
    assert key.id is not None
    site.cluster.suspend(key.id)
    site.wait(key, PLAIN, lambda status: status.state is JobState.SUSPENDED)
    site.cluster.resume(key.id)
    site.wait(key, PLAIN, is_running)


def test_a_held_worker_is_told_from_one_that_waits(site: Site) -> None:
    dialect = SlurmDialect(SlurmOptions(sbatch_extra=("--hold",)))
    key = site.started(site.job(), dialect)
    assert site.wait(key, dialect, lambda status: status.reason == "JobHeldUser").state is JobState.HELD


def test_S9_a_requeued_worker_has_not_ended(site: Site) -> None:
    dialect = SlurmDialect(SlurmOptions(requeue=True))
    variables = "$SLURM_JOB_ID ${SLURM_RESTART_COUNT:-none} $SLURMD_NODENAME"
    job = site.job(("/bin/sh", "-c", f"echo {variables}; exec sleep 600"))
    key = site.started(job, dialect)
    site.wait(key, dialect, is_running)
    assert key.id is not None

    def told() -> list[list[str]]:
        text = log_of(job)
        return [line.split() for line in text.splitlines() if line.startswith(f"{key.id} ")]

    site.cluster.wait_until(lambda: len(told()) == 1, "its program did not start")
    site.cluster.requeue(key.id)
    requeued = site.wait(key, dialect, lambda status: status.state is JobState.PENDING)
    assert requeued.is_requeued
    site.cluster.start_now(key.id)
    site.wait(key, dialect, is_running)
    site.cluster.wait_until(lambda: len(told()) == 2, "it did not start again")
    assert [words[:2] for words in told()] == [[key.id, "none"], [key.id, "1"]]
    assert all(words[2] in ("n1", "n2", "n3", "n4") for words in told())


def test_S3_a_preempted_worker_is_not_started_again_unasked(site: Site) -> None:
    dialect = SlurmDialect(SlurmOptions(partition="preemptible"))
    key = site.started(site.job(), dialect)
    site.wait(key, dialect, is_running)
    assert key.id is not None
    site.cluster.preempt(key.id)
    assert site.wait(key, dialect, is_ended).cause is EndCause.PREEMPTED


def test_constraints_and_exclusions_choose_the_node(site: Site) -> None:
    dialect = SlurmDialect(SlurmOptions(constraint="bigmem|nosuch"))
    chosen = site.started(site.job(resource_select=("rhel8",)), SlurmDialect(SlurmOptions(constraint="bigmem")))
    assert site.wait(chosen, dialect, is_running).host == "n4"
    others = site.started(site.job(excluded_hosts=("n1", "n[2-3]")), PLAIN)
    assert site.wait(others, PLAIN, is_running).host == "n4"


def test_alternatives_of_features_may_be_combined_with_others(site: Site) -> None:
    dialect = SlurmDialect(SlurmOptions(constraint="bigmem|rhel8"))
    key = site.started(site.job(resource_select=("bigmem",)), dialect)
    assert site.wait(key, dialect, is_running).host == "n4"


def test_S4_what_is_inherited_from_inside_another_job_changes_nothing(cluster: SlurmCluster, tmp_path: Path) -> None:
    inherited = {
        "SLURM_CPUS_PER_TASK": "7",
        "SLURM_MEM_PER_NODE": "9000",
        "SLURM_CLUSTERS": "nosuch",
        "SLURM_JOB_ID": "1",
        "SBATCH_PARTITION": "nosuch",
        "SBATCH_CONSTRAINT": "nosuch",
        "SBATCH_WAIT": "1",
        "SQUEUE_FORMAT": "%i",
        "SQUEUE_STATES": "PENDING",
        "SQUEUE_USERS": "nobody",
        "SCANCEL_STATE": "PENDING",
    }
    site = Site(cluster, tmp_path, inherited)
    job = site.job(("/bin/sh", "-c", "echo $SLURM_CPUS_PER_TASK $SLURM_MEM_PER_NODE; exec sleep 600"))
    key = site.started(job, PLAIN)
    site.wait(key, PLAIN, is_running)
    cluster.wait_until(lambda: log_of(job) == "1 10\n", "the job sees something else")
    site.cancel(key, PLAIN)
    site.wait(key, PLAIN, is_ended)


def test_C8_commands_may_pass_the_shell_of_another_host(site: Site) -> None:
    ssh = site.directory / "ssh"
    ssh.write_text('#!/bin/sh\nshift\nexec /bin/sh -c "$*"\n')
    ssh.chmod(0o755)
    far = {
        name: (str(ssh), "login1", name.removesuffix("_cmd")) for name in ("sbatch_cmd", "squeue_cmd", "scancel_cmd")
    }
    dialect = SlurmDialect(SlurmOptions(**far))  # type: ignore[arg-type]  # each of these is a command
    directory = site.directory / "it's; a $HOME"
    directory.mkdir()
    job = site.job(("/bin/sh", "-c", "pwd; exec sleep 600"), directory=str(directory))
    key = site.started(job, dialect)
    site.wait(key, dialect, is_running)
    site.cluster.wait_until(lambda: log_of(job) == f"{directory}\n", "it runs elsewhere")
    site.cancel(key, dialect)
    assert site.wait(key, dialect, is_ended).cause is EndCause.KILLED_BY_OWNER


def test_a_time_limit_is_the_cause_of_the_end(site: Site) -> None:
    key = site.started(site.job(), PLAIN)
    site.wait(key, PLAIN, is_running)
    assert key.id is not None
    site.cluster.end_time(key.id, 1)
    assert site.wait(key, PLAIN, is_ended, seconds=120.0).cause is EndCause.WALLTIME


def test_C21_probes_find_the_cluster_well(site: Site) -> None:
    dialect = SlurmDialect(SlurmOptions(partition="normal,regr_high"))
    findings = {
        probe.name: [(found.standing, found.text) for found in probe.judge(run_command(probe.command, site.environ))]
        for probe in dialect.probes()
    }
    short_memory = (
        Standing.WARNING,
        "the controller forgets ended jobs after 30 s (MinJobAge): why a worker ended may stay unknown",
    )
    [(standing, text), *advice] = findings.pop("configuration")
    assert standing is Standing.OK
    assert text.startswith("cluster dfm, SLURM ")
    assert advice == [short_memory]
    assert {standing for found in findings.values() for standing, _ in found} == {Standing.OK}
    assert site.find("dfm-doctor", PLAIN) == Listed(jobs=(), missing=(JobKey(name="dfm-doctor"),))


def test_C9_C5_a_controller_that_is_away_is_no_answer(own_site: Site) -> None:
    key = own_site.started(own_site.job(), PLAIN)
    own_site.cluster.stop_controller()
    answer = own_site.submit(own_site.job(), PLAIN)
    assert isinstance(answer, SubmitFailed)
    assert answer.kind is FailureKind.TRANSIENT
    assert isinstance(own_site.query(key, PLAIN), QueryFailed)
    assert own_site.history(key, PLAIN) is None
    assert own_site.cancel(key, PLAIN) == {}
    own_site.cluster.start_controller()
    assert own_site.status(key, PLAIN) is not None


def test_C9_a_submission_whose_answer_was_lost_is_found_by_its_name(own_site: Site) -> None:
    job = own_site.job()
    own_site.cluster.freeze_controller()
    answer = own_site.submit(job, PLAIN)
    own_site.cluster.thaw_controller()
    assert isinstance(answer, SubmitFailed)
    assert answer.kind is FailureKind.AMBIGUOUS
    key = JobKey(name=job.name)
    assert own_site.wait(key, PLAIN, is_running).name == job.name


def test_a_node_that_goes_away_is_the_cause_of_the_end(own_site: Site) -> None:
    key = own_site.started(own_site.job(), PLAIN)
    node = own_site.wait(key, PLAIN, is_running).host
    own_site.cluster.kill_node(node)
    assert own_site.wait(key, PLAIN, is_ended, seconds=120.0).cause is EndCause.NODE


@pytest.fixture
def strict_site(tmp_path: Path) -> Iterator[Site]:
    """A cluster that enforces the limits of its partitions."""
    with SlurmCluster(tmp_path / "slurm", Shape(enforces_limits=True)) as cluster:
        yield Site(cluster, tmp_path)


def test_a_site_that_enforces_limits_refuses_at_once(strict_site: Site) -> None:
    prefix = "sbatch: error: Batch job submission failed:"
    limit = strict_site.submit(strict_site.job(wall_seconds=36000.0), SlurmDialect(SlurmOptions(partition="regr_high")))
    assert limit == SubmitFailed(
        kind=FailureKind.PERMANENT, text=f"{prefix} Requested time limit is invalid (missing or exceeds some limit)"
    )
    if strict_site.cluster.checks_accounts:
        charged = SlurmDialect(SlurmOptions(partition="charged", account="nosuch"))
        assert strict_site.submit(strict_site.job(), charged) == SubmitFailed(
            kind=FailureKind.PERMANENT, text=f"{prefix} Invalid account or account/partition combination specified"
        )
