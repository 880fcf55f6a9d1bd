"""The worker as a process: it feeds its session with what happens, and does what the session says.

Its first lines of log are written before anything can fail: host, directory, Python, every address that is tried.
"""

import asyncio
import contextlib
import hashlib
import logging
import os
import random
import secrets
import signal
import socket
import sys
import time
from collections.abc import Sequence
from typing import cast

import msgspec

from dfm.api.errors import DfmError, ExitCode
from dfm.api.runner import Outcome
from dfm.core.__about__ import __version__
from dfm.core.crashpoint import crash_point
from dfm.core.execute.guard import start_guard
from dfm.core.execute.process import RUN_TOKEN, ProcessTrees, token_holders
from dfm.core.jobserver.owner import TokenServer
from dfm.core.wire.access import Access, read_access
from dfm.core.wire.channel import Channel, ConnectError, connect, own_identity
from dfm.core.wire.environment import variables_of
from dfm.core.wire.exchange import Decoder, decode_to_worker
from dfm.core.wire.handshake import VersionError
from dfm.core.wire.messages import Answered, Asked, Beat, Environment, Message, Result, ToWorker
from dfm.core.wire.redaction import Redaction
from dfm.core.worker.attempts import AttemptRunner
from dfm.core.worker.fitness import free_bytes, resident_bytes, unfit_reason
from dfm.core.worker.kept import KeptResults
from dfm.core.worker.session import (
    VACATE_SECONDS,
    Connect,
    Effect,
    End,
    Forget,
    GoOn,
    HandOver,
    HangUp,
    Hold,
    Keep,
    Leave,
    Say,
    Self,
    Session,
    Start,
    Stop,
)

EXIT_VERSION = 78
"""EX_CONFIG of sysexits.h: the daemon speaks another protocol, no retry helps."""
_EXITS = {
    End.ORDERLY: int(ExitCode.OK),
    End.SIGNAL: int(ExitCode.TERMINATED),
    End.LOST: int(ExitCode.RUNNER_UNAVAILABLE),
    End.UNFIT: int(ExitCode.INFRASTRUCTURE),
}
_SIGNALS = {
    signal.SIGINT: "signal",
    signal.SIGTERM: "signal",
    signal.SIGHUP: "signal",
    signal.SIGUSR1: "preempted",
    signal.SIGUSR2: "preempted",
}
_RECYCLE_BYTES = 1024 * 1024 * 1024
"""A worker needs some 30 MiB; one that has grown to this leaves when it is free."""
_FAREWELL_SECONDS = 1.0
_DOUBT_SECONDS = 0.25
"""A failure is held back so long. A batch system that ends a job signals all its processes, the body's and ours, in any
order: where ours comes meanwhile, the attempt is lost with its worker, and has not failed.
"""
_JOB_IDS = ("SLURM_JOB_ID", "LSB_JOBID")

_log = logging.getLogger(__name__)


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says.

    Attributes:
        access: path of the access file.
        directory: in which the process must have been started; None for any.
        lives_seconds: how long the batch job may still live; None has no end.
    """

    access: str
    slot: str
    directory: str | None = None
    slots: int = 1
    cores: int = 1
    lives_seconds: float | None = None


def run_worker(options: Options, redaction: Redaction) -> int:
    """Be a worker until it is time to leave; return the exit status.

    Args:
        options: of the command line.
        redaction: of the log; learns the environments of tasks.
    """
    _log.info("dfm %s worker %s on %s, process %d", __version__, options.slot, _host(), os.getpid())
    _log.info("python %s, directory %s", sys.executable, _present_directory())
    daemon = hashlib.sha256(os.fsencode(os.path.abspath(options.access))).hexdigest()[:12]
    # The same in every life of the job, and of no other: a twin of the same submission may live beside it.
    run_token = "-".join(filter(None, ("worker", daemon, options.slot, _job_id())))
    try:
        guard = start_guard(run_token, [])  # before the event loop: it kills what runs if this process is killed
        try:
            return asyncio.run(_Worker(options, run_token, redaction).run())
        finally:
            guard.dismiss()
    except DfmError as error:
        _log.error("%s%s", error, f" ({error.hint})" if error.hint else "")
        return int(error.exit_code)


class _Worker:
    """The one worker of this process; the peer of its link.

    Everything runs in one event loop; `_perform` is where the session's effects become deeds.
    """

    def __init__(self, options: Options, run_token: str, redaction: Redaction) -> None:
        self._options = options
        self._redaction = redaction
        self._run_token = run_token
        self._host = _host()
        self._kept = KeptResults(os.path.dirname(os.path.abspath(options.access)), options.slot)
        self._channel: Channel | None = None
        self._daemon_address = ""
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._causes: dict[int, str] = {}
        self._questions: dict[int, asyncio.Future[bytes]] = {}
        self._last_question = 0
        self._left: asyncio.Future[Leave] | None = None
        self._has_swept = False
        self._exit_status: int | None = None
        self._is_of_job = any(os.environ.get(name) for name in _JOB_IDS)
        self._is_closed = asyncio.Event()

    @property
    def decoder(self) -> Decoder:
        """Reads what a daemon says to a worker."""
        return decode_to_worker

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        access = read_access(self._options.access)
        self._left = loop.create_future()
        for number, reason in _SIGNALS.items():
            loop.add_signal_handler(number, self._on_signal, number, reason)
        async with (
            TokenServer(max(self._options.cores, self._options.slots), name=self._run_token) as tokens,
            ProcessTrees(self._run_token, before_start=self._look) as self._trees,
        ):
            self._runner = AttemptRunner(self._trees, tokens, self._host, self._options.slots, self._ask)
            self._session = Session(self._self(access), _now(), self._kept.load())
            return await self._live()

    def on_messages(self, messages: list[Message]) -> None:
        for message in messages:
            if isinstance(message, Environment):
                self._redaction.learn(variables_of(message))
        effects = self._session.heard(cast("list[ToWorker]", messages), _now())
        grace = self._session.kill_grace_seconds
        if grace is not None:
            self._trees.set_grace(min(grace, VACATE_SECONDS / 2))
        self._perform(effects)

    def on_closed(self, reason: str) -> None:
        self._channel = None
        self._is_closed.set()
        _log.info("the link is gone: %s", reason or "closed by us")
        self._perform(self._session.disconnected(_now()))

    async def _live(self) -> int:
        assert self._left is not None
        async with asyncio.TaskGroup() as self._group:
            ticking = self._group.create_task(self._tick())
            self._perform(self._session.begin())
            leave = await self._left
            ticking.cancel()
            _log.info("leaving: %s", leave.reason)
            crash_point("worker.leaving")
            await self._stop_all()
            await self._say_farewell()
            self._kept.close()
        return _EXITS[leave.end] if self._exit_status is None else self._exit_status

    def _self(self, access: Access) -> Self:
        options = self._options
        unfit = unfit_reason(options.directory, access.roots)
        if unfit:
            _log.error("unfit: %s", unfit)
        return Self(
            slot=options.slot,
            incarnation=secrets.token_hex(8),
            host=self._host,
            pid=os.getpid(),
            version=__version__,
            slots=options.slots,
            cores=options.cores,
            lives_seconds=options.lives_seconds,
            job_id=_job_id(),
            restarts=_number(os.environ.get("SLURM_RESTART_COUNT", "")),
            unfit=unfit,
            time_scale=access.time_scale,
        )

    def _perform(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            self._do(effect)

    def _do(self, effect: Effect) -> None:
        match effect:
            case Say(message):
                if self._channel is not None:
                    self._channel.send(self._filled(message))
            case Start():
                self._start(effect)
            case Stop():
                self._stop(effect)
            case Hold():
                _log.info("holding what runs")
                self._trees.hold()
            case GoOn():  # what is stopped in this turn has ended before
                asyncio.get_running_loop().call_soon(self._trees.go_on)
            case HandOver(answered):
                self._hand_over(answered)
            case Keep(result):
                self._keep(result)
            case Forget(attempt):
                crash_point("worker.acknowledged")
                self._kept.forget(attempt)
                crash_point("worker.forgotten")
            case Connect(within_seconds):
                self._group.create_task(self._connect(within_seconds))
            case HangUp(reason):
                self._hang_up(reason)
            case Leave():
                assert self._left is not None
                if not self._left.done():
                    self._left.set_result(effect)

    def _start(self, start: Start) -> None:
        number = start.run.attempt
        _log.info("attempt %d: %s", number, start.run.task)
        crash_point("worker.assigned")
        task = self._group.create_task(self._attempt(start))
        self._tasks[number] = task
        task.add_done_callback(lambda _: self._on_end_without_start(number))

    def _on_end_without_start(self, number: int) -> None:
        """A task that is cancelled before its first step never runs a line of its own."""
        if number in self._tasks:
            self._tell_end(self._runner.failed(number, "stopped"))

    def _filled(self, message: Message) -> Message:
        if not isinstance(message, Beat):
            return message
        return Beat(
            load=os.getloadavg()[0], rss_bytes=resident_bytes(), free_bytes=free_bytes(self._options.directory or ".")
        )

    def _hang_up(self, reason: str) -> None:
        _log.info("closing the link: %s", reason)
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.detach()
            channel.abort(reason)

    def _keep(self, result: Result) -> None:
        crash_point("worker.body_ended")
        try:
            self._kept.keep(result)
        except OSError as error:
            _log.warning("cannot keep the result of attempt %d: %s", result.attempt, error)
        crash_point("worker.result_kept")

    async def _attempt(self, start: Start) -> None:
        number = start.run.attempt
        crash_point("worker.starting")
        self._perform(self._session.started(number, _now()))
        environment = None if start.environment is None else dict(start.environment)
        try:
            result = await self._runner.run(start.run, environment)
            if result.outcome == Outcome.FAILED and self._is_of_job:
                await asyncio.sleep(_DOUBT_SECONDS)
        except asyncio.CancelledError:  # only ever by `_stop`: the attempt is gone, its end is told, and this task ends
            result = self._runner.failed(number, self._causes.get(number) or "stopped")
        except Exception as error:  # noqa: BLE001  (a fault of ours must not take the worker's other attempts with it)
            _log.exception("attempt %d", number)
            result = self._runner.unable(number, f"the worker failed: {error!r}")
        self._tell_end(result)

    async def _ask(self, attempt: int, question: bytes) -> bytes:
        """Ask the run, and wait for the answer as long as it takes."""
        self._last_question += 1
        number = self._last_question
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._questions[number] = answer
        self._perform(self._session.asked(Asked(attempt=attempt, number=number, question=question), _now()))
        try:
            return await answer
        finally:
            del self._questions[number]

    def _hand_over(self, answered: Answered) -> None:
        answer = self._questions.get(answered.number)
        if answer is not None and not answer.done():
            answer.set_result(answered.answer)

    def _tell_end(self, result: Result) -> None:
        self._tasks.pop(result.attempt, None)
        self._causes.pop(result.attempt, None)
        _log.info("attempt %d ended: %s", result.attempt, result.outcome)
        self._perform(self._session.ended(result, _now()))

    def _stop(self, stop: Stop) -> None:
        task = self._tasks.get(stop.attempt)
        if task is None:
            return
        _log.info("attempt %d is stopped %s", stop.attempt, stop.cause)
        if stop.cause:
            self._causes[stop.attempt] = stop.cause
        task.cancel()
        if stop.is_urgent:  # the second time it is SIGKILL at once; the first must have arrived
            asyncio.get_running_loop().call_soon(lambda: asyncio.get_running_loop().call_soon(task.cancel))

    async def _stop_all(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        self._trees.kill_all()
        if tasks:
            await asyncio.wait(tasks, timeout=VACATE_SECONDS)

    async def _say_farewell(self) -> None:
        """Close the link after what is still to be sent; a daemon that does not read it is not waited for."""
        if self._channel is None:
            return
        self._is_closed.clear()
        self._channel.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FAREWELL_SECONDS):
                await self._is_closed.wait()

    async def _connect(self, within_seconds: float) -> None:
        await asyncio.sleep(random.uniform(0.0, within_seconds))  # noqa: S311  (jitter)
        if self._session.has_left or self._channel is not None:
            return
        try:
            access = read_access(self._options.access)
            channel = await connect(access, self._options.slot, self, own_identity(__version__), _log.info)
        except VersionError as error:
            self._give_up(error)
        except DfmError as error:
            _log.warning("%s", error)
            is_refused = isinstance(error, ConnectError) and self._daemon_address in error.refused_at
            self._perform(self._session.unreachable(_now(), is_refused=is_refused))
        else:
            self._on_connected(channel)

    def _on_connected(self, channel: Channel) -> None:
        if not channel.is_open:
            self._perform(self._session.unreachable(_now(), is_refused=False))
            return
        self._channel = channel
        self._daemon_address = channel.address.rpartition(":")[0]
        crash_point("worker.connected")
        _log.info("connected to %s, dfm %s", channel.address, channel.peer_version)
        self._sweep()
        self._perform(self._session.connected(_now()))

    def _sweep(self) -> None:
        """Kill what an earlier life of this slot has left on this host."""
        if self._has_swept:
            return
        self._has_swept = True
        for pid in token_holders(RUN_TOKEN, self._run_token):
            _log.warning("killing process %d of an earlier life of this slot", pid)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)

    def _give_up(self, error: VersionError) -> None:
        _log.error("%s (%s)", error, error.hint)
        self._exit_status = EXIT_VERSION
        self._do(Leave(End.LOST, "another version"))

    def _on_signal(self, number: signal.Signals, reason: str) -> None:
        _log.info("signal %s", number.name)
        self._perform(self._session.signalled(reason, _now()))

    def _look(self) -> None:
        """See whether we were frozen until now, in the midst of whatever we do."""
        self._perform(self._session.tick(_now()))

    async def _tick(self) -> None:
        parent = os.getppid()
        while True:
            await asyncio.sleep(self._session.beat_seconds)
            if resident_bytes() > _RECYCLE_BYTES:
                self._session.recycle("its memory has grown")
            if os.getppid() != parent and self._is_of_job:
                _log.warning("the batch job's own process is gone")
                parent = os.getppid()
                self._perform(self._session.signalled("signal", _now()))
            self._look()


def _now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _host() -> str:
    """Return this host's name as the batch system has it: by that name workers are kept off it."""
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()


def _job_id() -> str:
    """Return what the batch system calls this job, `44[3]` for an element of an array of LSF; empty outside one."""
    found = next((os.environ[name] for name in _JOB_IDS if os.environ.get(name)), "")
    index = os.environ.get("LSB_JOBINDEX") or "0"
    return f"{found}[{index}]" if found and found == os.environ.get("LSB_JOBID") and index != "0" else found


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def _present_directory() -> str:
    try:
        return os.getcwd()
    except OSError as error:
        return f"unknown: {error.strerror}"
