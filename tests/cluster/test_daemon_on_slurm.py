"""A daemon whose workers are jobs of a real SLURM, and what happens to it, to them, and to SLURM."""

import os
import signal

import pytest
from tests.cluster.runs import (
    FIRST_HANGS,
    WAITS_FOR_LEAVE,
    Submitted,
    attempts,
    begun,
    ended_well,
    let_go,
    live_jobs,
    worker_of,
)

from dfm.testing.project import QUICK_POOL, Project, wait_until
from dfm.testing.slurm_cluster import ClusterJob, SlurmCluster

pytestmark = pytest.mark.cluster


def kill_daemon(project: Project) -> None:
    """Kill the daemon; its endpoint stays, as after a crash."""
    pid = project.status()["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: pid not in project.processes(), "the daemon to be dead")


def is_connected(project: Project, job: ClusterJob) -> bool:
    """Whether the daemon knows the job, and has its worker."""
    return any(known["id"] == job.id and known["is_connected"] for known in project.status()["jobs"])


def test_a_task_whose_worker_is_cancelled_runs_again_and_the_daemon_keeps_serving(
    project: Project, cluster: SlurmCluster
) -> None:
    project.write_flow({"a": FIRST_HANGS, "b": "true"})
    with project.daemon():
        with project.started("run", "a") as run:
            cluster.cancel(worker_of(project, cluster, "a").id)
            assert "1 ok" in ended_well(run)
        assert project.verdicts("b") == {"b": "succeeded"}
        assert attempts(project, "a") == 2


def test_C19_a_restarted_daemon_adopts_its_jobs(project: Project, cluster: SlurmCluster, submitted: Submitted) -> None:
    project.write_flow({"a": WAITS_FOR_LEAVE})
    with project.daemon(), project.started("run", "a") as run:
        job = worker_of(project, cluster, "a")
        kill_daemon(project)
        assert project.dfm("daemon", "start").returncode == 0
        wait_until(lambda: is_connected(project, job), "the worker to be adopted")
        let_go(project)
        assert "1 ok" in ended_well(run)
        assert (attempts(project, "a"), len(submitted())) == (1, 1)


def test_C19_a_worker_that_was_cancelled_while_no_daemon_was_there_is_made_good(
    project: Project, cluster: SlurmCluster
) -> None:
    project.write_flow({"a": FIRST_HANGS})
    with project.daemon(), project.started("run", "a") as run:
        job = worker_of(project, cluster, "a")
        kill_daemon(project)
        cluster.cancel(job.id)
        cluster.wait_for_state(job.id, "CANCELLED", "FAILED")
        assert project.dfm("daemon", "start").returncode == 0
        assert "1 ok" in ended_well(run)
        assert attempts(project, "a") == 2


def test_C19_reap_ends_the_jobs_of_a_daemon_that_does_not_come_back(project: Project, cluster: SlurmCluster) -> None:
    project.write_flow({"a": WAITS_FOR_LEAVE})
    with project.daemon(), project.started("run", "a") as run:
        job = worker_of(project, cluster, "a")
        kill_daemon(project)
        run.kill()
        answer = project.dfm("daemon", "reap")
        assert answer.returncode == 0, answer.stderr
        assert job.name in answer.stderr
        cluster.wait_until(lambda: not live_jobs(cluster), "the job is not gone")


def test_C3_C9_a_daemon_outlives_a_controller_that_is_killed(own_project: Project, own_cluster: SlurmCluster) -> None:
    own_project.write_flow({"a": WAITS_FOR_LEAVE, "b": "echo >> began"})
    with own_project.daemon():
        with own_project.started("run", "a") as first:
            begun(own_project, "a")
            own_cluster.kill_controller()
            with own_project.started("run", "--rundir", "other", "b") as second:
                wait_until(lambda: own_project.status()["paused"], "a submission to be refused")
                own_cluster.start_controller()
                assert "1 ok" in ended_well(second)
            let_go(own_project)
            assert "1 ok" in ended_well(first)
        assert attempts(own_project, "a") in (1, 2)  # SLURM starts a job anew whose start it has forgotten
        assert own_project.status()["counters"]["committed"] == 2


def test_C16_the_task_of_a_suspended_worker_waits_and_goes_on(
    project: Project, cluster: SlurmCluster, submitted: Submitted
) -> None:
    pool = {**QUICK_POOL, "lease_timeout": "20s", "poll_interval": "5s"}
    project.write_settings({"default": "slurm", "pool": pool})
    project.write_flow({"a": WAITS_FOR_LEAVE})
    with project.daemon(), project.started("run", "a") as run:
        job = worker_of(project, cluster, "a")
        cluster.suspend(job.id)
        wait_until(lambda: [task["state"] for task in project.why()] == ["suspended"], "the daemon to know")
        let_go(project)
        cluster.resume(job.id)
        assert "1 ok" in ended_well(run)
        assert (attempts(project, "a"), len(submitted())) == (1, 1)


def test_C12_why_a_worker_waits_is_told(project: Project, cluster: SlurmCluster) -> None:
    project.write_flow({"a": "true"})
    cluster.set_partition("preemptible", "DOWN")
    try:
        with project.daemon("--runner-opt", "partition=preemptible"), project.started("run", "a") as run:
            wait_until(lambda: any("PartitionDown" in task["reason"] for task in project.why()), "the reason")
            cluster.set_partition("preemptible", "UP")
            assert "1 ok" in ended_well(run)
    finally:
        cluster.set_partition("preemptible", "UP")


def test_C13_a_job_that_waits_is_cancelled_once_nobody_needs_it_and_a_worker_is_not(
    project: Project, cluster: SlurmCluster, submitted: Submitted
) -> None:
    def states() -> list[str]:
        return sorted(job.state for job in submitted())

    in_haste = {**QUICK_POOL, "time_scale": 0.03, "idle_timeout": "1h"}
    project.write_settings({"default": "slurm", "pool": in_haste})
    project.write_flow({"a": WAITS_FOR_LEAVE, "b": WAITS_FOR_LEAVE})
    with project.daemon("--runner-opt", "licenses=vcs:2"):
        with project.started("run", "a", "b") as run:
            cluster.wait_until(lambda: states() == ["PENDING", "RUNNING"], "no job waits")
            let_go(project)
            assert "2 ok" in ended_well(run)
        cluster.wait_until(lambda: states() == ["CANCELLED", "RUNNING"], "a job still waits")


def test_C14_a_worker_without_work_leaves_by_itself(project: Project, cluster: SlurmCluster) -> None:
    project.write_settings({"default": "slurm", "pool": {**QUICK_POOL, "idle_timeout": "10s"}})
    project.write_flow({"a": "true"})
    with project.daemon():
        assert project.verdicts("a") == {"a": "succeeded"}
        [job] = live_jobs(cluster)
        assert cluster.wait_for_state(job.id, "COMPLETED", "CANCELLED", "FAILED").state == "COMPLETED"
