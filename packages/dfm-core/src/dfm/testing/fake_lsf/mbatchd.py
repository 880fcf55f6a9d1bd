"""The stand-in for mbatchd: one process that owns the cluster's state and answers the commands.

Started as `python -m dfm.testing.fake_lsf mbatchd DIR [READY_FD] [UNKNOWN_SECONDS]`. It may be killed and started
again at any time: jobs go on meanwhile, and it takes them up again from their files.
"""

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import sys
import traceback
from collections.abc import Awaitable, Callable, Mapping

from dfm.testing.fake_lsf import config, ctl, display, faults, options, submit, texts
from dfm.testing.fake_lsf.commands import COMMANDS
from dfm.testing.fake_lsf.control import Control
from dfm.testing.fake_lsf.display import Answer, lines
from dfm.testing.fake_lsf.faults import Fault, Kind
from dfm.testing.fake_lsf.jobfile import login_name
from dfm.testing.fake_lsf.jobs import ENDED, PENDING, STARTED, Job, State
from dfm.testing.fake_lsf.options import Parsed
from dfm.testing.fake_lsf.scheduler import Scheduler
from dfm.testing.fake_lsf.state import Cluster
from dfm.testing.fake_lsf.submit import Accepted, Request
from dfm.testing.fake_lsf.supervise import now

SOCKET = "mbatchd.sock"
LOCK = "mbatchd.pid"
REQUEST_BYTES = 64 * 1024 * 1024
FOREVER = 10**9
IDLE_SECONDS = 0.5


class Talk:
    """One conversation with a thin client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def request(self) -> dict[str, object]:
        """Return what the client asks; empty if it went away."""
        line = await self._reader.readline()
        asked: dict[str, object] = json.loads(line) if line else {}
        return asked

    async def stdin(self) -> str:
        """Ask the client for its standard input."""
        self._writer.write(b"i 0\n")
        length = int(await self._reader.readline())
        return (await self._reader.readexactly(length)).decode("utf-8", "surrogateescape")

    def out(self, text: str) -> None:
        """Let the client write to stdout."""
        self._frame(b"o", text)

    def err(self, text: str) -> None:
        """Let the client write to stderr."""
        self._frame(b"e", text)

    def _frame(self, kind: bytes, text: str) -> None:
        if text:
            content = text.encode("utf-8", "surrogateescape")
            self._writer.write(b"%s %d\n" % (kind, len(content)) + content)

    async def end(self, status: int) -> None:
        """Let the client exit."""
        self._writer.write(b"r %d\n" % status)
        with contextlib.suppress(ConnectionError):
            await self._writer.drain()

    async def gone(self) -> None:
        """Return when the client went away."""
        await self._reader.read()


class Mbatchd:
    """Answers commands, and lets time pass for the jobs."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._control = Control(cluster)
        self._scheduler = Scheduler(cluster)
        self._stopping = asyncio.Event()
        self._wake = asyncio.Event()
        self._changes: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        cluster.on_change = self._tell_watchers

    def _tell_watchers(self) -> None:
        if not self._changes.done():
            self._changes.set_result(None)

    async def _next_change(self) -> None:
        if self._changes.done():
            self._changes = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._changes)

    async def run(self, on_ready: Callable[[], None]) -> None:
        """Serve until `fakelsf stop` or SIGTERM."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop)
        loop.add_signal_handler(signal.SIGCHLD, self._reap)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(SOCKET)
        server = await asyncio.start_unix_server(self._serve, SOCKET, limit=REQUEST_BYTES)
        on_ready()
        while not self._stopping.is_set():
            self._look()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._period())
            self._wake.clear()
        server.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(SOCKET)

    def _stop(self) -> None:
        self._stopping.set()
        self._wake.set()

    def _reap(self) -> None:
        self._wake.set()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass

    def _period(self) -> float:
        """Return how long nothing need be looked at: a quarter of the shortest interval, while there are jobs."""
        params = self._cluster.config.params
        shortest = min(params.mbd_sleep_time, params.sbd_sleep_time, params.job_terminate_interval)
        if not self._cluster.live():
            return IDLE_SECONDS
        return min(0.2, max(0.01, self._cluster.config.seconds(shortest) / 4))

    def _look(self) -> None:
        at = now()
        if self._cluster.system.unknown_until and at >= self._cluster.system.unknown_until:
            self._cluster.system.unknown_until = 0
            self._cluster.save_system()
            for job in self._cluster.live():
                if not set(job.hosts) & set(self._cluster.system.lost_hosts):
                    self._control.regain_contact(job)
        self._control.look()
        self._scheduler.look()
        clean = self._cluster.config.seconds(self._cluster.config.params.clean_period)
        for job in self._cluster.jobs.values():
            if job.state in ENDED and not job.is_cleaned and at >= job.finished_at + clean:
                job.is_cleaned = True
                self._cluster.changed(job)

    def lose_all_for(self, lsf_seconds: float) -> None:
        """Let the jobs of before a restart be UNKWN for a time."""
        self._cluster.system.unknown_until = now() + self._cluster.config.seconds(lsf_seconds)
        self._cluster.save_system()
        for job in self._cluster.live():
            if job.state in STARTED:
                self._control.lose_contact(job)

    # Conversations.

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talk = Talk(reader, writer)
        try:
            asked = await talk.request()
            if asked:
                await self._converse(talk, asked)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        except Exception:  # noqa: BLE001  # a fault of the fake shall be seen in its log, and not stop the cluster
            traceback.print_exc()
        finally:
            writer.close()
            self._wake.set()

    async def _converse(self, talk: Talk, asked: Mapping[str, object]) -> None:
        request = _request(asked)
        if request.command == "fakelsf":
            answering: Callable[[], Awaitable[int]] = lambda: self._ctl(talk, list(request.words))  # noqa: E731
        else:
            parsed, answer = self._parse(request)
            reads = parsed is not None and request.command == "bsub" and submit.needs_stdin(parsed)
            script = await talk.stdin() if reads else ""
            answering = lambda: self._answer(talk, request, parsed, answer, script)  # noqa: E731
        async with asyncio.TaskGroup() as group:
            work = group.create_task(_status_of(answering()))
            gone = group.create_task(talk.gone())
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            if work.done() and not work.cancelled() and work.exception() is None:
                await talk.end(work.result())
            work.cancel()
            gone.cancel()

    def _parse(self, request: Request) -> tuple[Parsed | None, Answer | None]:
        """Read the command line; or return the answer that it needs no cluster for."""
        try:
            parsed = options.parse(request.command, request.words, self._cluster.config.dialect)
        except options.UsageError as fault:
            return None, Answer("", lines(str(fault)), texts.STATUS_USAGE)
        if "-h" in parsed.flags:
            return None, Answer("", lines(options.usage(request.command)))
        if "-V" in parsed.flags:
            return None, Answer("", lines(texts.PRODUCT[self._cluster.config.dialect]))
        return parsed, None

    async def _answer(
        self, talk: Talk, request: Request, parsed: Parsed | None, answer: Answer | None, script: str
    ) -> int:
        fault = faults.take(self._cluster, request.command)
        if fault is not None:
            status = await self._before(talk, request, fault)
            if status is not None:
                return status
        if parsed is None:
            assert answer is not None
        elif request.command == "bsub":
            return await self._bsub(talk, request, parsed, script, fault)
        else:
            answer = self._command(request, parsed)
        answer = _spoilt(answer, fault)
        talk.out(answer.stdout)
        talk.err(answer.stderr)
        return answer.status

    def _command(self, request: Request, parsed: Parsed) -> Answer:
        try:
            if request.command == "bjobs":
                return display.bjobs(self._cluster, request, parsed)
            return COMMANDS[request.command](self._cluster, self._control, parsed)
        except options.UsageError as fault:
            return Answer("", lines(str(fault)), texts.STATUS_USAGE)

    async def _ctl(self, talk: Talk, words: list[str]) -> int:
        if words == ["stop"]:
            self._stop()
            return 0
        if words[:1] == ["jobs"] and len(words) == 2:
            while self._cluster.revision <= int(words[1]):
                await self._next_change()
        try:
            answer = ctl.ctl(self._cluster, self._control, words)
        except ValueError as fault:
            talk.err(lines(str(fault).rstrip("\n")))
            return 2
        talk.out(answer.stdout)
        return answer.status

    # Faults.

    async def _before(self, talk: Talk, request: Request, fault: Fault) -> int | None:
        """Do what a fault does before the command's own work; return a status if that is the end of it."""
        match fault.kind:
            case Kind.HANG:
                await self._sleep(fault.seconds)
                talk.err(lines(texts.LIBRARY_CALL_FAILED))
                return texts.STATUS_AWAY
            case Kind.SLOW:
                await self._sleep(fault.seconds)
            case Kind.DOWN:
                return await self._down(talk, request, fault)
            case Kind.RC255_EMPTY:
                return 255
            case Kind.OK_EMPTY if request.command != "bsub" or fault.accepted == "no":
                return 0
            case Kind.NOISE_BEFORE:
                talk.out(lines(fault.text or texts.NOISE_PROJECT.format(project="cpp")))
            case Kind.NOISE_CANNOT_CONNECT:
                talk.out(lines(texts.CANNOT_CONNECT))
            case Kind.FORGET:
                for job in self._cluster.with_label(fault.job):
                    job.is_hidden = True
                    self._cluster.changed(job)
            case Kind.PENDING_THRESHOLD:
                return await self._threshold(talk, request, lambda: False, fault.seconds)
            case Kind.ESUB_ABORT:
                talk.err(lines(submit.RefusedError(texts.REQUEST_ABORTED_BY_ESUB, fault.text or texts.ESUB_TEXT).text))
                return texts.STATUS_REFUSED
            case Kind.QUERY_LIMIT:
                talk.err(lines(texts.QUERY_LIMIT))
                return texts.STATUS_AWAY
            case Kind.NON_LSF_HOST:
                return self._reject(talk)
            case Kind.REFUSE:
                talk.err(lines(fault.text))
                return fault.status
            case _:
                pass
        return None

    async def _sleep(self, lsf_seconds: float | None) -> None:
        await asyncio.sleep(FOREVER if lsf_seconds is None else self._cluster.config.seconds(lsf_seconds))

    def _reject(self, talk: Talk) -> int:
        talk.err(
            lines(*[texts.LSF_IS_DOWN] * texts.LSF_IS_DOWN_TIMES, *[texts.NON_LSF_HOST] * texts.NON_LSF_HOST_TIMES)
        )
        return texts.STATUS_AWAY

    async def _down(self, talk: Talk, request: Request, fault: Fault) -> int | None:
        tries = int(request.environ.get("LSB_NTRIES") or FOREVER)
        until = now() + (FOREVER if fault.seconds is None else self._cluster.config.seconds(fault.seconds))
        while now() < until:
            if tries <= 1:
                talk.err(lines(texts.CONNECTION_REFUSED))
                return texts.STATUS_AWAY
            tries -= 1
            talk.err(lines(texts.LSF_IS_DOWN if fault.text == "lim" else texts.DAEMON_NOT_RESPONDING))
            await self._sleep(self._cluster.config.params.daemon_retry)
        if fault.end == "non-lsf-host":
            talk.err(lines(*[texts.NON_LSF_HOST] * texts.NON_LSF_HOST_TIMES))
            return texts.STATUS_AWAY
        return None

    async def _threshold(
        self, talk: Talk, request: Request, has_room: Callable[[], bool], lsf_seconds: float | None = None
    ) -> int | None:
        """Wait for room as bsub does at MAX_PEND_JOBS; return a status when it gives up."""
        default = texts.PENDING_THRESHOLD_TRIES if self._cluster.config.is_volclava else FOREVER
        tries = int(request.environ.get("LSB_NTRIES") or default)
        interval = self._cluster.config.params.sub_try_interval
        until = now() + (FOREVER if lsf_seconds is None else self._cluster.config.seconds(lsf_seconds))
        while not has_room() and now() < until:
            if tries <= 0:
                text = texts.PENDING_THRESHOLD_FINAL.format(user=login_name())
                talk.err(lines(texts.NOT_SUBMITTED.format(reason=text)))
                return texts.STATUS_REFUSED
            tries -= 1
            talk.err(lines(texts.PENDING_THRESHOLD.format(user=login_name(), seconds=f"{interval:g}")))
            await self._sleep(interval)
        return None

    # bsub.

    async def _bsub(self, talk: Talk, request: Request, parsed: Parsed, script: str, fault: Fault | None) -> int:
        most = self._cluster.config.params.max_pend_jobs
        if most is not None:
            gave_up = await self._threshold(talk, request, lambda: submit.pending_count(self._cluster) < most)
            if gave_up is not None:
                return gave_up
        if (path := parsed.last("-pack")) is not None:
            return self._pack(talk, request, path)
        try:
            if fault is not None and fault.kind is Kind.SUBMIT_TWICE:
                submit.submit(self._cluster, request, parsed, script, login_name())
            accepted = submit.submit(self._cluster, request, parsed, script, login_name())
        except submit.RefusedError as refusal:
            talk.err(lines(refusal.text))
            return texts.STATUS_REFUSED
        except options.UsageError as usage:
            talk.err(lines(str(usage)))
            return texts.STATUS_USAGE
        return await self._accepted(talk, request, accepted, fault)

    async def _accepted(self, talk: Talk, request: Request, accepted: Accepted, fault: Fault | None) -> int:
        jobs = self._cluster.with_label(str(accepted.id))
        kind = fault.kind if fault is not None else None
        if fault is not None and kind is Kind.INVISIBLE:
            for job in jobs:
                job.visible_from = now() + self._cluster.config.seconds(fault.seconds or 0)
                self._cluster.changed(job)
        if kind is Kind.SUBMIT_BUT_TIME_OUT:
            await self._sleep(None)
        if kind is not Kind.OK_EMPTY and not {"BSUB_QUIET", "BSUB_QUIET2"} & set(request.environ):
            talk.out(_spoilt(Answer(lines(accepted.stdout)), fault).stdout)
            talk.err(lines(accepted.stderr) if accepted.stderr else "")
        if accepted.waits:
            return await self._wait_for_end(talk, jobs, interactive=accepted.waits != "-K")
        return 0

    async def _wait_for_end(self, talk: Talk, jobs: list[Job], *, interactive: bool) -> int:
        """Wait as `-K` and `-I` do, and return the job's own status."""
        job = jobs[-1]
        talk.err(lines(texts.WAITING_FOR_DISPATCH))
        while job.state in PENDING | {State.WAIT}:
            await self._next_change()
        if job.state in ENDED and not job.start_count:
            talk.err(lines(texts.TERMINATED_WHILE_PENDING))
            return texts.STATUS_TERMINATED_WHILE_PENDING
        if interactive:
            talk.err(lines(texts.STARTING_ON.format(host=job.hosts[0])))
        shown = 0
        while any(each.is_live for each in jobs):
            shown = _show_output(talk, job, shown) if interactive else 0
            await self._next_change()
        if interactive:
            _show_output(talk, job, shown)
        else:
            talk.err(lines(texts.JOB_IS_FINISHED))
        return int(display.exit_code(job) or 0)

    def _pack(self, talk: Talk, request: Request, path: str) -> int:
        params = self._cluster.config.params
        if params.lsb_max_pack_jobs == 0 and not self._cluster.config.is_volclava:
            talk.err(lines(texts.NOT_SUBMITTED.format(reason=texts.PACK_IS_OFF)))
            return texts.STATUS_REFUSED
        with open(os.path.join(request.cwd, path), encoding="utf-8") as stream:
            written = [(number, line) for number, line in enumerate(stream, 1) if line.strip()]
        submitted = 0
        for number, line in written:
            try:
                parsed = options.parse("bsub", options.split_words(line), self._cluster.config.dialect)
                accepted = submit.submit(self._cluster, request, parsed, "", login_name())
            except (submit.RefusedError, options.UsageError) as fault:
                text = fault.text if isinstance(fault, submit.RefusedError) else str(fault)
                talk.err(lines(texts.PACK_LINE.format(line=number, text=text)))
                continue
            submitted += 1
            talk.out(lines(texts.PACK_LINE.format(line=number, text=accepted.stdout)))
        errors = len(written) - submitted
        talk.out(lines(texts.PACK_SUMMARY.format(lines=len(written), submitted=submitted, errors=errors)))
        return 0


async def _status_of(answer: Awaitable[int]) -> int:
    return await answer


def _request(asked: Mapping[str, object]) -> Request:
    words, environ = asked["argv"], asked["env"]
    assert isinstance(words, list)
    assert isinstance(environ, dict)
    return Request(command=str(asked["command"]), words=words, environ=environ, cwd=str(asked["cwd"]))


def _spoilt(answer: Answer, fault: Fault | None) -> Answer:
    """Return what a fault leaves of an answer."""
    if fault is None:
        return answer
    if fault.kind is Kind.GARBAGE_JSON:
        return Answer('{"COMMAND":"bjobs","JOBS":1,"RECORDS":[{"JOBID":"1"' + "\x00\ufffd<<<\n", "", answer.status)
    if fault.kind is Kind.PARTIAL_OUTPUT:
        return Answer(answer.stdout[: len(answer.stdout) // 2], "", 0)
    return answer


def _show_output(talk: Talk, job: Job, shown: int) -> int:
    with contextlib.suppress(OSError), open(f"{job.run_directory}/out", encoding="utf-8", errors="replace") as stream:
        text = stream.read()
        talk.out(text[shown:])
        return len(text)
    return shown


async def _main(directory: str, ready_fd: int | None, unknown_seconds: float) -> None:
    cluster = Cluster(config.load(directory), directory)
    daemon = Mbatchd(cluster)
    if unknown_seconds:
        daemon.lose_all_for(unknown_seconds)

    def on_ready() -> None:
        if ready_fd is not None:
            os.write(ready_fd, b"ready\n")
            os.close(ready_fd)

    await daemon.run(on_ready)


def main(words: list[str]) -> int:
    """Run in DIR until told to stop; only one can at a time."""
    directory = words[0]
    os.chdir(directory)
    lock = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.stderr.write(f"another mbatchd runs in {directory}\n")
        return 1
    os.truncate(lock, 0)
    os.write(lock, f"{os.getpid()}\n".encode())
    ready_fd = int(words[1]) if len(words) > 1 else None
    asyncio.run(_main(directory, ready_fd, float(words[2]) if len(words) > 2 else 0.0))
    return 0
