"""Tasks that run tasks, on workers: one worker with one slot must be enough, and nothing that dies may hang them."""

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from dfm.api.runner import Answer, Question, Runner
from dfm.core.daemon.client import ask_daemon
from dfm.core.daemon.endpoint import Endpoint
from dfm.core.wire.messages import Ask
from dfm.testing.opening import opened_pool
from dfm.testing.project import QUICK_POOL, Project, verdicts, wait_until
from dfm.testing.tasks import Workspace

LEAF: Mapping[str, object] = {"shell": "bash", "run": "dfm-out item --type std.FileSet n:=1"}
HELD_LEAF: Mapping[str, object] = {
    "run": 'echo $$ > "$DFM_SRCDIR/leaf"; while [ ! -e "$DFM_SRCDIR/go" ]; do sleep 0.05; done'
}
PARENT: Mapping[str, object] = {
    "shell": "pytask",
    "run": "import os\n"
    "with open(os.path.join(ctxt.srcdir, 'begun'), 'a') as begun:\n"
    "    print(os.getpid(), file=begun)\n"
    "one = ctxt.mkTaskNode('leaf', name='one')\n"
    "results = await ctxt.run_subgraph([one, ctxt.mkTaskNode('leaf', name='two', needs=one)])\n"
    "more = await ctxt.run_subgraph(ctxt.mkTaskNode('leaf', name='three'))\n"
    "print([(r.name, r.status) for r in [*results, more]])\n",
}
ALL = {"x": "succeeded", "x.one": "succeeded", "x.two": "succeeded", "x.three": "succeeded"}


@pytest.fixture
def lone(project: Project) -> Project:
    """Return a project whose pool has one worker with one slot."""
    project.write_settings({"pool": {**QUICK_POOL, "max_workers": 1, "worker_slots": 1}})
    return project


def log(project: Project) -> str:
    return (project.rundir / "p.x" / "p.x.log").read_text(encoding="utf-8")


def begun(project: Project) -> list[str]:
    path = project.directory / "begun"
    return path.read_text(encoding="utf-8").split() if path.exists() else []


def wait_for_leaf(project: Project) -> int:
    leaf = project.directory / "leaf"
    wait_until(lambda: leaf.exists() and leaf.read_text(encoding="utf-8").strip(), "a sub-task to run")
    return int(leaf.read_text(encoding="utf-8"))


def worker_of(pid: int) -> int:
    """Return the worker among the ancestors of a body."""
    while b"dfm.core.worker" not in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
        pid = int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
    return pid


def ended(process: "subprocess.Popen[str]") -> dict[str, str]:
    stdout, stderr = process.communicate(timeout=90)
    assert stdout, stderr
    return verdicts(subprocess.CompletedProcess([], process.returncode, stdout, stderr))


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_one_worker_of_a_daemon_runs_a_task_and_the_tasks_it_asks_for(lone: Project) -> None:
    lone.write_flow({"leaf": LEAF, "x": PARENT})
    with lone.daemon():
        assert lone.verdicts("--daemon", "x") == ALL
        assert [worker["slots"] for worker in lone.status()["workers"]] == [1]
    assert log(lone) == "[('one', 0), ('two', 0), ('three', 0)]\n"


async def test_one_worker_of_the_run_s_own_pool_does_so_too(lone: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DFM_STATE_DIR", "DFM_ACCESS_DIR", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, lone.environ[name])
    workspace = Workspace(lone.directory)
    runners: list[Runner] = []

    async def run_one(task: str, question: Question) -> Answer:
        [wanted] = question["tasks"]
        result = await runners[0].run(workspace.shell("true"))
        return {"results": [{"name": wanted["name"], "verdict": task, "status": result.status, "output": []}]}

    body = "return TaskOutput(memento=(await ctxt.run_subgraph(ctxt.mkTaskNode('leaf', name='n'))).verdict)"
    request = workspace.python(f"from dfm.api import TaskOutput\n{body}", name="p.x")
    async with opened_pool(workspace, environ=lone.environ, project=str(lone.directory), ask=run_one) as runner:
        runners.append(runner)
        assert (await runner.run(request)).memento == "p.x"


def test_tasks_that_run_tasks_that_run_tasks_need_no_more_than_one_slot(lone: Project) -> None:
    middle = {"shell": "pytask", "run": "await ctxt.run_subgraph(ctxt.mkTaskNode('leaf', name='deep'))"}
    outer = {"shell": "pytask", "run": "await ctxt.run_subgraph([ctxt.mkTaskNode('middle', name=n) for n in 'ab'])"}
    lone.write_flow({"leaf": LEAF, "middle": middle, "x": outer})
    with lone.daemon():
        ends = lone.verdicts("--daemon", "x")
    assert set(ends.values()) == {"succeeded"}
    assert {"x", "x.a", "x.a.deep", "x.b", "x.b.deep"} == set(ends)


def test_tasks_of_another_shape_get_a_worker_while_those_that_wait_for_them_fill_the_pool(lone: Project) -> None:
    large = {"tags": [{"std.ResourceTag": {"memory": "2G"}}]}
    middle = {"shell": "pytask", "run": "await ctxt.run_subgraph(ctxt.mkTaskNode('leaf', name='deep'))", **large}
    outer = {"shell": "pytask", "run": "await ctxt.run_subgraph([ctxt.mkTaskNode('middle', name=n) for n in 'ab'])"}
    lone.write_flow({"leaf": LEAF, "middle": middle, "x": outer})
    with lone.daemon():
        assert set(lone.verdicts("--daemon", "x").values()) == {"succeeded"}
        assert len(lone.status()["jobs"]) == 2


def test_the_tasks_that_a_task_on_a_draining_worker_asks_for_run_on_another(lone: Project) -> None:
    lone.write_flow({"leaf": HELD_LEAF, "x": PARENT})
    with lone.daemon(), lone.started("run", "--daemon", "--json", "x") as run:
        wait_for_leaf(lone)
        asyncio.run(ask_daemon(Endpoint(str(lone.directory)), Ask(verb="drain")))
        (lone.directory / "go").touch()
        assert ended(run) == ALL
    assert len(begun(lone)) == 1


def test_run_tasks_of_the_standard_library_runs_on_workers(lone: Project) -> None:
    item = "dfm-out item --type std.TaskRunSpec task_type=p.leaf task_name="
    (lone.directory / "flow.yaml").write_text(
        "package:\n  name: p\n  tasks:\n  - {name: leaf, run: 'true'}\n"
        f"  - {{name: specs, run: '{item}a; {item}b'}}\n  - {{name: x, uses: std.RunTasks, needs: [specs]}}\n",
        encoding="utf-8",
    )
    with lone.daemon():
        ends = lone.verdicts("--daemon", "x")
    assert ends == {"specs": "succeeded", "x": "succeeded", "x.a": "succeeded", "x.b": "succeeded"}


def test_a_task_that_waits_for_its_tasks_says_so(lone: Project) -> None:
    lone.write_flow({"leaf": HELD_LEAF, "x": PARENT})
    with lone.daemon(), lone.started("run", "--daemon", "--json", "x") as run:
        wait_for_leaf(lone)
        reasons = {entry["task"]: entry["reason"] for entry in lone.why()}
        assert reasons["p.x"].endswith("for the run to answer it")
        (lone.directory / "go").touch()
        assert ended(run) == ALL


def test_an_interrupt_stops_a_task_that_waits_and_what_it_waits_for(lone: Project) -> None:
    lone.write_flow({"leaf": HELD_LEAF, "x": PARENT})
    with lone.daemon(), lone.started("run", "--daemon", "--json", "x") as run:
        leaf = wait_for_leaf(lone)
        run.send_signal(signal.SIGINT)
        stdout, _ = run.communicate(timeout=60)
        assert run.returncode == 130
        assert {task["verdict"] for task in json.loads(stdout)["tasks"]} <= {"cancelled", "not-run"}
        wait_until(lambda: is_gone(leaf) and is_gone(int(begun(lone)[0])), "the bodies to be gone")
        wait_until(lambda: lone.status()["tasks_count"]["running"] == 0, "the worker to be free")
        (lone.directory / "go").touch()
        (lone.directory / "begun").unlink()
        assert lone.verdicts("--daemon", "x") == ALL


def test_a_worker_killed_while_its_task_waits_costs_one_attempt_and_no_answer(lone: Project) -> None:
    lone.write_flow({"leaf": HELD_LEAF, "x": PARENT})
    with lone.daemon(), lone.started("run", "--daemon", "--json", "x") as run:
        leaf = wait_for_leaf(lone)
        os.kill(worker_of(leaf), signal.SIGKILL)
        wait_until(lambda: len(begun(lone)) == 2, "the task to begin again")
        (lone.directory / "go").touch()
        assert ended(run) == ALL
    assert len(begun(lone)) == 2
    assert log(lone) == "[('one', 0), ('two', 0), ('three', 0)]\n"


def test_a_question_outlives_the_daemon_that_passed_it_on(lone: Project) -> None:
    lone.write_flow({"leaf": HELD_LEAF, "x": PARENT})
    with lone.daemon(), lone.started("run", "--daemon", "--json", "x") as run:
        wait_for_leaf(lone)
        pid = lone.status()["pid"]
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: is_gone(pid), "the daemon to be dead")
        assert lone.dfm("daemon", "start").returncode == 0
        (lone.directory / "go").touch()
        assert ended(run) == ALL
    assert len(begun(lone)) == 1
