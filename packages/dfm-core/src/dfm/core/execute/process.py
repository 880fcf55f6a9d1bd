"""Process trees: each body in a session and process group of its own, DFM above all of them as subreaper.

Three rules hold:
1. when `run` or `call` has returned or raised, the body's process group is dead and its leader reaped;
2. what left the group (setsid, double fork, nohup) is found by its `DFM_ATTEMPT_TOKEN`, since orphans of a subreaper's
   tree become its children, and killed: at once after a failure, else within SWEEP_SECONDS, and always before exit;
3. children that this process had before are never touched.

Linux only: pidfd (5.3), PR_SET_CHILD_SUBREAPER (3.4). A child is waited for through its pidfd, so that no exit is lost;
its group is killed while its zombie still holds the process group's number.
"""

import asyncio
import contextlib
import ctypes
import errno
import fcntl
import gc
import logging
import os
import select
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Self, TextIO

from msgspec import Struct

from dfm.api.errors import InfrastructureError

ATTEMPT_TOKEN = "DFM_ATTEMPT_TOKEN"  # noqa: S105  (a name, and no secret)
RUN_TOKEN = "DFM_RUN_TOKEN"  # noqa: S105  (a name, and no secret)
SWEEP_SECONDS = 0.25
"""How long an orphan of a task that ended well may outlive it; a look at all of /proc costs 1 to 3 ms."""
_UNKILLABLE_SECONDS = 5.0
"""A process in uninterruptible sleep (a dead NFS server) does not die; the run must end all the same."""
_LOOKS_AT_AN_EXEC, _EXEC_SECONDS = 50, 0.002
"""An exec takes well below a millisecond, and may be kept waiting in its midst where many processes want the processor;
after these looks an empty environment is what the process chose."""
_STDERR = 2
_DEFAULT_SIGNALS = (signal.SIGPIPE, signal.SIGXFSZ)
"""Python ignores them; programs do not expect that."""
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER, _PR_GET_CHILD_SUBREAPER = 1, 36, 37

_log = logging.getLogger(__name__)


class Launch(Struct, frozen=True, kw_only=True):
    """A program to run.

    Attributes:
        output: descriptor for stdout and stderr.
        pass_fds: descriptors it inherits under their own numbers.
        token: unique to the attempt.
    """

    argv: Sequence[str]
    cwd: str
    env: Mapping[str, str]
    output: int
    token: str
    pass_fds: Sequence[int] = ()


class ForkedCall(Struct, frozen=True, kw_only=True):
    """A function to call in a forked child; its result is the child's exit status."""

    function: Callable[[], int]
    cwd: str
    env: Mapping[str, str]
    output: int
    token: str
    pass_fds: Sequence[int] = ()


class Ended(Struct, frozen=True, kw_only=True):
    """How a body ended.

    Attributes:
        status: exit status, 128 + n for signal n.
    """

    status: int
    signal: int | None
    seconds: float
    cpu_seconds: float
    max_rss_bytes: int


class StartError(Exception):
    """The program could not be started; `status` is what a shell would say, 126 or 127."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class ProcessTrees:
    """The bodies of one run. Enter it before the first, from the one thread this process has.

    Args:
        run_token: marks all processes of the run.
        grace: seconds between SIGTERM and SIGKILL when a body is stopped.
        before_start: is called where something is about to be started, and may yet call `hold`.
    """

    def __init__(self, run_token: str, grace: float = 3.0, before_start: Callable[[], None] | None = None) -> None:
        self._run_token = run_token
        self._grace = grace
        self._before_start = before_start
        self._leaders: set[int] = set()
        self._spared: frozenset[int] = frozenset()
        self._was_subreaper = False
        self._ended_tokens: set[str] = set()
        self._scrubbed: set[int] = set()
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._home = -1
        self._inherited: list[int] = []
        self._exits = _Exits()
        self._is_free = asyncio.Event()
        self._is_free.set()

    async def __aenter__(self) -> Self:
        self._home = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._inherited = _inheritable_descriptors()
        for fd in self._inherited:
            os.set_inheritable(fd, False)  # noqa: FBT003  (the standard library's signature)
        self._was_subreaper = _get_subreaper()
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        self._spared = frozenset(_children_of(os.getpid()))
        self._exits.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
            self._sweep_timer = None
        self._sweep_all()
        self._exits.close()
        if not self._was_subreaper:
            _prctl(_PR_SET_CHILD_SUBREAPER, 0)
        for fd in self._inherited:
            with contextlib.suppress(OSError):
                os.set_inheritable(fd, True)  # noqa: FBT003  (the standard library's signature)
        os.close(self._home)

    async def run(self, launch: Launch) -> Ended:
        """Run a program to its end.

        Cancelled, it stops the program (SIGTERM, after the grace SIGKILL; cancelled again, SIGKILL at once) and goes on
        with CancelledError when nothing of it is left.

        Raises:
            StartError: there is no such program, or it may not be executed.
            InfrastructureError: the machine has no memory or processes left.
        """
        await self.may_start()
        started = time.monotonic()
        return await self._watch(self._spawn(launch), launch.token, started)

    async def call(self, call: ForkedCall) -> Ended:
        """Call a function in a forked child, isolated like a program, and wait for its end as `run` does."""
        await self.may_start()
        started = time.monotonic()
        return await self._watch(self._fork(call), call.token, started)

    def set_grace(self, seconds: float) -> None:
        """Change the time between SIGTERM and SIGKILL for bodies that are stopped from now on."""
        self._grace = seconds

    def kill_all(self) -> None:
        """Kill every body now."""
        for leader in self._leaders:
            _kill_group(leader, signal.SIGKILL)

    def hold(self) -> None:
        """Suspend every body with all it started, until `go_on`. One that is stopped meanwhile is killed at once."""
        self._is_free.clear()
        self._signal_all(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let what was held go on."""
        self._signal_all(signal.SIGCONT)
        self._is_free.set()

    async def may_start(self) -> None:
        """Wait while bodies are held; whatever writes for a body that has not begun asks first."""
        if self._before_start is not None:
            self._before_start()
        await self._is_free.wait()

    def _signal_all(self, number: int) -> None:
        for leader in self._leaders:
            _kill_group(leader, number)
        for pid in token_holders(RUN_TOKEN, self._run_token):  # those that left their group
            _kill(pid, number)

    def _spawn(self, launch: Launch) -> int:
        """Start a program by posix_spawn, which costs a third of what `subprocess` takes.

        It cannot change the directory or close what is inheritable: so this process stands in the body's directory for
        the moment of the start (it has one thread, and nobody sees it), and nothing but what is passed is inheritable.
        """
        env = {**launch.env, ATTEMPT_TOKEN: launch.token, RUN_TOKEN: self._run_token}
        try:
            output = _above_standard(launch.output)
            try:
                os.chdir(launch.cwd)
                for fd in launch.pass_fds:
                    os.set_inheritable(fd, True)  # noqa: FBT003  (the standard library's signature)
                return os.posix_spawn(
                    _program(launch),
                    list(launch.argv),
                    env,
                    file_actions=[
                        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                        (os.POSIX_SPAWN_DUP2, output, 1),
                        (os.POSIX_SPAWN_DUP2, output, 2),
                    ],
                    setsid=True,
                    setsigdef=_DEFAULT_SIGNALS,
                )
            finally:
                for fd in launch.pass_fds:
                    os.set_inheritable(fd, False)  # noqa: FBT003  (the standard library's signature)
                os.fchdir(self._home)
                if output != launch.output:
                    os.close(output)
        except OSError as error:
            raise _start_error(launch, error) from error

    def _fork(self, call: ForkedCall) -> int:
        sys.stdout.flush()
        sys.stderr.flush()
        try:
            pid = os.fork()
        except OSError as error:
            raise InfrastructureError(f"cannot start a process: {error.strerror}") from error
        if pid == 0:
            _be_child(call, self._tokens(call.token))
        return pid

    def _tokens(self, token: str) -> dict[str, str]:
        return {ATTEMPT_TOKEN: token, RUN_TOKEN: self._run_token}

    async def _watch(self, pid: int, token: str, started: float) -> Ended:
        self._leaders.add(pid)
        pidfd = os.pidfd_open(pid)
        is_clean = False
        try:
            await self._exits.wait(pidfd)
            is_clean = True
        except asyncio.CancelledError:
            await self._stop(pid, pidfd)
            raise
        finally:
            ended = self._finish(pid, pidfd, started, is_dead=is_clean)
            os.close(pidfd)
            self._leaders.discard(pid)
            is_clean = is_clean and ended.status == 0
            self._look_for_orphans(token, is_clean=is_clean)
        return ended

    async def _stop(self, pid: int, pidfd: int) -> None:
        """End a body that is to be cancelled: politely first, unless it is held, for it must not do anything more."""
        if not self._is_free.is_set():
            return
        _kill_group(pid, signal.SIGTERM)
        _kill_group(pid, signal.SIGCONT)
        with contextlib.suppress(TimeoutError, asyncio.CancelledError):
            await asyncio.wait_for(self._exits.wait(pidfd), self._grace)

    def _finish(self, pid: int, pidfd: int, started: float, *, is_dead: bool) -> Ended:
        """Kill what is left of the group, reap its leader."""
        _kill_group(pid, signal.SIGKILL)
        if not is_dead and not _wait_dead(pidfd, _UNKILLABLE_SECONDS):
            _log.warning("process %d does not die, it is left behind", pid)
            return Ended(
                status=137,
                signal=9,
                seconds=time.monotonic() - started,
                cpu_seconds=0.0,
                max_rss_bytes=0,
            )
        _, status, usage = os.wait4(pid, 0)
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
        return Ended(
            status=os.WEXITSTATUS(status) if number is None else 128 + number,
            signal=number,
            seconds=time.monotonic() - started,
            cpu_seconds=usage.ru_utime + usage.ru_stime,
            max_rss_bytes=usage.ru_maxrss * 1024,
        )

    def _look_for_orphans(self, token: str, *, is_clean: bool) -> None:
        self._ended_tokens.add(token)
        if not is_clean:
            self._sweep()
        elif self._sweep_timer is None:
            self._sweep_timer = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep)

    def _sweep(self) -> None:
        """Kill and reap the orphans of all bodies that have ended."""
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
            self._sweep_timer = None
        tokens, self._ended_tokens = self._ended_tokens, set()
        deadline = time.monotonic() + _UNKILLABLE_SECONDS
        while orphans := self._orphans(tokens):
            _kill_and_reap(orphans)
            if time.monotonic() > deadline:
                _log.warning("processes %s do not die, they are left behind", sorted(orphans))
                return

    def _sweep_all(self) -> None:
        """Kill and reap every child that came while we ran: a body may have scrubbed its environment."""
        deadline = time.monotonic() + _UNKILLABLE_SECONDS
        while children := _children_of(os.getpid()) - self._spared:
            _kill_and_reap(children)
            if time.monotonic() > deadline:
                _log.warning("processes %s do not die, they are left behind", sorted(children))
                return

    def _orphans(self, tokens: set[str]) -> set[int]:
        adopted = _children_of(os.getpid()) - self._spared - self._leaders
        self._scrubbed &= adopted
        for pid in adopted - self._scrubbed:
            if not _has_environment(pid):
                self._scrubbed.add(pid)
        return {pid for pid in adopted if _is_zombie(pid) or _token_of(pid, ATTEMPT_TOKEN) in tokens}


class _Exits:
    """Tells when children have ended: an epoll of their pidfds, which the event loop watches as one descriptor.

    To have the loop add and remove a reader for each child takes ten times as long.
    """

    def __init__(self) -> None:
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._epoll: select.epoll | None = None

    def open(self) -> None:
        self._epoll = select.epoll()
        asyncio.get_running_loop().add_reader(self._epoll.fileno(), self._look)

    def close(self) -> None:
        if self._epoll is not None:
            asyncio.get_running_loop().remove_reader(self._epoll.fileno())
            self._epoll.close()

    async def wait(self, pidfd: int) -> None:
        """Wait for the end of a process."""
        assert self._epoll is not None, "process trees are entered before the first process"
        future = self._waiting[pidfd] = asyncio.get_running_loop().create_future()
        self._epoll.register(pidfd, select.EPOLLIN | select.EPOLLONESHOT)
        try:
            await future
        finally:
            del self._waiting[pidfd]
            self._epoll.unregister(pidfd)

    def _look(self) -> None:
        assert self._epoll is not None
        for pidfd, _ in self._epoll.poll(0):
            if not self._waiting[pidfd].done():
                self._waiting[pidfd].set_result(None)


def token_holders(name: str, value: str) -> set[int]:
    """Return the processes of this user whose environment has the token; those that are gone meanwhile left out."""
    mine = os.geteuid()
    found = set()
    for pid in _pids():
        with contextlib.suppress(OSError):
            if os.stat(f"/proc/{pid}").st_uid == mine and _token_of(pid, name) == value and not _is_zombie(pid):
                found.add(pid)
    return found


def close_all_but(kept: Iterable[int]) -> None:
    """Close every descriptor except those named."""
    low = 0
    for fd in sorted(set(kept)):
        if low < fd:  # closerange(0, 0) closes everything: its end becomes -1, unsigned
            os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, os.sysconf("SC_OPEN_MAX"))


def _above_standard(fd: int) -> int:
    """Return the descriptor, or a copy of one of the three that a child gets anew; so it is where ours were closed."""
    return fd if fd > _STDERR else fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _STDERR + 1)


def _inheritable_descriptors() -> list[int]:
    """Return what this process would hand to each child, the three standard descriptors apart."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if int(name) > _STDERR and os.get_inheritable(int(name)):
                found.append(int(name))
    return found


def _program(launch: Launch) -> str:
    """Return the path of a program, looked for where the body would look for it.

    Raises:
        FileNotFoundError: there is none.
    """
    name = launch.argv[0]
    found = name if "/" in name else shutil.which(name, path=launch.env.get("PATH", os.defpath))
    if found is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
    return found


def _be_child(call: ForkedCall, tokens: Mapping[str, str]) -> None:
    """Be the forked child: isolate it, call the function, and never return."""
    status = 1
    try:
        gc.disable()
        os.setsid()
        _prctl(_PR_SET_CHILD_SUBREAPER, 0)
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(call.output, 1)
        os.dup2(call.output, 2)
        close_all_but((0, 1, 2, *call.pass_fds))
        for fd in call.pass_fds:
            os.set_inheritable(fd, True)  # noqa: FBT003  (the standard library's signature)
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115  (it is the stdin of this process to its end)
        sys.stdout = _text_stream(1)
        sys.stderr = _text_stream(2)
        os.chdir(call.cwd)
        os.environ.clear()
        os.environ.update({**call.env, **tokens})
        asyncio._set_running_loop(None)  # noqa: SLF001  (documented for event loops; a fork has none)
        gc.enable()
        status = call.function()
    except BaseException:  # noqa: BLE001  (a forked child must never run its parent's code)
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status & 0xFF)


def _text_stream(fd: int) -> TextIO:
    return open(fd, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)


def _wait_dead(pidfd: int, seconds: float) -> bool:
    """Wait, not long, until the process is a zombie."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def _kill_group(pgid: int, number: int) -> None:
    try:  # noqa: SIM105  (done for every body, and suppress takes longer than the call)
        os.killpg(pgid, number)
    except (ProcessLookupError, PermissionError):
        pass


def _kill(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _kill_and_reap(pids: Iterable[int]) -> None:
    for pid in pids:
        _kill(pid, signal.SIGKILL)
    for pid in pids:
        with contextlib.suppress(ChildProcessError, ProcessLookupError):
            fd = os.pidfd_open(pid)
            try:
                if _wait_dead(fd, 1.0):
                    os.waitpid(pid, 0)
            finally:
                os.close(fd)


def _children_of(parent: int) -> set[int]:
    """Return the children of a process: from the kernel's list where it keeps one, else from all of /proc."""
    try:
        found: set[int] = set()
        for thread in os.listdir(f"/proc/{parent}/task"):
            with open(f"/proc/{parent}/task/{thread}/children", encoding="ascii") as file:
                found.update(int(word) for word in file.read().split())
    except OSError:
        return {pid for pid in _pids() if _parent_of(pid) == parent}
    return found


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _parent_of(pid: int) -> int | None:
    words = _stat(pid)
    return None if words is None else int(words[1])


def _is_zombie(pid: int) -> bool:
    words = _stat(pid)
    return words is not None and words[0] in ("Z", "X")


def _stat(pid: int) -> list[str] | None:
    """Return the words of /proc/pid/stat after the command's name, which may hold anything."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            return file.read().rpartition(b")")[2].decode("ascii").split()
    except OSError:
        return None


def _has_environment(pid: int) -> bool:
    """Whether a process shows its environment; one that is in the midst of an exec shows none for a moment."""
    for _ in range(_LOOKS_AT_AN_EXEC):
        if _environ(pid) or _is_zombie(pid):
            return True
        time.sleep(_EXEC_SECONDS)
    return False


def _token_of(pid: int, name: str) -> str | None:
    prefix = name.encode() + b"="
    for entry in _environ(pid).split(b"\0"):
        if entry.startswith(prefix):
            return entry[len(prefix) :].decode("utf-8", "surrogateescape")
    return None


def _environ(pid: int) -> bytes:
    """Return the environment a process was started with; empty where it is gone, or none of ours."""
    try:
        with open(f"/proc/{pid}/environ", "rb", buffering=0) as file:
            return file.readall()
    except OSError:
        return b""


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def _get_subreaper() -> bool:
    value = ctypes.c_int(0)
    ctypes.CDLL(None).prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(value), 0, 0, 0)
    return bool(value.value)


def _start_error(launch: Launch, error: OSError) -> Exception:
    program = launch.argv[0]
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR if not os.path.isdir(launch.cwd):
            return StartError(f"the directory {launch.cwd} does not exist", 126)
        case errno.ENOENT | errno.ENOTDIR:
            return StartError(f"{program} does not exist", 127)
        case errno.EACCES | errno.ENOEXEC | errno.EISDIR:
            return StartError(f"{program} cannot be executed: {error.strerror}", 126)
        case errno.E2BIG:
            return StartError("its environment and arguments are too large for the system", 126)
        case _:
            return InfrastructureError(f"cannot start {program}: {error.strerror}")
