"""The daemon as a process: it takes the lock, counts its epoch, hosts the pool and answers until it is told to stop."""

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from dfm.api.errors import RunnerError
from dfm.core.__about__ import __version__
from dfm.core.crashpoint import crash_point
from dfm.core.daemon.endpoint import Discovery, Endpoint, HeldLock, LockPlace
from dfm.core.daemon.remains import last_epoch
from dfm.core.daemon.server import ClientServer
from dfm.core.pool.engine import Engine
from dfm.core.pool.host import PoolPlan, hosted
from dfm.core.wire.messages import Ask
from dfm.core.wire.redaction import Redaction

WATCH_SECONDS = 1.0
"""How often a daemon looks whether its lock is still there: soon after a `git clean` nobody should wait for its end."""
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a daemon keeps what, once it has its epoch."""

    epoch: int
    state_directory: str
    log_directory: str


def serve(endpoint: Endpoint, plan_for: Callable[[Place], PoolPlan], ready: Callable[[Discovery], None]) -> None:
    """Be the daemon of a project until a signal or an order ends it.

    Args:
        endpoint: of the project.
        plan_for: makes the pool's plan from the places of this daemon.
        ready: is told where the daemon is, once it answers.

    Raises:
        RunnerError: the project has a daemon already.
        DfmError: it cannot be one.
    """
    endpoint.make_directory()
    with endpoint.locked() as lock:
        if lock is None:
            found = endpoint.read()
            where = "" if found is None else f" (pid {found.pid} on {found.host}), of runner {found.runner}"
            raise RunnerError(f"{endpoint.project} has a daemon already{where}", hint="dfm daemon stop stops it")
        crash_point("daemon.locked")
        epoch = endpoint.next_epoch(lambda: last_epoch(endpoint))
        crash_point("daemon.counted")
        place = Place(
            epoch=epoch,
            state_directory=endpoint.state_directory(),
            log_directory=os.path.join(endpoint.directory, "workers"),
        )
        try:
            asyncio.run(_serve(endpoint, lock, plan_for(place), ready))
            crash_point("daemon.ended")
        finally:
            if lock.place() is LockPlace.KEPT:
                endpoint.withdraw()


def write_log(text: str) -> None:
    """Write lines, each with the time, to the log of the daemon that this process is or wants to be: standard error."""
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    with contextlib.suppress(OSError):
        os.write(2, "".join(f"{at} {line}\n" for line in text.splitlines()).encode("utf-8", "replace"))


async def _serve(endpoint: Endpoint, lock: HeldLock, plan: PoolPlan, ready: Callable[[Discovery], None]) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, stopping.set)
    discovery = _discovery(endpoint, plan)
    redaction = _redacted_log()

    def told(text: str) -> None:
        write_log(redaction.hide(text))

    def is_succeeded() -> bool:
        return lock.place() is LockPlace.REPLACED

    async with hosted(replace(plan, notice=told, redaction=redaction, is_succeeded=is_succeeded)) as engine:
        facts: dict[str, object] = {
            "schema": "dfm-daemon-status/1",
            "daemon_id": discovery.daemon_id,
            "project": endpoint.project,
            "host": discovery.host,
            "pid": discovery.pid,
            "started_at": discovery.started_at,
        }
        clients = ClientServer(engine, facts, lambda ask: _order(ask, engine, stopping))
        listener = clients.listener(discovery.socket, bytes.fromhex(discovery.daemon_id))
        listening = loop.create_task(listener.run())
        watching = loop.create_task(_watch(lock, stopping))
        try:
            crash_point("daemon.listening")
            endpoint.publish(discovery)
            crash_point("daemon.published")
            ready(discovery)
            told(f"daemon of {endpoint.project}, epoch {plan.epoch}, pid {discovery.pid}, runner {discovery.runner}")
            await stopping.wait()
            crash_point("daemon.stopping")
            _leave_removed_directory()
            place = lock.place()
            told("stops" if place is LockPlace.KEPT else f"stops: {endpoint.lock_path} {place.value}")
        finally:
            watching.cancel()
            listening.cancel()
            clients.close()
            if lock.place() is not LockPlace.KEPT:
                endpoint.withdraw_removed()
    told("stopped")


async def _watch(lock: HeldLock, stopping: asyncio.Event) -> None:
    """Have the daemon stop whose lock is nobody's any more: `status` and `stop` would never find it."""
    while await asyncio.to_thread(lock.place) is LockPlace.KEPT:  # noqa: ASYNC110  (it is a file)
        await asyncio.sleep(WATCH_SECONDS)
    stopping.set()


def _leave_removed_directory() -> None:
    """Be elsewhere where the project was removed: commands that cancel jobs complain where there is no directory."""
    try:
        os.getcwd()
    except FileNotFoundError:
        os.chdir("/")


def _order(ask: Ask, engine: Engine, stopping: asyncio.Event) -> dict[str, object]:
    match ask.verb:
        case "stop":
            stopping.set()
            return {"stopping": True, "jobs": len(engine.job_names())}
        case "resume":
            engine.resume()
            return {"resumed": True}
        case "drain":
            return {"draining": engine.drain_all()}
        case _:
            return {"cancelled": engine.reap()}


def _discovery(endpoint: Endpoint, plan: PoolPlan) -> Discovery:
    return Discovery(
        daemon_id=secrets.token_hex(16),
        project=endpoint.project,
        epoch=plan.epoch,
        host=socket.gethostname(),
        pid=os.getpid(),
        socket=endpoint.socket_path(),
        access=plan.access_path,
        runner=plan.dialect.name,
        version=__version__,
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _redacted_log() -> Redaction:
    """Have the log of this process, which is its standard error, written without secrets."""
    redaction = Redaction()
    redaction.learn(os.environ)
    logging.basicConfig(level=logging.WARNING)
    for handler in logging.root.handlers:
        handler.setFormatter(redaction.formatter(_FORMAT))
    return redaction
