"""Runs of `dfm` on a real SLURM, for tests: bodies that wait, and where their tasks and jobs stand."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from dfm.testing.project import QUICK_POOL, Project, wait_until
from dfm.testing.slurm_cluster import ClusterJob, Shape, SlurmCluster

if TYPE_CHECKING:
    import subprocess

Submitted: TypeAlias = Callable[[], list[ClusterJob]]
"""Returns the jobs of workers that the test has submitted and that SLURM remembers."""
GONE_SECONDS = 30.0
"""So long may it take from the end of a run to the end of its last job."""
IMPATIENT = Shape(node_timeout_seconds=5, message_timeout_seconds=2)
"""A cluster that soon gives up what does not answer, for tests that break it."""
UNWRITABLE = "/dev/null/place"
"""No user can write there, nor make it: SLURM since 23.02 makes a log's missing directory where it may."""
FIRST_HANGS = "echo >> began; [ $(wc -l < began) = 1 ] && exec sleep 600; exit 0"
"""A body that does not end by itself, but for its later attempts."""
WAITS_FOR_LEAVE = 'echo >> began; until [ -e "$DFM_SRCDIR/leave" ]; do sleep 0.1; done'
"""A body that ends when `leave` is in the project's directory."""


@contextlib.contextmanager
def project_on(cluster: SlurmCluster, directory: Path, **pool: object) -> Iterator[Project]:
    """Have a project on the cluster; at the end nothing of it is in squeue, and no process of it lives.

    Args:
        cluster: where its workers run.
        directory: its own.
        pool: settings that differ from the quick ones.
    """
    project = Project(directory)
    project.environ.update(cluster.environ)
    project.write_settings({"default": "slurm", "pool": {**QUICK_POOL, **pool}})
    yield project
    cluster.wait_until(lambda: not live_jobs(cluster), "jobs of an ended run are in squeue", GONE_SECONDS)
    wait_until(lambda: not project.processes(), "the processes of the project to be gone")


def live_jobs(cluster: SlurmCluster) -> list[ClusterJob]:
    return [job for job in cluster.jobs(name_prefix="dfm-") if job.is_live]


def attempts(project: Project, task: str) -> int:
    """Return how often the body of a task has begun."""
    path = project.rundir / f"p.{task}" / "began"
    return len(path.read_text(encoding="utf-8").splitlines()) if path.exists() else 0


def begun(project: Project, task: str, count: int = 1) -> None:
    """Wait until the body of a task has begun so often."""
    wait_until(lambda: attempts(project, task) >= count, f"{task} to begin")


def let_go(project: Project) -> None:
    """Let the bodies that wait for it end."""
    (project.directory / "leave").touch()


def worker_of(project: Project, cluster: SlurmCluster, task: str) -> ClusterJob:
    """Wait until the body of the only task has begun; return the job of its worker."""
    begun(project, task)
    [job] = live_jobs(cluster)
    return job


def wrapper(project: Project, program: str, script: str) -> str:
    """Write a script that stands for one of SLURM's programs; return its path."""
    path = project.directory / program
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def sbatch_with(project: Project, option: str, value: str) -> str:
    """Return the path of an sbatch that gives an option another value than it was told."""
    words = f'case $word in --{option}=*) word=--{option}={value};; esac; set -- "$@" "$word"; shift'
    return wrapper(project, "sbatch", f'for word; do {words}; done\nexec sbatch "$@"')


def overheard_sbatch(project: Project) -> tuple[str, Path]:
    """Return the path of an sbatch whose errors are kept, and of the file that keeps them."""
    said = project.directory / "sbatch.said"
    said.touch()
    words = f'words=$(sbatch "$@" 2>&1 >&3)\nstatus=$?\nprintf "%s\\n" "$words" | tee -a {said} >&2\nexit $status'
    return wrapper(project, "sbatch", f"exec 3>&1\n{words}"), said


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
