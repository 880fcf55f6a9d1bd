"""The suite catches runners that break the contract: each planted fault is caught by the test that is there for it."""

import subprocess
import sys
from pathlib import Path

import pytest

HEAD = """
import asyncio, dataclasses, json, os, subprocess
from contextlib import asynccontextmanager
import pytest
from dfm.api.runner import Outcome, Runner, ShellBody
from dfm.testing.conformance import RunnerConformance
from dfm.testing.opening import opened

class Faulty(Runner):
    lock = None
    def __init__(self, inner):
        self.inner = inner
    max_in_flight = 2
    async def run(self, request):
{fault}

class TestFaulty(RunnerConformance):
    has_jobserver = True
    @pytest.fixture
    def open_runner(self, workspace):
        @asynccontextmanager
        async def open_it():
            async with opened("local", workspace, jobs=2, options=["kill_grace=200ms"]) as inner:
                yield Faulty(inner)
        return open_it
"""
CHANGED = "return dataclasses.replace(await self.inner.run(request), {change})"
REQUEST = "return await self.inner.run(dataclasses.replace(request, {change}))"

FAULTS = {
    "loses the memento": (CHANGED.format(change="memento=None"), "a_memento_goes_in_and_comes_out"),
    "takes failures for success": (
        CHANGED.format(change="outcome=Outcome.SUCCEEDED, cause=None"),
        "a_status_other_than_0_fails_the_task",
    ),
    "tells every status as 1": (
        "r = await self.inner.run(request); return dataclasses.replace(r, status=min(r.status, 1))",
        "a_signal_fails_the_task_with_its_number",
    ),
    "turns items round": (
        "r = await self.inner.run(request); return dataclasses.replace(r, outputs=list(reversed(r.outputs)))",
        "items_come_back_in_the_order_they_were_made",
    ),
    "loses markers": (CHANGED.format(change="markers=[]"), "markers_come_back_with_their_place"),
    "lets the host's environment in": (
        REQUEST.format(change="env={**os.environ, **request.env}"),
        "a_body_gets_the_environment_of_the_request_and_nothing_of_the_host",
    ),
    "spoils text": (
        "r = await self.inner.run(request); return dataclasses.replace(r, memento=str(r.memento).encode('ascii', 'replace').decode())",
        "strange_text_comes_back_as_it_was",
    ),
    "runs one after the other": (
        "Faulty.lock = Faulty.lock or asyncio.Lock()\n        async with Faulty.lock:\n            return await self.inner.run(request)",
        "two_tasks_run_at_once",
    ),
    "swallows a cancel": (
        "try:\n            return await self.inner.run(request)\n        except asyncio.CancelledError:\n            return await self.inner.run(dataclasses.replace(request, body=ShellBody('true')))",
        "cancelling_ends_the_body_and_all_it_started",
    ),
    "leaves the body running": (
        """p = subprocess.Popen(['timeout', '60', 'bash', '-c', request.body.text], env=request.env)
        await asyncio.get_running_loop().run_in_executor(None, p.wait)""",
        "cancelling_ends_the_body_and_all_it_started",
    ),
    "appends to the log of the last attempt": (
        """path = os.path.join(request.rundir, request.artefact + '.log')
        old = open(path, 'rb').read() if os.path.exists(path) else b''
        r = await self.inner.run(request)
        new = open(path, 'rb').read()
        open(path, 'wb').write(old + new)
        return r""",
        "the_log_of_the_last_attempt_replaces_the_one_before",
    ),
    "cuts what is big": (
        CHANGED.format(change="outputs=[{'type': 'p.Big', 'text': 'x'}]"),
        "a_big_item_goes_through",
    ),
    "has no jobserver": (
        "text = 'unset MAKEFLAGS; ' + request.body.text; " + REQUEST.format(change="body=ShellBody(text)"),
        "a_jobserver_is_there_where_the_runner_has_one",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_runner_that_breaks_the_contract_is_caught(tmp_path: Path, fault: str) -> None:
    code, caught_by = FAULTS[fault]
    file = tmp_path / "test_faulty.py"
    file.write_text(HEAD.format(fault=f"        {code}"), encoding="utf-8")
    words = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-o", "asyncio_mode=auto", "--rootdir", str(tmp_path)]
    setting = "import dfm.testing.conformance as c; c._APPEARS_SECONDS = 5.0; c._LET_GO_SECONDS = 1.0; import pytest, sys; sys.exit(pytest.main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", setting, *words, "-k", f"test_{caught_by}", str(file)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1, done.stdout
    assert "AssertionError" in done.stdout
