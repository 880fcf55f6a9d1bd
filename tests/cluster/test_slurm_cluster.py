"""The kit itself: a SLURM that comes up, obeys, goes away and leaves nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dfm.api.errors import InfrastructureError
from dfm.testing.slurm_cluster import SlurmCluster

pytestmark = pytest.mark.cluster

SLEEPER = "#!/bin/sh\nexec sleep 600\n"


def processes_of(cluster_directory: Path) -> list[str]:
    """Return the command lines of live processes that name the directory or have it in their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            words = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
        except OSError:
            continue
        if str(cluster_directory).encode() in words:
            found.append(words.replace(b"\0", b" ").decode(errors="replace")[:200])
    return found


def test_clusters_run_beside_one_another_and_leave_nothing(tmp_path: Path) -> None:
    with SlurmCluster(tmp_path / "one") as one, SlurmCluster(tmp_path / "two") as two:
        runs = [Path(one.layout.run), Path(two.layout.run)]
        job = one.submit(SLEEPER, "-J", "sleeper", "--mem=10M")
        assert one.wait_for_state(job, "RUNNING").name == "sleeper"
        assert two.jobs() == []
    assert processes_of(tmp_path) == []
    assert [run for run in runs if run.exists()] == []


def test_a_job_whose_node_was_killed_does_not_outlive_the_cluster(tmp_path: Path) -> None:
    with SlurmCluster(tmp_path) as cluster:
        job = cluster.submit(SLEEPER, "-w", "n2", "--mem=10M")
        cluster.wait_for_state(job, "RUNNING")
        cluster.kill_node("n2")
        assert cluster.wait_for_state(job, "RUNNING").node == "n2"
    assert processes_of(tmp_path) == []


def test_the_controller_may_be_away_and_comes_back_with_its_jobs(own_cluster: SlurmCluster) -> None:
    job = own_cluster.submit(SLEEPER, "--mem=10M")
    own_cluster.wait_for_state(job, "RUNNING")
    own_cluster.stop_controller()
    assert "Unable to contact slurm controller" in own_cluster.run("squeue").stderr
    own_cluster.start_controller()
    assert own_cluster.wait_for_state(job, "RUNNING").id == job


def test_jobs_are_suspended_resumed_requeued_preempted_and_cancelled(cluster: SlurmCluster) -> None:
    job = cluster.submit(SLEEPER, "-p", "preemptible", "--mem=10M", "-w", "n3")
    cluster.wait_for_state(job, "RUNNING")
    cluster.suspend(job)
    cluster.wait_for_state(job, "SUSPENDED")
    cluster.resume(job)
    cluster.wait_for_state(job, "RUNNING")
    urgent = cluster.preempt(job)
    cluster.wait_for_state(urgent, "RUNNING")
    cluster.wait_for_state(job, "PENDING")
    cluster.cancel(job, urgent)
    cluster.wait_for_state(job, "CANCELLED")


def test_a_drained_node_gets_no_job_until_it_is_resumed(cluster: SlurmCluster) -> None:
    cluster.drain("n4")
    job = cluster.submit(SLEEPER, "-w", "n4", "--mem=10M")
    assert "ReqNodeNotAvail" in cluster.wait_for_state(job, "PENDING").reason
    cluster.resume_node("n4")
    assert cluster.wait_for_state(job, "RUNNING").node == "n4"


def test_a_person_starts_it_and_stops_it(tmp_path: Path) -> None:
    def call(action: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "dfm.testing.slurm_cluster", action, "--directory", str(tmp_path)]
        return subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)

    try:
        up = call("up")
        assert (up.returncode, up.stderr) == (0, "")
        assert up.stdout == f"export SLURM_CONF={tmp_path}/slurm.conf\n"
        assert call("up").stdout == up.stdout
        squeue = subprocess.run(
            ["squeue", "-h"], env={**os.environ, "SLURM_CONF": f"{tmp_path}/slurm.conf"}, timeout=60, check=False
        )
        assert squeue.returncode == 0
    finally:
        down = call("down")
    assert (down.returncode, down.stdout, down.stderr) == (0, "", "")
    assert call("down").returncode == 0
    assert processes_of(tmp_path) == []


def test_missing_programs_are_told_with_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dfm.testing.slurm_cluster.cluster.PROGRAMS", ("munged", "no-such-slurmd"))
    with pytest.raises(InfrastructureError, match="no-such-slurmd not found") as caught, SlurmCluster(tmp_path):
        pass
    assert caught.value.hint == "on Debian and Ubuntu: apt-get install slurm-wlm munge"
