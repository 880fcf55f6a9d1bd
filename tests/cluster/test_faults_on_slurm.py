"""Runs on a real SLURM that misbehaves: no hang, nothing lost or doubled, and soon nothing of ours in squeue."""

import os
import re
import shlex
import signal
import sys
import time
from pathlib import Path

import pytest
from tests.cluster.runs import (
    FIRST_HANGS,
    UNWRITABLE,
    WAITS_FOR_LEAVE,
    Submitted,
    attempts,
    begun,
    ended_well,
    let_go,
    overheard_sbatch,
    sbatch_with,
    told_by,
    worker_of,
    wrapper,
)

from dfm.api.errors import ExitCode
from dfm.testing.project import QUICK_POOL, Project, wait_until
from dfm.testing.slurm_cluster import SlurmCluster

pytestmark = pytest.mark.cluster


def test_C15_a_task_whose_worker_is_cancelled_runs_again(project: Project, cluster: SlurmCluster) -> None:
    project.write_flow({"a": FIRST_HANGS})
    with project.started("run", "a") as run:
        cluster.cancel(worker_of(project, cluster, "a").id)
        assert "1 ok" in ended_well(run)
    assert attempts(project, "a") == 2


def test_S3_C14_a_worker_that_is_warned_of_its_time_limit_hands_its_task_on(
    project: Project, cluster: SlurmCluster
) -> None:
    project.write_flow({"a": FIRST_HANGS})
    with project.started("run", "a") as run:
        job = worker_of(project, cluster, "a")
        cluster.end_time(job.id, 40)
        assert "1 ok" in ended_well(run)
    assert attempts(project, "a") == 2
    assert cluster.wait_for_state(job.id, "FAILED", "TIMEOUT").state == "FAILED"  # it left by itself, before its time


def test_S9_a_job_that_slurm_starts_anew_under_its_old_id_serves_again(project: Project, cluster: SlurmCluster) -> None:
    project.write_flow({"a": FIRST_HANGS})
    with project.started("run", "--runner-opt", "requeue=true", "a") as run:
        job = worker_of(project, cluster, "a")
        cluster.requeue(job.id)
        cluster.wait_for_state(job.id, "PENDING")
        cluster.start_now(job.id)
        assert "1 ok" in ended_well(run)
    assert attempts(project, "a") == 2


def test_a_node_that_is_given_up_loses_its_task_to_another(own_project: Project, own_cluster: SlurmCluster) -> None:
    own_project.write_flow({"a": FIRST_HANGS})
    with own_project.started("run", "a") as run:
        own_cluster.kill_node(worker_of(own_project, own_cluster, "a").node)
        assert "1 ok" in ended_well(run)
    assert attempts(own_project, "a") == 2


def test_C3_S9_of_two_lives_of_one_job_the_later_one_counts(own_project: Project, own_cluster: SlurmCluster) -> None:
    own_project.write_flow({"a": FIRST_HANGS})
    with own_project.started("run", "--runner-opt", "requeue=true", "a") as run:
        job = worker_of(own_project, own_cluster, "a")
        [first] = own_project.workers()
        own_cluster.kill_node(job.node)
        own_cluster.wait_for_state(job.id, "PENDING")
        assert first in own_project.workers()  # nobody is left on its node to end it
        own_cluster.start_now(job.id)
        assert "1 ok" in ended_well(run)
    assert attempts(own_project, "a") == 2
    assert {job.id for job in own_cluster.jobs(name_prefix="dfm-")} == {job.id}


def test_a_preempted_worker_hands_its_task_to_another(project: Project, cluster: SlurmCluster) -> None:
    project.write_flow({"a": FIRST_HANGS})
    with project.started("run", "--runner-opt", "partition=preemptible", "a") as run:
        cluster.preempt(worker_of(project, cluster, "a").id)
        assert "1 ok" in ended_well(run)
    assert attempts(project, "a") == 2


def test_a_run_outlives_a_controller_that_is_away(own_project: Project, own_cluster: SlurmCluster) -> None:
    own_project.write_flow({"a": WAITS_FOR_LEAVE, "b": {"run": "true", "needs": ["a"]}})
    with own_project.started("run", "b") as run:
        begun(own_project, "a")
        own_cluster.stop_controller()
        let_go(own_project)
        wait_until((own_project.rundir / "p.b").exists, "the run to go on without a controller")
        own_cluster.start_controller()
        assert "2 ok" in ended_well(run)
    assert attempts(own_project, "a") == 1


POLL_SECONDS = 1.5
"""The shortest time between two questions, of a quick pool."""
HASTE = 0.05
AWAY_SECONDS = HASTE * 120.0
"""Two minutes of a pool in haste."""


def test_C4_C5_what_dies_in_two_minutes_without_a_controller_is_made_good_when_it_is_back(
    own_project: Project, own_cluster: SlurmCluster
) -> None:
    in_haste = {**QUICK_POOL, "time_scale": HASTE, "start_timeout": "20m", "lease_timeout": "4m"}
    own_project.write_settings({"default": "slurm", "pool": in_haste})
    own_project.write_flow({"a": WAITS_FOR_LEAVE, "b": WAITS_FOR_LEAVE})
    with own_project.started("run", "a", "b") as run:
        begun(own_project, "a")
        begun(own_project, "b")
        own_cluster.stop_controller()
        back_at = time.monotonic() + AWAY_SECONDS
        os.kill(own_project.workers()[0], signal.SIGKILL)
        wait_until(lambda: time.monotonic() > back_at, "two minutes to pass")
        assert run.poll() is None
        own_cluster.start_controller()
        wait_until(lambda: attempts(own_project, "a") + attempts(own_project, "b") == 3, "the lost task to begin again")
        let_go(own_project)
        assert "2 ok" in ended_well(run)
    assert sorted(attempts(own_project, task) for task in "ab") == [1, 2]
    assert len(own_cluster.jobs(name_prefix="dfm-")) == 3


def test_a_run_waits_for_a_controller_that_is_not_there_yet(own_project: Project, own_cluster: SlurmCluster) -> None:
    sbatch, said = overheard_sbatch(own_project)
    own_project.write_flow({"a": "true"})
    own_cluster.stop_controller()
    with own_project.started("run", "--runner-opt", f"sbatch_cmd={sbatch}", "a") as run:
        wait_until(lambda: "Unable to contact" in said.read_text(), "a refusal")
        own_cluster.start_controller()
        assert "1 ok" in ended_well(run)


def test_C5_C9_a_submission_to_a_frozen_controller_is_found_and_not_made_twice(
    own_project: Project, own_cluster: SlurmCluster
) -> None:
    sbatch, said = overheard_sbatch(own_project)
    own_project.write_flow({"a": "echo >> began"})
    own_cluster.freeze_controller()
    try:
        with own_project.started("run", "--runner-opt", f"sbatch_cmd={sbatch}", "a") as run:
            wait_until(lambda: "Socket timed out" in said.read_text(), "sbatch to give up")
            own_cluster.thaw_controller()
            assert "1 ok" in ended_well(run)
    finally:
        own_cluster.thaw_controller()
    assert attempts(own_project, "a") == 1
    assert len(own_cluster.jobs(name_prefix="dfm-")) == 1


def test_a_controller_that_freezes_while_a_task_runs_costs_nothing(
    own_project: Project, own_cluster: SlurmCluster
) -> None:
    own_project.write_flow({"a": WAITS_FOR_LEAVE, "b": {"run": "true", "needs": ["a"]}})
    with own_project.started("run", "b") as run:
        begun(own_project, "a")
        own_cluster.freeze_controller()
        try:
            let_go(own_project)
            wait_until((own_project.rundir / "p.b").exists, "the run to go on without a controller")
        finally:
            own_cluster.thaw_controller()
        assert "2 ok" in ended_well(run)
    assert attempts(own_project, "a") == 1


def test_a_drained_node_keeps_its_task_and_gets_no_new_worker(project: Project, cluster: SlurmCluster) -> None:
    project.write_flow({"a": WAITS_FOR_LEAVE})
    with project.started("run", "a") as run:
        node = worker_of(project, cluster, "a").node
        cluster.drain(node)
        try:
            let_go(project)
            assert "1 ok" in ended_well(run)
            assert project.dfm("run", "a").returncode == 0
            assert {job.node for job in cluster.jobs(name_prefix="dfm-")} > {node}
        finally:
            cluster.resume_node(node)


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("output", UNWRITABLE, "its directory or output path is not usable"),
        ("chdir", "/no/such/place", "started in /tmp and not in "),
    ],
)
def test_C11_C18_S10_a_directory_that_the_node_does_not_have_ends_the_run_with_the_reason(
    project: Project, option: str, value: str, words: str
) -> None:
    project.write_settings({"default": "slurm", "pool": {**QUICK_POOL, "time_scale": 0.03}})
    project.write_flow({"a": "echo >> began"})
    answer = project.dfm("run", "--runner-opt", f"sbatch_cmd={sbatch_with(project, option, value)}", "a")
    assert answer.returncode == ExitCode.RUNNER_UNAVAILABLE, answer.stdout + answer.stderr
    assert words in answer.stdout
    assert "1 refused" in answer.stdout
    assert attempts(project, "a") == 0


def test_C11_a_node_that_eats_every_worker_is_left_out(project: Project, submitted: Submitted) -> None:
    dfm = wrapper(
        project,
        "dfm",
        f'[ "$SLURMD_NODENAME" = n1 ] && echo no tools here && exit 1\nexec {sys.executable} -m dfm.core "$@"',
    )
    project.write_flow({"a": "true"})
    with project.started("run", "--runner-opt", f"worker_dfm_path={dfm}", "a") as run:
        told = told_by(run, "n1")
        assert "host n1 gets no workers for a while" in told
        assert "its log ends with 'no tools here'" in told
        assert "1 ok" in ended_well(run)
    assert sorted(job.node for job in submitted()) == ["n1", "n1", "n2"]


def test_C1_a_worker_that_is_connected_outlives_a_squeue_that_does_not_list_it(
    project: Project, submitted: Submitted
) -> None:
    asked = project.directory / "asked"
    squeue = wrapper(project, "squeue", f"echo >> {asked}")
    project.write_settings({"default": "slurm", "pool": {**QUICK_POOL, "poll_interval": "2s"}})
    project.write_flow({"a": WAITS_FOR_LEAVE})
    with project.started("run", "--runner-opt", f"squeue_cmd={squeue}", "a") as run:
        begun(project, "a")
        wait_until(lambda: asked.exists() and len(asked.read_text().splitlines()) >= 5, "squeue to be asked often")
        let_go(project)
        assert "1 ok" in ended_well(run)
    assert (attempts(project, "a"), len(submitted())) == (1, 1)


def test_C6_one_call_asks_for_all_workers_and_no_more_often_than_it_may(project: Project, submitted: Submitted) -> None:
    asked = project.directory / "asked"
    squeue = wrapper(project, "squeue", f'echo "$*" >> {asked}\nexec squeue "$@"')
    project.write_flow({"a": WAITS_FOR_LEAVE, "b": WAITS_FOR_LEAVE})
    started = time.monotonic()
    with project.started("run", "--runner-opt", f"squeue_cmd={squeue}", "a", "b") as run:
        begun(project, "a")
        begun(project, "b")
        names = {job.name for job in submitted()}
        wait_until(lambda: asked.exists() and len(asked.read_text().splitlines()) >= 3, "squeue to be asked")
        let_go(project)
        assert "2 ok" in ended_well(run)
    calls = asked.read_text(encoding="utf-8").splitlines()
    assert len(calls) <= 1 + (time.monotonic() - started) / POLL_SECONDS
    assert len(names) == 2
    assert any(all(name in call for name in names) for call in calls)


def test_C10_many_tasks_need_few_workers(project: Project, submitted: Submitted) -> None:
    numbers = ", ".join(str(number) for number in range(100))
    (project.directory / "flow.yaml").write_text(
        f"package:\n  name: p\n  tasks:\n  - name: many\n    strategy: {{matrix: {{n: [{numbers}]}}}}\n"
        "    body:\n    - {name: one, shell: sh, run: 'echo >> $DFM_SRCDIR/ran'}\n",
        encoding="utf-8",
    )
    answer = project.dfm("run", "many")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert len((project.directory / "ran").read_text(encoding="utf-8").splitlines()) == 100
    assert 1 <= len(submitted()) <= int(str(QUICK_POOL["max_workers"]))


def test_C22_a_worker_tries_one_address_after_another_and_tells_of_each(project: Project) -> None:
    pool = {**QUICK_POOL, "addresses": ["nowhere.invalid", "127.0.0.1"], "bind": ["127.0.0.1"]}
    project.write_settings({"default": "slurm", "pool": pool})
    project.write_flow({"a": WAITS_FOR_LEAVE})
    with project.started("run", "a") as run:
        begun(project, "a")
        [log] = project.directory.rglob("dfm-*.log")
        assert "nowhere.invalid" in log.read_text(encoding="utf-8")
        let_go(project)
        assert "1 ok" in ended_well(run)


# What cannot be.


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["partition=nowhere"], "invalid partition specified: nowhere"),
        (["partition=small"], "MaxMemPerLimit"),
        (["constraint=nothing"], "Invalid feature specification"),
        (["sbatch_cmd=/no/sbatch"], "/no/sbatch was not found; load SLURM's module"),
    ],
)
def test_C9_S7_what_slurm_will_never_do_is_told_in_its_words(project: Project, options: list[str], words: str) -> None:
    project.write_flow({"a": "true"})
    answer = project.dfm("run", *(word for option in options for word in ("--runner-opt", option)), "a")
    assert answer.returncode == ExitCode.RUNNER_UNAVAILABLE
    assert words in answer.stdout
    assert "1 refused" in answer.stdout
    assert attempts(project, "a") == 0


@pytest.mark.usefixtures("checked_accounts")
def test_C9_S7_a_partition_that_does_not_allow_the_account_is_told_in_slurms_words(project: Project) -> None:
    project.write_flow({"a": "true"})
    answer = project.dfm("run", "--runner-opt", "account=nobody", "--runner-opt", "partition=charged", "a")
    assert answer.returncode == ExitCode.RUNNER_UNAVAILABLE
    assert "account not known, so it can't use this partition" in answer.stdout


def test_without_sbatch_on_path_it_is_told_what_to_set(project: Project) -> None:
    project.write_flow({"a": "true"})
    answer = project.dfm("run", "a", env={"PATH": "/nowhere"})
    assert answer.returncode == ExitCode.RUNNER_UNAVAILABLE
    assert "sbatch was not found; load SLURM's module, or set sbatch_cmd of runner slurm" in answer.stdout


@pytest.mark.parametrize(
    ("resources", "options", "words"),
    [
        ({"memory": "100G"}, [], "Requested node configuration is not available"),
        # More cores than the whole cluster has; older versions accept that and never start it.
        ({"cores": 64}, [], "Requested node configuration is not available|the batch system will never start job"),
        ({"walltime": "2:00:00"}, ["--runner-opt", "partition=regr_high"], "the batch system will never start job"),
    ],
)
def test_C12_S7_a_request_larger_than_any_node_is_told_and_not_left_pending(
    project: Project, resources: dict[str, object], options: list[str], words: str
) -> None:
    project.write_flow({"a": {"run": "true", "tags": [{"std.ResourceTag": resources}]}})
    answer = project.dfm("run", *options, "a")
    assert answer.returncode == ExitCode.RUNNER_UNAVAILABLE, answer.stdout + answer.stderr
    assert re.search(words, answer.stdout), answer.stdout


def test_memory_and_time_that_slurm_would_misread_reach_it_in_its_own_units(
    project: Project, cluster: SlurmCluster
) -> None:
    resources = {"memory": "1.5G", "walltime": "1h"}
    project.write_flow({"a": {"run": WAITS_FOR_LEAVE, "tags": [{"std.ResourceTag": resources}]}})
    with project.started("run", "a") as run:
        job = worker_of(project, cluster, "a")
        shown = cluster.run("scontrol", "-o", "show", "job", job.id).stdout
        let_go(project)
        assert "1 ok" in ended_well(run)
    assert " MinMemoryNode=1.50G " in shown, shown
    assert " TimeLimit=04:00:00 " in shown  # and twice the margin, in which a worker takes no task


@pytest.mark.parametrize(
    "option",
    [
        "partition=-x",
        "account=--wrap=x",
        "exclude=-n1",
        "sbatch_cmd=-x",
        "memory_per_core=1,5G",
        "sbatch_extra=--time=1h",
    ],
)
def test_a_value_that_sbatch_would_misread_is_refused_before_anything_is_submitted(
    project: Project, submitted: Submitted, option: str
) -> None:
    project.write_flow({"a": "true"})
    answer = project.dfm("run", "--runner-opt", option, "a")
    name, _, value = option.partition("=")
    assert answer.returncode == ExitCode.USAGE
    assert f"runner.slurm.{name}: {value!r}" in answer.stderr
    assert submitted() == []


def test_accounting_that_is_not_there_costs_nothing(project: Project, cluster: SlurmCluster) -> None:
    project.write_flow({"a": FIRST_HANGS})
    with project.started("run", "--runner-opt", "accounting=true", "a") as run:
        cluster.cancel(worker_of(project, cluster, "a").id)
        assert "1 ok" in ended_well(run)
    assert attempts(project, "a") == 2


def test_S4_C20_a_run_inside_a_job_submits_what_it_says(
    project: Project, cluster: SlurmCluster, submitted: Submitted
) -> None:
    project.write_flow({"a": "true"})
    places = {name: project.environ[name] for name in ("DFM_STATE_DIR", "DFM_ACCESS_DIR", "XDG_CONFIG_HOME")}
    inherited = {"SBATCH_PARTITION": "nowhere", "SQUEUE_STATES": "FAILED", "SLURM_CLUSTERS": "elsewhere", **places}
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in inherited.items())
    run = shlex.join([str(Path(sys.executable).parent / "dfm"), "run", "a"])
    options = ("-J", "outer", "-c3", "--mem=300M", "-t30", f"--chdir={project.directory}")
    outer = cluster.submit(f"#!/bin/sh\n{exports}exec {run}\n", *options)
    assert cluster.wait_for_state(outer, "COMPLETED", "FAILED").state == "COMPLETED"
    [worker] = submitted()
    assert (worker.cores, worker.partition) == ("1", "normal")


def test_an_interrupted_run_leaves_no_job(project: Project, cluster: SlurmCluster) -> None:
    project.write_flow({"a": FIRST_HANGS})
    with project.started("run", "a") as run:
        worker_of(project, cluster, "a")
        os.killpg(run.pid, signal.SIGINT)
        run.communicate(timeout=100)
        assert run.returncode == ExitCode.INTERRUPTED
    assert attempts(project, "a") == 1
