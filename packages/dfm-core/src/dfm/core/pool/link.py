"""The way to a pool that lives in this process, for a `dfm run` without a daemon."""

import contextlib
import getpass
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from dfm.core.__about__ import __version__
from dfm.core.pool.host import PoolPlan, hosted
from dfm.core.pool.runner import PoolLink
from dfm.core.wire.messages import FromClient, Open, ToClient

if TYPE_CHECKING:
    from dfm.core.pool.engine import Engine

    Beside = Callable[[Engine], contextlib.AbstractAsyncContextManager[None]]


class HostedLink(PoolLink):
    """Hosts a pool for one run.

    Args:
        plan: what makes the pool.
        run_id: of the run.
        hear: takes what the pool says.
        broken: is told why the pool cannot go on.
        beside: what is done with the pool beside, as long as it is there.
    """

    def __init__(
        self,
        plan: PoolPlan,
        run_id: str,
        hear: Callable[[ToClient], None],
        broken: Callable[[str], None],
        beside: "Beside",
    ) -> None:
        self._plan = plan
        self._run_id = run_id
        self._hear = hear
        self._broken = broken
        self._beside = beside
        self._stack = contextlib.AsyncExitStack()
        self._engine: Engine | None = None

    async def __aenter__(self) -> Self:
        engine = self._engine = await self._stack.enter_async_context(hosted(self._plan, self._broken))
        await self._stack.enter_async_context(self._beside(engine))
        engine.attach(self._run_id, self._hear)
        self.send(open_message(self._run_id, self._plan.project))  # alone in its pool, it needs to wait for nobody
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stack.__aexit__(kind, error, traceback)

    def send(self, message: FromClient) -> None:
        """Say something to the pool."""
        assert self._engine is not None, "entered before anything is said"
        self._engine.hear(self._run_id, message)


def open_message(run_id: str, directory: str, *, rundir: str = "", is_resuming: bool = False) -> Open:
    """Return what opens a run."""
    return Open(
        run_id=run_id,
        user=getpass.getuser(),
        version=__version__,
        directory=directory,
        rundir=rundir,
        is_resuming=is_resuming,
    )
