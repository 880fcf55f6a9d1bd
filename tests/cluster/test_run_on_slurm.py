"""`dfm run` on a real SLURM, as a person calls it."""

import shutil
from pathlib import Path

import pytest

from dfm.testing.project import Project, verdicts
from dfm.testing.slurm_cluster import SlurmCluster

pytestmark = pytest.mark.cluster

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


@pytest.fixture
def project(project: Project) -> Project:
    """A project without settings, as a person begins."""
    (project.state / "config.yaml").unlink()
    return project


def test_the_rtl_example_runs_and_is_then_up_to_date(project: Project, cluster: SlurmCluster) -> None:
    if shutil.which("iverilog") is None:
        pytest.skip("Icarus Verilog is not installed")
    shutil.copytree(EXAMPLES / "rtl", project.directory, dirs_exist_ok=True, ignore=shutil.ignore_patterns("rundir"))
    known = {job.id for job in cluster.jobs()}
    first = project.dfm("run", "regression", "--runner", "slurm", "--json")
    assert first.returncode == 0, first.stdout + first.stderr
    of_first = verdicts(first)
    ran = ["rtl.compile", *(f"rtl.sims.sim_{number}" for number in range(12)), "rtl.regression"]
    assert {of_first[name] for name in ran} == {"succeeded"}
    table = project.rundir / "rtl.regression" / "table.txt"
    assert len(table.read_text(encoding="utf-8").splitlines()) == 14
    submitted = {job.id for job in cluster.jobs()} - known
    assert 1 <= len(submitted) <= 13
    second = project.dfm("run", "regression", "--runner", "slurm", "--json")
    assert set(verdicts(second).values()) == {"up-to-date"}
    assert {job.id for job in cluster.jobs()} - known <= submitted


def test_dry_run_prints_what_would_be_submitted_and_submits_nothing(project: Project, cluster: SlurmCluster) -> None:
    project.write_flow({"a": "true"})
    known = {job.id for job in cluster.jobs()}
    answer = project.dfm("run", "--runner", "slurm", "--runner-opt", "partition=regr_high", "--dry-run", "a")
    assert answer.returncode == 0, answer.stderr
    shown = answer.stdout + answer.stderr
    assert "sbatch --parsable --job-name=dfm-" in shown
    assert " --partition=regr_high " in shown
    assert "<<'END_OF_SCRIPT'\n#!/bin/sh\nexec " in shown
    assert f" --access {project.environ['DFM_ACCESS_DIR']}/" in shown
    assert {job.id for job in cluster.jobs()} <= known


def test_doctor_sends_a_canary(project: Project) -> None:
    project.write_flow({"a": "true"})
    answer = project.dfm("doctor", "--runner", "slurm", "--canary")
    assert answer.returncode == 0, answer.stdout
    assert "canary: a task ran on " in answer.stdout
