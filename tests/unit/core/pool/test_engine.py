"""The engine between clients and the decisions, with a batch system that only notes what it is told."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, cast

import pytest

from dfm.core.config.settings import PoolSettings
from dfm.core.pool.engine import Engine
from dfm.core.pool.events import JournalEntry
from dfm.core.pool.jobs import LedgerEvent
from dfm.core.pool.ledger import Ledger, LedgerSettings
from dfm.core.pool.reactor import Reactor, ReactorSettings
from dfm.core.pool.scaling import Launch, Release, Withdraw
from dfm.core.wire.messages import Done, Environment, Open, Shape, Submit, ToClient
from dfm.core.wire.redaction import Redaction

if TYPE_CHECKING:
    from dfm.core.pool.batch import BatchJobs

SETTINGS = PoolSettings(walltime=600.0)
SHAPE = Shape(cores=1)


class Records:
    """A journal that keeps what it is given."""

    def __init__(self) -> None:
        self.entries: list[JournalEntry] = []

    def append(self, entries: Sequence[JournalEntry]) -> None:
        self.entries += entries


class Jobs:
    """Takes the place of BatchJobs: notes what shall be launched, and launches nothing."""

    def __init__(self) -> None:
        self.scaled: list[Launch | Withdraw | Release] = []
        self.is_scaled = asyncio.Event()

    def feed(self, event: LedgerEvent) -> None:
        """Take no notice."""

    def tick(self) -> None:
        """Take no notice."""

    def scale(self, action: Launch | Withdraw | Release) -> None:
        self.scaled.append(action)
        self.is_scaled.set()


class Client:
    """A run that is attached."""

    def __init__(self, engine: Engine) -> None:
        self.heard: list[ToClient] = []
        self.has_heard = asyncio.Event()
        self._engine = engine
        engine.attach("run", self._hear)
        engine.hear("run", Open(run_id="run", user="u", version="1", directory="/"))

    def _hear(self, message: ToClient) -> None:
        self.heard.append(message)
        self.has_heard.set()

    def submit(self, ticket: int, shape: Shape = SHAPE, wall_seconds: float | None = None) -> None:
        task = Submit(ticket=ticket, task=f"p.{ticket}", shape=shape, spec=b"", wall_seconds=wall_seconds)
        self._engine.hear("run", task)

    async def done(self) -> Done:
        async with asyncio.timeout(20):
            while True:
                found = [message for message in self.heard if isinstance(message, Done)]
                if found:
                    return found[0]
                self.has_heard.clear()
                await self.has_heard.wait()


@pytest.fixture
def jobs() -> Jobs:
    return Jobs()


@pytest.fixture
async def engine(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Engine]:
    """An engine that has had its first tick, and has no second one."""
    monkeypatch.setattr("dfm.core.pool.engine.TICK_SECONDS", 3600.0)
    made = Engine(
        Reactor(ReactorSettings.of(SETTINGS), 1),
        Ledger(LedgerSettings.of(SETTINGS), "inst", 1),
        Records(),
        SETTINGS,
        1,
        SHAPE,
        fail=lambda error: pytest.fail(str(error)),
        redaction=Redaction(),
    )
    made.start(cast("BatchJobs", jobs))
    yield made
    made.stop()


async def test_the_first_worker_for_tasks_is_asked_for_at_once_and_for_all_that_came_together(
    engine: Engine, jobs: Jobs
) -> None:
    client = Client(engine)
    for ticket in (1, 2, 3):
        client.submit(ticket)
    async with asyncio.timeout(20):
        await jobs.is_scaled.wait()
    assert jobs.scaled == [Launch(shape=SHAPE, count=3)]


async def test_no_secret_is_told_of_why_a_task_ended(engine: Engine) -> None:
    client = Client(engine)
    engine.hear("run", Environment(digest="d", variables={"API_TOKEN": "no worker lives"}))
    client.submit(1, wall_seconds=900.0)
    done = await client.done()
    assert done.outcome == "refused"
    assert done.cause.startswith("*** long enough: the task asks for 900 s")
