"""Runs on a real SLURM that misbehaves: no hang, nothing lost or doubled, and soon nothing of ours in squeue."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dfm.api.errors import ExitCode
from dfm.testing.project import QUICK_POOL, Project, wait_until
from dfm.testing.slurm_cluster import ClusterJob, Shape, SlurmCluster

if TYPE_CHECKING:
    import subprocess

pytestmark = pytest.mark.cluster

LIVE = ("PENDING", "CONFIGURING", "RUNNING", "SUSPENDED", "COMPLETING")
GONE_SECONDS = 30.0
"""So long may it take from the end of a run to the end of its last job."""
FIRST_HANGS = "echo >> began; [ $(wc -l < began) = 1 ] && exec sleep 600; exit 0"
"""A body that does not end by itself, but for its later attempts."""
WAITS_FOR_LEAVE = 'echo >> began; until [ -e "$DFM_SRCDIR/leave" ]; do sleep 0.1; done'


def live_jobs(cluster: SlurmCluster) -> list[ClusterJob]:
    return [job for job in cluster.jobs(name_prefix="dfm-") if job.state in LIVE]


def project_on(cluster: SlurmCluster, directory: Path) -> Project:
    project = Project(directory)
    project.environ.update(cluster.environ)
    project.write_settings({"default": "slurm", "pool": dict(QUICK_POOL)})
    return project


@pytest.fixture
def project(tmp_path: Path, cluster: SlurmCluster) -> Iterator[Project]:
    """A project on the cluster; at its end nothing of it is in squeue, and no process of it lives."""
    found = project_on(cluster, tmp_path)
    yield found
    cluster.wait_until(lambda: not live_jobs(cluster), "jobs of an ended run are in squeue", GONE_SECONDS)
    wait_until(lambda: not found.processes(), "the processes of the project to be gone")


def attempts(project: Project, task: str) -> int:
    """Return how often the body of a task has begun."""
    path = project.rundir / f"p.{task}" / "began"
    return len(path.read_text(encoding="utf-8").splitlines()) if path.exists() else 0


def worker_of(project: Project, cluster: SlurmCluster, task: str) -> ClusterJob:
    """Wait until the body of the only task has begun; return the job of its worker."""
    wait_until(lambda: attempts(project, task) == 1, f"{task} to begin")
    [job] = live_jobs(cluster)
    return job


def told_by(process: "subprocess.Popen[str]", words: str) -> str:
    """Read what a run says up to the line that holds the words."""
    said = ""
    assert process.stdout is not None
    while words not in said:
        line = process.stdout.readline()
        assert line, f"the run ended and did not say {words!r}: {said}"
        said += line
    return said


def ended_well(process: "subprocess.Popen[str]") -> str:
    stdout, stderr = process.communicate(timeout=200)
    assert process.returncode == 0, stdout + stderr
    return stdout


def test_a_task_whose_worker_is_cancelled_runs_again(project: Project, cluster: SlurmCluster) -> None:
    project.write_flow({"a": FIRST_HANGS})
    with project.started("run", "a") as run:
        cluster.cancel(worker_of(project, cluster, "a").id)
        assert "1 ok" in ended_well(run)
    assert attempts(project, "a") == 2


def test_a_worker_that_is_warned_of_its_time_limit_hands_its_task_on(project: Project, cluster: SlurmCluster) -> None:
    project.write_flow({"a": FIRST_HANGS})
    with project.started("run", "a") as run:
        job = worker_of(project, cluster, "a")
        assert cluster.run("scontrol", "update", f"JobId={job.id}", "TimeLimit=1").returncode == 0
        assert "1 ok" in ended_well(run)
    assert attempts(project, "a") == 2


def test_a_job_that_slurm_starts_anew_under_its_old_id_serves_again(project: Project, cluster: SlurmCluster) -> None:
    project.write_flow({"a": FIRST_HANGS})
    with project.started("run", "--runner-opt", "requeue=true", "a") as run:
        job = worker_of(project, cluster, "a")
        cluster.requeue(job.id)
        cluster.wait_for_state(job.id, "PENDING")
        cluster.start_now(job.id)
        assert "1 ok" in ended_well(run)
    assert attempts(project, "a") == 2


def test_a_node_that_is_given_up_loses_its_task_to_another(tmp_path: Path) -> None:
    with SlurmCluster(tmp_path / "slurm", Shape(node_timeout_seconds=5)) as cluster:
        project = project_on(cluster, tmp_path)
        project.write_flow({"a": FIRST_HANGS})
        with project.started("run", "a") as run:
            cluster.kill_node(worker_of(project, cluster, "a").node)
            assert "1 ok" in ended_well(run)
        assert attempts(project, "a") == 2
        cluster.wait_until(lambda: not live_jobs(cluster), "jobs of an ended run are in squeue", GONE_SECONDS)


def test_a_preempted_worker_hands_its_task_to_another(project: Project, cluster: SlurmCluster) -> None:
    project.write_flow({"a": FIRST_HANGS})
    with project.started("run", "--runner-opt", "partition=preemptible", "a") as run:
        cluster.preempt(worker_of(project, cluster, "a").id)
        assert "1 ok" in ended_well(run)
    assert attempts(project, "a") == 2


def test_a_run_outlives_a_controller_that_is_away(tmp_path: Path) -> None:
    with SlurmCluster(tmp_path / "slurm") as cluster:
        project = project_on(cluster, tmp_path)
        project.write_flow({"a": WAITS_FOR_LEAVE, "b": {"run": "true", "needs": ["a"]}})
        with project.started("run", "b") as run:
            worker_of(project, cluster, "a")
            cluster.stop_controller()
            (tmp_path / "leave").touch()
            wait_until((project.rundir / "p.b").exists, "the run to go on without a controller")
            cluster.start_controller()
            assert "2 ok" in ended_well(run)
        assert attempts(project, "a") == 1
        cluster.wait_until(lambda: not live_jobs(cluster), "jobs of an ended run are in squeue", GONE_SECONDS)


def test_a_run_waits_for_a_controller_that_is_not_there_yet(tmp_path: Path) -> None:
    with SlurmCluster(tmp_path / "slurm") as cluster:
        project = project_on(cluster, tmp_path)
        log = tmp_path / "sbatch.log"
        sbatch = tmp_path / "sbatch"
        sbatch.write_text(f'#!/bin/sh\nsbatch "$@" 2>> {log}\nstatus=$?\ncat {log} >&2\nexit $status\n')
        sbatch.chmod(0o755)
        project.write_flow({"a": "true"})
        cluster.stop_controller()
        with project.started("run", "--runner-opt", f"sbatch_cmd={sbatch}", "a") as run:
            wait_until(lambda: log.exists() and "Unable to contact" in log.read_text(), "a refusal")
            log.write_text("")
            cluster.start_controller()
            assert "1 ok" in ended_well(run)


def test_a_drained_node_keeps_its_task_and_gets_no_new_worker(project: Project, cluster: SlurmCluster) -> None:
    project.write_flow({"a": WAITS_FOR_LEAVE})
    with project.started("run", "a") as run:
        node = worker_of(project, cluster, "a").node
        cluster.drain(node)
        try:
            (project.directory / "leave").touch()
            assert "1 ok" in ended_well(run)
            assert project.dfm("run", "a").returncode == 0
            assert {job.node for job in cluster.jobs(name_prefix="dfm-")} > {node}
        finally:
            cluster.resume_node(node)


def test_a_log_that_the_node_cannot_write_is_told_as_the_reason_why_no_worker_comes_up(project: Project) -> None:
    wrapper = project.directory / "sbatch"
    words = 'for word; do case $word in --output=*) word=--output=/no/such/log;; esac; set -- "$@" "$word"; shift; done'
    wrapper.write_text(f'#!/bin/sh\n{words}\nexec sbatch "$@"\n', encoding="utf-8")
    wrapper.chmod(0o755)
    project.write_flow({"a": "true"})
    with project.started("run", "--runner-opt", f"sbatch_cmd={wrapper}", "a") as run:
        said = told_by(run, "workers do not come up, 3 times in a row")
        run.send_signal(signal.SIGINT)
        run.communicate(timeout=100)
    assert "its directory or output path is not usable" in said
    assert attempts(project, "a") == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["partition=nowhere"], "invalid partition specified: nowhere"),
        (["account=nobody", "partition=charged"], "account not known, so it can't use this partition"),
        (["constraint=nothing"], "Invalid feature specification"),
        (["sbatch_cmd=/no/sbatch"], "/no/sbatch was not found; load SLURM's module"),
    ],
)
def test_what_slurm_will_never_do_is_told_in_its_words(project: Project, options: list[str], words: str) -> None:
    project.write_flow({"a": "true"})
    answer = project.dfm("run", *(word for option in options for word in ("--runner-opt", option)), "a")
    assert answer.returncode == ExitCode.RUNNER_UNAVAILABLE
    assert words in answer.stdout
    assert "1 refused" in answer.stdout
    assert attempts(project, "a") == 0


@pytest.mark.parametrize(
    ("resources", "options", "words"),
    [
        ({"memory": "100G"}, [], "Requested node configuration is not available"),
        ({"cores": 64}, [], "the batch system will never start job"),
        ({"walltime": "2:00:00"}, ["--runner-opt", "partition=regr_high"], "the batch system will never start job"),
    ],
)
def test_a_request_larger_than_any_node_is_told_and_not_left_pending(
    project: Project, resources: dict[str, object], options: list[str], words: str
) -> None:
    project.write_flow({"a": {"run": "true", "tags": [{"std.ResourceTag": resources}]}})
    answer = project.dfm("run", *options, "a")
    assert answer.returncode == ExitCode.RUNNER_UNAVAILABLE, answer.stdout + answer.stderr
    assert words in answer.stdout


def test_a_run_from_inside_a_job_submits_what_it_says(project: Project) -> None:
    project.write_flow({"a": "true"})
    inside = {
        "SLURM_JOB_ID": "1",
        "SLURM_JOBID": "1",
        "SLURM_MEM_PER_CPU": "1",
        "SLURM_NTASKS": "64",
        "SBATCH_PARTITION": "nowhere",
        "SBATCH_TIMELIMIT": "1",
        "SQUEUE_STATES": "FAILED",
        "SLURM_CLUSTERS": "elsewhere",
    }
    answer = project.dfm("run", "a", env=inside)
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_an_interrupted_run_leaves_no_job(project: Project, cluster: SlurmCluster) -> None:
    project.write_flow({"a": FIRST_HANGS})
    with project.started("run", "a") as run:
        worker_of(project, cluster, "a")
        os.killpg(run.pid, signal.SIGINT)
        run.communicate(timeout=100)
        assert run.returncode == ExitCode.INTERRUPTED
    assert attempts(project, "a") == 1
