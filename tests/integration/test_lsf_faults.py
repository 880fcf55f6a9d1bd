# ruff: noqa: N802  (tests bear the ids of the requirements)
"""Runs on the fake LSF while it misbehaves: each ends, with each result once, no job left, and nobody annoyed.

LSF's seconds pass SPEED times as fast as ours, and the pool's as well: a status call may come every 15 of them.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dfm.testing.fake_lsf import FakeLsf, Host, Params, Queue
from dfm.testing.fake_lsf.cluster import JobRecord
from dfm.testing.project import QUICK_POOL, Project, verdicts, wait_until

SPEED = 10
SLACK = 0.9
"""Calls are logged by the processes that make them, which a busy machine starts late."""
HOLD = (
    'echo "$$" >> "$DFM_SRCDIR/begun"; '
    'for i in $(seq 1800); do [ -e "$DFM_SRCDIR/go" ] && break; sleep 0.05; done; '
    'echo done >> "$DFM_SRCDIR/done"'
)
HALVES = {f"t{n}": f'dfm-out item --type p.N n:={n}; echo {n} >> "$DFM_SRCDIR/ran"' for n in range(6)}


class Clusters:
    """Makes the cluster of a test."""

    def __init__(self, parent: Path) -> None:
        self._parent = parent
        self.made: list[FakeLsf] = []

    def __call__(
        self,
        hosts: tuple[Host, ...] | None = None,
        params: Params | None = None,
        speed: float = SPEED,
        queues: tuple[Queue, ...] | None = None,
        licences: Mapping[str, int] | None = None,
    ) -> FakeLsf:
        quick = params or Params(mbd_sleep_time=2, sbd_sleep_time=2)
        lsf = FakeLsf(self._parent, speed=speed, hosts=hosts, queues=queues, licences=licences, params=quick)
        lsf.__enter__()
        self.made.append(lsf)
        return lsf


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Clusters]:
    clusters = Clusters(tmp_path)
    yield clusters
    for lsf in clusters.made:
        lsf.__exit__(None, None, None)


@pytest.fixture
def project(tmp_path: Path, cluster: Clusters) -> Iterator[Project]:
    """Return a project; at the end nothing of it is left in LSF or here, and the log of calls shows no impolite one."""
    directory = tmp_path / "project"
    directory.mkdir()
    found = Project(directory)
    found.write_settings({"default": "lsf", "pool": dict(QUICK_POOL)})
    yield found
    wait_until(lambda: not found.processes(), "the processes of the project to be gone")
    for lsf in cluster.made:
        lsf.assert_polite(max_status_calls_per=15 * SLACK)
    if list(found.private.rglob("journal")):  # a submission was under way at the end: it is known, and can be ended
        answer = found.dfm("daemon", "reap", "--runner", "lsf")
        assert answer.returncode == 0, answer.stderr
    assert not list(found.private.rglob("journal"))
    wait_until(lambda: not any(map(living, cluster.made)), "LSF to have seen that its jobs are gone")


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def living(lsf: FakeLsf) -> list[JobRecord]:
    return [job for job in lsf.jobs() if job.is_live]


def use(project: Project, lsf: FakeLsf, tasks: Mapping[str, str | Mapping[str, object]], **pool: object) -> None:
    project.environ["PATH"] = lsf.environ["PATH"]
    project.write_settings({"default": "lsf", "pool": {**QUICK_POOL, **pool}})
    project.write_flow(tasks)


def lines(project: Project, name: str) -> list[str]:
    path = project.directory / name
    return path.read_text(encoding="utf-8").split() if path.exists() else []


def begun_of(project: Project, fault: str | None) -> list[str]:
    """Return which bodies ran: of two workers of one submission the later takes over what the other had begun."""
    found = lines(project, "ran")
    return list(set(found)) if fault == "submit-twice" else found


def let_go(project: Project) -> None:
    (project.directory / "go").touch()


def result(process: "subprocess.Popen[str]") -> tuple[int, dict[str, str], str]:
    stdout, stderr = process.communicate(timeout=150)
    assert stdout, stderr
    answer = subprocess.CompletedProcess([], process.returncode, stdout, stderr)
    return process.returncode, verdicts(answer), stderr


def runs_on(lsf: FakeLsf, count: int = 1) -> list[JobRecord]:
    """Wait until so many jobs run, and return them."""
    lsf.wait_until(lambda jobs: sum(job.state == "RUN" for job in jobs) >= count, timeout=60, what="running jobs")
    return [job for job in lsf.jobs() if job.state == "RUN"]


def begun(project: Project, count: int = 1) -> None:
    wait_until(lambda: len(lines(project, "begun")) >= count, f"{count} bodies to begin")


def wait_for_turn(lsf: FakeLsf) -> None:
    """Wait until whoever asks next, and does not know of a killed daemon's last question, asks politely."""

    def is_long_ago() -> bool:
        asked = lsf.invocations("bjobs")
        return not asked or datetime.now(UTC).timestamp() - asked[-1].started >= lsf.seconds(15)

    wait_until(is_long_ago, "the last question to be long ago")


# bsub.


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "hang"},
        {"kind": "submit-but-time-out"},
        {"kind": "submit-twice"},
        {"kind": "ok-empty"},
        {"kind": "ok-empty", "accepted": "no"},
        {"kind": "rc255-empty"},
        {"kind": "noise-before"},
        {"kind": "partial-output"},
        {"kind": "query-limit"},
        {"kind": "non-lsf-host"},
        {"kind": "pending-threshold"},
        {"kind": "invisible", "seconds": 30},
    ],
    ids=lambda fault: "-".join(str(value) for value in fault.values()),
)
def test_every_task_runs_once_though_bsub(project: Project, cluster: Clusters, fault: dict[str, object]) -> None:
    lsf = cluster()
    use(project, lsf, {**HALVES, "all": {"needs": list(HALVES), "run": "true"}})
    lsf.inject("bsub", str(fault["kind"]), **{name: value for name, value in fault.items() if name != "kind"})
    answer = project.dfm("run", "all", "--json", timeout=150)
    assert set(verdicts(answer).values()) == {"succeeded"}, answer.stderr
    assert sorted(begun_of(project, str(fault["kind"]))) == [str(n) for n in range(6)]


# Arrays.


@pytest.mark.parametrize(
    "fault", [None, "submit-but-time-out", "submit-twice", "ok-empty", "rc255-empty", "noise-before"]
)
def test_L17_the_workers_of_an_array_run_every_task_once_though_bsub(
    project: Project, cluster: Clusters, fault: str | None
) -> None:
    lsf = cluster()
    use(project, lsf, {**HALVES, "all": {"needs": list(HALVES), "run": "true"}}, max_workers=4)
    if fault is not None:
        lsf.inject("bsub", fault)
    answer = project.dfm("run", "all", "--json", "--runner-opt", "use_arrays=true", timeout=150)
    assert set(verdicts(answer).values()) == {"succeeded"}, answer.stderr
    assert sorted(begun_of(project, fault)) == [str(n) for n in range(6)]
    names = [call.argv[1] for call in lsf.invocations("bsub")]
    assert names[0].endswith("[1-4]"), names
    assert len(names) <= 3, names


def test_L17_one_element_is_killed_and_the_others_keep_their_tasks(project: Project, cluster: Clusters) -> None:
    lsf = cluster()
    use(
        project,
        lsf,
        {**{f"held{n}": HOLD for n in range(3)}, "all": {"needs": [f"held{n}" for n in range(3)], "run": "true"}},
        max_workers=3,
    )
    with project.started("run", "all", "--json", "--runner-opt", "use_arrays=true") as process:
        begun(project, 3)
        first = runs_on(lsf, 3)[0]
        assert {job.label.partition("[")[0] for job in lsf.jobs()} == {str(first.id)}
        lsf.ctl.kill(first.label, "TERM_ADMIN")
        begun(project, 4)
        let_go(project)
        code, found, _ = result(process)
    assert (code, set(found.values())) == (0, {"succeeded"})
    assert (len(lines(project, "begun")), lines(project, "done")) == (4, ["done"] * 3)
    killed = [word for call in lsf.invocations("bkill") for word in call.argv]
    assert first.label not in killed
    assert all("[" in word for word in killed if word.startswith(str(first.id))), "never the whole array at once"


def test_L17_ctrl_c_while_an_array_is_pending_leaves_no_element(project: Project, cluster: Clusters) -> None:
    lsf = cluster()
    use(project, lsf, {**HALVES, "all": {"needs": list(HALVES), "run": "true"}}, max_workers=4)
    lsf.ctl.stop_queue("normal")
    with project.started("run", "all", "--runner-opt", "use_arrays=true") as process:
        lsf.wait_until(lambda jobs: len(jobs) == 4, what="the array to be there")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=90)
        assert process.returncode == 130
    wait_until(lambda: not living(lsf), "the elements to be gone")


# bjobs.


@pytest.mark.parametrize("kind", ["ok-empty", "garbage-json", "rc255-empty", "query-limit", "partial-output", "hang"])
def test_a_run_goes_on_though_bjobs(project: Project, cluster: Clusters, kind: str) -> None:
    lsf = cluster()
    use(project, lsf, {"held": HOLD})
    lsf.inject("bjobs", kind, times=3)
    with project.started("run", "held", "--json") as process:
        begun(project)
        questions = 1 if kind == "hang" else 2  # ten times as long as one has hung nobody asks again
        wait_until(lambda: len(lsf.invocations("bjobs")) >= questions, "questions about jobs", 90)
        let_go(project)
        assert result(process)[:2] == (0, {"held": "succeeded"})
    assert lines(project, "done") == ["done"]
    assert len(lsf.jobs()) == 1


def test_C1_a_job_that_bjobs_forgets_keeps_its_worker(project: Project, cluster: Clusters) -> None:
    lsf = cluster()
    use(project, lsf, {"held": HOLD})
    with project.started("run", "held", "--json") as process:
        begun(project)
        [job] = runs_on(lsf)
        lsf.ctl.forget(job.id)
        asked = len(lsf.invocations("bjobs"))
        wait_until(lambda: len(lsf.invocations("bjobs")) >= asked + 1, "a question about jobs", 90)
        let_go(project)
        assert result(process)[:2] == (0, {"held": "succeeded"})
    assert lines(project, "done") == ["done"]


# Jobs.


def test_C3_a_job_that_is_requeued_under_its_id_has_its_task_run_again(project: Project, cluster: Clusters) -> None:
    lsf = cluster()
    use(project, lsf, {"held": HOLD})
    with project.started("run", "held", "--json") as process:
        begun(project)
        [job] = runs_on(lsf)
        lsf.ctl.preempt(job.id, "requeue")
        begun(project, 2)
        let_go(project)
        assert result(process)[:2] == (0, {"held": "succeeded"})
    assert lines(project, "done") == ["done"]


@pytest.mark.parametrize("reason", ["TERM_PREEMPT", "TERM_ADMIN", "TERM_MEMLIMIT", "TERM_RUNLIMIT", "TERM_OWNER"])
def test_the_task_of_a_job_that_lsf_kills_runs_on_another(project: Project, cluster: Clusters, reason: str) -> None:
    lsf = cluster()
    use(project, lsf, {"held": HOLD})
    with project.started("run", "held", "--json") as process:
        begun(project)
        [job] = runs_on(lsf)
        lsf.ctl.kill(job.id, reason)
        begun(project, 2)
        let_go(project)
        assert result(process)[:2] == (0, {"held": "succeeded"})
    assert lines(project, "done") == ["done"]
    assert len(lsf.jobs()) == 2


def test_a_task_whose_job_lsf_ends_for_memory_grows_into_the_next_class(project: Project, cluster: Clusters) -> None:
    lsf = cluster()
    tag = {"std.ResourceTag": {"resource_class": "small", "may_grow": True}}
    use(project, lsf, {"held": {"run": HOLD, "tags": [tag]}})
    classes = {"small": {"memory": "250M", "next": "big"}, "big": {"memory": "2G"}}
    options = {"set_M": True, "mem_limit_unit": "KB"}
    project.write_settings({"default": "lsf", "resource_classes": classes, "lsf": options, "pool": dict(QUICK_POOL)})
    with project.started("run", "held", "--json") as process:
        begun(project)
        while "2097152" not in limits(lsf):  # a job that began before the end of the one before was explained ends too
            before = len(lines(project, "begun"))
            [job] = runs_on(lsf)
            lsf.ctl.kill(job.id, "TERM_MEMLIMIT")
            wait_until(lambda before=before: len(lines(project, "begun")) > before, "the task to begin again")  # type: ignore[misc]
        let_go(project)
        assert result(process)[:2] == (0, {"held": "succeeded"})
    assert limits(lsf)[:3] in (["256000", "2097152"], ["256000", "256000", "2097152"])


def limits(lsf: FakeLsf) -> list[str]:
    return [call.argv[call.argv.index("-M") + 1] for call in lsf.invocations("bsub")]


def test_a_task_that_its_workers_run_limit_cut_off_runs_on_another(project: Project, cluster: Clusters) -> None:
    lsf = cluster()
    use(project, lsf, {"held": HOLD})
    pool = {**QUICK_POOL, "walltime": "1m", "walltime_margin": "10s"}
    project.write_settings({"default": "lsf", "defaults": {"walltime": None}, "pool": pool})
    with project.started("run", "held", "--json") as process:
        begun(project)
        begun(project, 2)
        let_go(project)
        assert result(process)[:2] == (0, {"held": "succeeded"})
    assert lines(project, "done") == ["done"]
    assert [call.argv[call.argv.index("-W") + 1] for call in lsf.invocations("bsub")] == ["1", "1"]


def test_C16_a_suspended_job_keeps_its_task_and_goes_on_when_it_is_resumed(project: Project, cluster: Clusters) -> None:
    lsf = cluster()
    use(project, lsf, {"held": HOLD}, lease_timeout="80s", poll_interval="30s", lost_timeout="20m")
    with project.started("run", "held", "--json") as process:
        begun(project)
        [job] = runs_on(lsf)
        lsf.ctl.suspend(job.id)
        asked = len(lsf.invocations("bjobs"))
        wait_until(lambda: len(lsf.invocations("bjobs")) >= asked + 2, "its lease to pass", 90)
        lsf.ctl.resume(job.id)
        let_go(project)
        assert result(process)[:2] == (0, {"held": "succeeded"})
    assert (len(lines(project, "begun")), lines(project, "done")) == (1, ["done"])
    assert len(lsf.jobs()) == 1


def test_C11_a_host_that_eats_every_job_is_left_out(project: Project, cluster: Clusters) -> None:
    lsf = cluster(hosts=(Host(name="hole", slots=8, broken=1), Host(name="sound", slots=2)))
    use(project, lsf, {**HALVES, "all": {"needs": list(HALVES), "run": "true"}})
    answer = project.dfm("run", "all", "--json", timeout=150)
    assert set(verdicts(answer).values()) == {"succeeded"}, answer.stderr
    assert sorted(lines(project, "ran")) == [str(n) for n in range(6)]
    wanted = [word for call in lsf.invocations("bsub") for word in call.argv if word.startswith("select[")]
    if len(lsf.jobs()) > 2:
        assert any("hname!='hole'" in word for word in wanted), "after two deaths on it"


def test_C11_where_every_host_eats_its_jobs_the_run_ends_with_the_reason(project: Project, cluster: Clusters) -> None:
    lsf = cluster(hosts=(Host(name="hole", slots=8, broken=1),))
    use(project, lsf, {"a": "true"})
    answer = project.dfm("run", "a", timeout=150)
    assert answer.returncode == 7
    assert "workers do not come up" in answer.stdout
    assert len(lsf.jobs()) <= 5


def test_C4_a_job_that_lsf_lost_sight_of_keeps_its_task(project: Project, cluster: Clusters) -> None:
    lsf = cluster()
    use(project, lsf, {"held": HOLD})
    with project.started("run", "held", "--json") as process:
        begun(project)
        [job] = runs_on(lsf)
        lsf.ctl.lose_host(job.hosts[0])
        lsf.wait_until(lambda jobs: jobs[0].state == "UNKWN", what="the job to be UNKWN")
        asked = len(lsf.invocations("bjobs"))
        wait_until(lambda: len(lsf.invocations("bjobs")) >= asked + 2, "two questions about it", 90)
        lsf.ctl.recover(job.hosts[0])
        let_go(project)
        assert result(process)[:2] == (0, {"held": "succeeded"})
    assert (len(lines(project, "begun")), lines(project, "done")) == (1, ["done"])
    assert (len(lsf.jobs()), lsf.jobs()[0].start_count) == (1, 1)


def test_C3_of_two_lives_of_a_job_the_newer_one_wins(project: Project, cluster: Clusters) -> None:
    lsf = cluster(queues=(Queue(name="normal", rerunnable=True),))
    use(project, lsf, {"held": HOLD})
    with project.started("run", "held", "--json", "--runner-opt", "omit_flags=-rn") as process:
        begun(project)
        [job] = runs_on(lsf)
        lsf.ctl.lose_host(job.hosts[0], twin=True)
        begun(project, 2)
        older = int(lines(project, "begun")[0])
        wait_until(lambda: not is_alive(older), "the body of the older life to be killed")
        let_go(project)
        assert result(process)[:2] == (0, {"held": "succeeded"})
    assert lines(project, "done") == ["done"]
    [job] = lsf.jobs()
    assert (job.start_count, len(job.abandoned_pids)) == (2, 1)


def test_L14_a_task_that_has_more_memory_than_its_job_may_is_lost_and_told_so(
    project: Project, cluster: Clusters
) -> None:
    params = Params(mbd_sleep_time=2, sbd_sleep_time=2, lsf_unit_for_limits="MB", signal_escapees=True)
    lsf = cluster(params=params)
    hungry = f"{sys.executable} -c 'import time; held = b\"x\" * 300_000_000; time.sleep(60)'"
    use(project, lsf, {"hungry": {"run": hungry, "tags": [{"std.ResourceTag": {"memory": "200M"}}]}})
    answer = project.dfm("run", "hungry", "--runner-opt", "set_M=true", timeout=150)
    assert answer.returncode == 6, answer.stdout
    assert "LOST p.hungry" in answer.stdout
    assert re.search("whose job was ended for memory|TERM_MEMLIMIT", answer.stdout), answer.stdout
    assert [job.reason for job in lsf.jobs()[:3]] == ["TERM_MEMLIMIT"] * 3
    assert 3 <= len(lsf.jobs()) <= 8, "not again and again: a few, until LSF has told why"


def test_C15_a_worker_of_two_slots_that_lsf_only_kills_leaves_nothing_running(
    project: Project, cluster: Clusters
) -> None:
    lsf = cluster()
    use(project, lsf, {"held": {"run": HOLD, "tags": [{"std.ResourceTag": {"cores": 2}}]}})
    with project.started("run", "held", "--json") as process:
        begun(project)
        [job] = runs_on(lsf)
        assert lsf.run("bkill", job.id).returncode == 0
        begun(project, 2)
        killed = int(lines(project, "begun")[0])
        wait_until(lambda: not is_alive(killed), "the body of the killed worker to be gone")
        let_go(project)
        assert result(process)[:2] == (0, {"held": "succeeded"})
    assert (lsf.job(job.id).exit_signal, lines(project, "done")) == (signal.SIGKILL, ["done"])


def test_C10_no_more_jobs_wait_in_lsf_than_may_and_no_faster(project: Project, cluster: Clusters) -> None:
    lsf = cluster()
    tasks = {f"held{n}": HOLD for n in range(6)}
    limits = {"max_workers": 4, "launch_batch_size": 2, "max_submits_per_minute": 3}
    use(project, lsf, {**tasks, "all": {"needs": list(tasks), "run": "true"}}, **limits)
    lsf.ctl.stop_queue("normal")
    with project.started("run", "all", "--json") as process:
        wait_until(lambda: len(lsf.invocations("bjobs")) >= 2, "two questions about jobs", 90)
        assert len(lsf.jobs()) == 2, "launch_batch_size"
        lsf.ctl.start_queue("normal")
        begun(project, 4)
        asked = len(lsf.invocations("bjobs"))
        wait_until(lambda: len(lsf.invocations("bjobs")) >= asked + 2, "two more questions", 90)
        assert len(lsf.jobs()) == 4, "max_workers"
        let_go(project)
        assert set(result(process)[1].values()) == {"succeeded"}
    at = [call.started for call in lsf.invocations("bsub")]
    assert all(later - earlier >= 6.0 * SLACK for earlier, later in zip(at, at[3:], strict=False)), "3 in a minute"


def test_C13_a_worker_with_work_stays_an_idle_one_leaves_and_none_is_killed(
    project: Project, cluster: Clusters
) -> None:
    lsf = cluster()
    both: Mapping[str, object] = {"needs": ["held", "quick"], "run": "true"}
    use(project, lsf, {"held": HOLD, "quick": "true", "all": both}, idle_timeout="20s")
    with project.daemon():
        with project.started("run", "all", "--json") as process:
            begun(project)
            one_left = ["DONE", "RUN"]
            lsf.wait_until(
                lambda jobs: sorted(job.state for job in jobs) == one_left, timeout=60, what="the idle one to leave"
            )
            let_go(project)
            assert result(process)[0] == 0
        lsf.wait_until(lambda jobs: {job.state for job in jobs} == {"DONE"}, timeout=60, what="the other one to leave")
        assert lsf.invocations("bkill") == []
    assert (len(lines(project, "begun")), len(lsf.jobs())) == (1, 2)


def test_L16_a_worker_that_holds_a_licence_soon_leaves_and_what_it_holds_is_told(
    project: Project, cluster: Clusters
) -> None:
    lsf = cluster(licences={"sim": 1})
    use(project, lsf, {"held": HOLD})
    project.write_settings(
        {"default": "lsf", "pool": dict(QUICK_POOL), "lsf": {"resource_requirements": ["rusage[sim=1]"]}}
    )
    with project.daemon(), project.started("run", "held", "--json") as process:
        begun(project)
        assert project.status()["held_tokens"] == {"sim": 1.0}
        assert "licences held by workers: 1 sim" in project.dfm("daemon", "status").stdout
        let_go(project)
        assert result(process)[0] == 0
        lsf.wait_until(lambda jobs: [job.state for job in jobs] == ["DONE"], timeout=60, what="the worker to leave")
        [log] = project.directory.rglob("workers/dfm-*.log")
        assert "leaving: idle" in log.read_text(encoding="utf-8")
        assert lsf.invocations("bkill") == []


def test_C17_C22_a_worker_logs_where_it_is_and_each_address_that_it_tries(project: Project, cluster: Clusters) -> None:
    lsf = cluster()
    use(project, lsf, {"a": "true"}, bind=["127.0.0.1"], addresses=["127.0.0.77", "127.0.0.1"])
    with project.daemon():
        assert project.dfm("run", "a").returncode == 0
        [log] = project.directory.rglob("workers/dfm-*.log")
        text = log.read_text(encoding="utf-8")
    first, *rest = text.splitlines()
    assert re.search(rf"worker s-\S+ on {re.escape(socket.gethostname())}, process \d+$", first)
    assert f"directory {project.directory}" in rest[0]
    tries = [line.split("trying ")[1].split()[0] for line in rest if "trying " in line]
    assert tries[:2] == ["127.0.0.77", "127.0.0.1"]


def test_the_task_of_a_lost_host_runs_on_another(project: Project, cluster: Clusters) -> None:
    lsf = cluster()
    use(project, lsf, {"held": HOLD})
    with project.started("run", "held", "--json") as process:
        begun(project)
        [job] = runs_on(lsf)
        lsf.ctl.lose_host(job.hosts[0], dies=True)
        begun(project, 2)
        let_go(project)
        assert result(process)[:2] == (0, {"held": "succeeded"})
        lsf.ctl.recover(job.hosts[0])
    assert lines(project, "done") == ["done"]


# Ends of runs and daemons.


def test_ctrl_c_leaves_no_job(project: Project, cluster: Clusters) -> None:
    lsf = cluster()
    use(project, lsf, {"held": HOLD})
    with project.started("run", "held") as process:
        begun(project)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=90)
        assert process.returncode == 130
    wait_until(lambda: not living(lsf), "the job to be gone")
    assert lines(project, "done") == []


def test_ctrl_c_while_the_job_is_pending_leaves_no_job(project: Project, cluster: Clusters) -> None:
    lsf = cluster()
    use(project, lsf, {"held": HOLD})
    lsf.ctl.stop_queue("normal")
    with project.started("run", "held") as process:
        lsf.wait_until(lambda jobs: len(jobs) == 1, what="the job to be there")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=90)
        assert process.returncode == 130
    wait_until(lambda: not living(lsf), "the job to be gone")
    assert lines(project, "begun") == []


def test_C19_at_the_end_of_a_run_a_worker_leaves_before_its_job_is_cancelled(
    project: Project, cluster: Clusters
) -> None:
    lsf = cluster()
    use(project, lsf, {"a": "true"})
    assert project.dfm("run", "a").returncode == 0
    [log] = project.rundir.rglob("dfm-*.log")
    [last] = re.findall(r"^(\S+ \S+) INFO the link is gone", log.read_text(encoding="utf-8"), re.MULTILINE)
    left = datetime.strptime(last, "%Y-%m-%d %H:%M:%S,%f").astimezone(UTC)
    [kill] = lsf.invocations("bkill")
    assert left.timestamp() < kill.started


def test_C14_the_worker_of_a_run_that_was_killed_leaves_by_itself(project: Project, cluster: Clusters) -> None:
    lsf = cluster()
    use(project, lsf, {"held": HOLD}, lost_timeout="2h")  # no daemon will come back that it could wait for
    with project.started("run", "held") as process:
        begun(project)
        process.kill()
    wait_until(lambda: not living(lsf), "the job to end by itself")
    assert lines(project, "done") == []
    assert lsf.invocations("bkill") == []


def test_C19_a_restarted_daemon_adopts_its_jobs(project: Project, cluster: Clusters) -> None:
    lsf = cluster()
    use(project, lsf, {"held": HOLD})
    with project.daemon(), project.started("run", "held", "--json") as process:
        begun(project)
        os.kill(project.status()["pid"], signal.SIGKILL)
        wait_for_turn(lsf)
        assert project.dfm("daemon", "start").returncode == 0
        let_go(project)
        assert result(process)[:2] == (0, {"held": "succeeded"})
    wait_until(lambda: not living(lsf), "the job to be gone")
    assert (len(lines(project, "begun")), len(lsf.jobs())) == (1, 1)


def test_C19_reap_asks_for_all_jobs_at_once_and_ends_them_with_one_bkill(project: Project, cluster: Clusters) -> None:
    lsf = cluster()
    tasks = {f"held{n}": HOLD for n in range(3)}
    use(project, lsf, {**tasks, "all": {"needs": list(tasks), "run": "true"}}, max_workers=3, lost_timeout="1h")
    with project.daemon(), project.started("run", "all") as process:
        begun(project, 3)
        os.kill(project.status()["pid"], signal.SIGKILL)
        process.kill()
        process.wait()
    asked = lsf.invocations("bjobs")
    wait_for_turn(lsf)
    answer = project.dfm("daemon", "reap", "--runner", "lsf")
    assert (answer.returncode, answer.stderr.count("ended: dfm-")) == (0, 3), answer.stderr
    assert len(lsf.invocations("bjobs")) - len(asked) <= 4
    [kill] = lsf.invocations("bkill")
    assert sorted(kill.argv) == sorted(str(job.id) for job in lsf.jobs())
    assert living(lsf) == []


def test_why_pending_tells_of_a_run_with_workers_of_its_own(project: Project, cluster: Clusters) -> None:
    lsf = cluster(hosts=(Host(name="hostA", slots=1),))
    use(project, lsf, {"one": HOLD, "two": HOLD, "both": {"needs": ["one", "two"], "run": "true"}})
    asked = project.dfm("why", "pending")
    assert asked.returncode == 7
    assert "no run with workers of its own is under way" in asked.stderr
    with tempfile.TemporaryDirectory(prefix="dfm-", dir="/tmp") as state:  # a socket's path is short
        project.environ["DFM_STATE_DIR"] = state
        with project.started("run", "both", "--json") as process:
            begun(project)
            wait_until(lambda: len(living(lsf)) == 2, "a second job to wait for the only host")
            rows = json.loads(project.dfm("why", "pending", "--json").stdout)["tasks"]
            states = {row["task"].removeprefix("p."): row["state"] for row in rows}
            assert sorted(states) == ["one", "two"]
            assert sorted(states.values()) == ["queued", "running"]
            [waiting] = [name for name, state in states.items() if state == "queued"]
            text = project.dfm("why", "pending", waiting).stdout
            assert f"p.{waiting}  queued for" in text
            assert "no worker of its shape is free" in text or "none of the 1 workers" in text
            let_go(project)
            assert result(process)[0] == 0


# LSF as a whole.


def test_what_runs_ends_well_while_mbatchd_is_away_for_minutes(project: Project, cluster: Clusters) -> None:
    lsf = cluster(speed=60)
    use(project, lsf, {"held": HOLD, "after": {"run": "true", "needs": ["held"]}})
    with project.started("run", "after", "--json") as process:
        begun(project)
        lsf.ctl.down()
        since = time.monotonic()
        wait_until(lambda: time.monotonic() - since >= lsf.seconds(300), "five minutes of LSF's to pass")
        let_go(project)
        wait_until(lambda: lines(project, "done"), "the body to end")
        lsf.ctl.up()
        assert result(process)[:2] == (0, {"held": "succeeded", "after": "succeeded"})
    assert len(lsf.jobs()) == 1


def test_a_run_that_begins_while_mbatchd_is_away_waits_for_it(project: Project, cluster: Clusters) -> None:
    lsf = cluster()
    use(project, lsf, {"a": 'echo x >> "$DFM_SRCDIR/ran"'})
    lsf.ctl.down()
    with project.started("run", "a", "--json") as process:
        wait_until(lambda: len(lsf.invocations("bsub")) >= 2, "a second submission")
        lsf.ctl.up()
        assert result(process)[:2] == (0, {"a": "succeeded"})
    assert lines(project, "ran") == ["x"]


# A person's mistakes.


@pytest.mark.parametrize(
    ("params", "words", "text"),
    [
        (Params(), ("--runner-opt", "queue=nosuch"), "nosuch: No such queue. Job not submitted."),
        (Params(require_project=True), (), "Project name must be specified"),
        (Params(esub_rejects="ask the CAD team first"), (), "ask the CAD team first"),
    ],
    ids=["queue", "project", "esub"],
)
def test_what_lsf_refuses_is_told_in_its_words_at_once(
    project: Project, cluster: Clusters, params: Params, words: tuple[str, ...], text: str
) -> None:
    lsf = cluster(params=params)
    use(project, lsf, {"a": "true", "b": "true", "both": {"run": "true", "needs": ["a", "b"]}})
    answer = project.dfm("run", "both", *words)
    assert answer.returncode == 7
    assert text in answer.stdout
    assert "REFUSED" in answer.stdout
    names = [call.argv[1] for call in lsf.invocations("bsub")]
    assert len(names) == len(set(names)) <= 4, "one for each task that waited, and one more each with a shorter life"
    assert lsf.jobs() == []


def test_a_queue_that_takes_no_long_jobs_gets_workers_with_time_for_one_task(
    project: Project, cluster: Clusters
) -> None:
    lsf = cluster(queues=(Queue(name="normal", run_limit_minutes=64),))
    use(project, lsf, {"a": "true"})
    answer = project.dfm("run", "a")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "workers get no more time than one task needs (runner.pool.walltime), since with more: " in answer.stdout
    asked = [call.argv[call.argv.index("-W") + 1] for call in lsf.invocations("bsub")]
    assert asked == ["240", "64"]


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("partition=x", "runner lsf has no option 'partition'"),
        ("resource_requirements=select[a", "'[' is not closed"),
        ('resource_select="x', "a quote is not closed"),
        ("bsub_extra=-K", "-K is never passed to bsub"),
    ],
)
def test_an_option_that_cannot_be_is_refused_before_anything_is_submitted(
    project: Project, cluster: Clusters, option: str, text: str
) -> None:
    lsf = cluster()
    use(project, lsf, {"a": "true"})
    answer = project.dfm("run", "a", "--runner-opt", option)
    assert (answer.returncode, answer.stdout) == (2, "")
    assert text in answer.stderr
    assert lsf.invocations() == []


def test_memory_that_cannot_be_read_is_refused(project: Project, cluster: Clusters) -> None:
    lsf = cluster()
    use(project, lsf, {"a": "true"})
    project.write_settings({"default": "lsf", "defaults": {"memory": "8 potatoes"}})
    answer = project.dfm("run", "a")
    assert (answer.returncode, answer.stdout) == (3, "")
    assert "8 potatoes" in answer.stderr
    assert "config.yaml" in answer.stderr
    assert lsf.invocations() == []


def test_without_bsub_it_is_told_what_to_set(project: Project) -> None:
    project.write_flow({"a": "true"})
    project.environ["PATH"] = "/usr/bin:/bin"
    answer = project.dfm("run", "a")
    assert answer.returncode == 7
    assert "put LSF's commands on PATH (source profile.lsf) or set runner.lsf.bsub_cmd" in answer.stdout


def test_a_dfm_that_is_not_on_the_node_ends_the_run_with_the_reason(project: Project, cluster: Clusters) -> None:
    lsf = cluster()
    use(project, lsf, {"a": "true"})
    answer = project.dfm("run", "a", "--runner-opt", "worker_dfm_path=/no/such/dfm", timeout=150)
    assert answer.returncode == 7
    assert "workers do not come up, 4 times in a row" in answer.stdout
    assert "exit status 127: the command was not found on the host" in answer.stdout
    assert len(lsf.jobs()) == 4
