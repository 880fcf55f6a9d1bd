"""The runner that hands its tasks to a pool, on a link that a test holds."""

import asyncio
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from dfm.core.pool import runner as module
from dfm.core.pool.runner import PooledRunner, PoolLink, Traces
from dfm.core.wire.messages import CancelTask, FromClient, Submit
from dfm.testing.tasks import Workspace


class DeafLink(PoolLink):
    """A pool that hears all and answers nothing."""

    def __init__(self) -> None:
        self.heard: list[FromClient] = []
        self.news = asyncio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return None

    def send(self, message: FromClient) -> None:
        self.heard.append(message)
        self.news.set()

    async def hears(self, kind: type[FromClient], count: int = 1) -> None:
        async with asyncio.timeout(20):
            while sum(isinstance(message, kind) for message in self.heard) < count:
                self.news.clear()
                await self.news.wait()


def runner_on(link: PoolLink, traces: list[str], jobs: int | None = None) -> PooledRunner:
    """Return a runner on a link; in `traces` stands what it leaves and removes."""
    noted = Traces(leave=lambda: traces.append("left"), remove=lambda: traces.append("removed"))
    return PooledRunner(lambda hear, broken: link, lambda text: None, {}, noted, jobs=jobs)  # noqa: ARG005  (a Connect)


@pytest.mark.parametrize(("jobs", "in_flight"), [(None, 64), (3, 3), (100, 64)])
def test_a_run_has_no_more_tasks_in_flight_than_it_was_told_and_its_pool_takes(
    jobs: int | None, in_flight: int
) -> None:
    assert runner_on(DeafLink(), [], jobs).max_in_flight == in_flight


@pytest.mark.parametrize("times", [1, 2])
async def test_a_cancelled_task_whose_pool_does_not_answer_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    link = DeafLink()
    traces: list[str] = []
    runner = runner_on(link, traces)
    async with runner:
        running = asyncio.get_running_loop().create_task(runner.run(Workspace(tmp_path).shell("true")))
        await link.hears(Submit)
        monkeypatch.setattr(module, "CANCEL_SECONDS", 0.2)
        for number in range(times):
            running.cancel()
            await link.hears(CancelTask, number + 1)
        async with asyncio.timeout(20):
            with pytest.raises(asyncio.CancelledError):
                await running
    assert traces == ["left"], "the worker may still run it"
    cancels = [message for message in link.heard if isinstance(message, CancelTask)]
    assert [cancel.is_urgent for cancel in cancels] == [False, True][:times]


async def test_what_may_still_run_leaves_its_trace_though_the_pool_is_gone_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link, traces = DeafLink(), list[str]()
    monkeypatch.setattr(module, "CANCEL_SECONDS", 0.0)
    async with runner_on(link, traces) as runner:
        running = asyncio.get_running_loop().create_task(runner.run(Workspace(tmp_path).shell("true")))
        await link.hears(Submit)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        runner._broken("the daemon is gone")
    assert traces == ["left"]


async def test_a_run_leaves_a_trace_as_long_as_its_link_is_open() -> None:
    traces: list[str] = []
    async with runner_on(DeafLink(), traces):
        assert traces == ["left"]
    assert traces == ["left", "removed"]
