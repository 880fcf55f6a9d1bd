"""What a worker does when, free of I/O and clocks.

What holds after every event:
1. a result is kept until the daemon has acknowledged it, and is said again after every reconnection;
2. nothing is said to a daemon that was silent for longer than `silence_seconds` before it has taken the worker in anew:
   who was asleep or cut off does not know what became of its leases, the daemon tells by `keep`;
3. an attempt that the daemon does not want any more is stopped, and its result forgotten;
4. a worker that nobody serves, that has nothing to do, whose time is up or that was told to, goes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from dfm.core.wire.messages import (
    Ack,
    Beat,
    CancelAttempt,
    Drain,
    Environment,
    Exit,
    FromWorker,
    Hello,
    Leaving,
    Result,
    Run,
    Started,
    ToWorker,
    Vacating,
    Welcome,
)

FIRST_LOST_SECONDS = 120.0
"""How long a worker that was never welcomed looks for its daemon."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What does not change in a worker's life; the rest of its hello does."""

    slot: str
    incarnation: str
    host: str
    pid: int
    version: str
    slots: int
    cores: int
    job_id: str = ""
    restarts: int = 0
    unfit: str = ""
    ends_at: float | None = None


@dataclass(frozen=True, slots=True)
class Connected:
    """There is a link to a daemon, proved in both directions."""


@dataclass(frozen=True, slots=True)
class Unreachable:
    """No address led to a daemon."""

    why: str


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The link broke."""

    why: str


@dataclass(frozen=True, slots=True)
class Heard:
    """The daemon said something."""

    message: ToWorker


@dataclass(frozen=True, slots=True)
class BodyStarted:
    """The body of an attempt runs."""

    attempt: int


@dataclass(frozen=True, slots=True)
class BodyEnded:
    """An attempt has ended, and nothing of it is left running."""

    result: Result


@dataclass(frozen=True, slots=True)
class Told:
    """The batch system, or a person, wants the worker to go: `preempted`, `walltime` or `signal`."""

    reason: str


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


SessionEvent = Connected | Unreachable | Disconnected | Heard | BodyStarted | BodyEnded | Told | Tick


@dataclass(frozen=True, slots=True)
class Say:
    """Tell the daemon."""

    message: FromWorker


@dataclass(frozen=True, slots=True)
class Start:
    """Start the body of an attempt in the environment of its digest."""

    run: Run
    variables: Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True)
class StopBody:
    """Stop the body of an attempt; a BodyEnded follows."""

    attempt: int
    is_urgent: bool


@dataclass(frozen=True, slots=True)
class Connect:
    """Look for the daemon, after so many seconds; hang up what there is."""

    after_seconds: float


@dataclass(frozen=True, slots=True)
class Leave:
    """Stop everything and end."""

    reason: str


SessionAction = Say | Start | StopBody | Connect | Leave


@dataclass(slots=True)
class Session:
    """One life of a worker.

    Attributes:
        jitter: a number from 0 to 1 for each wait, so that a thousand workers do not come back at once.
    """

    identity: Identity
    now: float
    jitter: "Jitter"
    _welcome: Welcome | None = None
    _is_linked: bool = False
    _is_in: bool = False
    _heard_at: float = 0.0
    _served_at: float = 0.0
    _said_at: float = 0.0
    _busy_at: float = 0.0
    _tries: int = 0
    _is_draining: bool = False
    _is_gone: bool = False
    _running: dict[int, bool] = field(default_factory=dict)
    _unwanted: set[int] = field(default_factory=set)
    _finished: dict[int, Result] = field(default_factory=dict)
    _environments: dict[str, Mapping[bytes, bytes]] = field(default_factory=dict)
    _actions: list[SessionAction] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._heard_at = self._served_at = self._busy_at = self.now

    def begin(self) -> list[SessionAction]:
        """Return what is to be done first."""
        return [Connect(0.0)]

    def handle(self, event: SessionEvent, now: float) -> list[SessionAction]:
        """Take in one event; return what must be done, in order. After a Leave nothing more is asked for."""
        if self._is_gone:
            return []
        self.now = now
        match event:
            case Heard(message):
                self._heard(message)
            case BodyEnded(result):
                self._body_ended(result)
            case BodyStarted(attempt):
                self._say(Started(attempt=attempt))
            case Tick():
                self._tick()
            case Connected():
                self._connected()
            case Disconnected(why) | Unreachable(why):
                self._disconnected(why)
            case Told(reason):
                self._told(reason)
        actions, self._actions = self._actions, []
        return actions

    @property
    def running(self) -> frozenset[int]:
        """The attempts whose bodies run."""
        return frozenset(self._running)

    # The link.

    def _connected(self) -> None:
        self._is_linked, self._is_in, self._heard_at = True, False, self.now
        who = self.identity
        self._act(
            Say(
                Hello(
                    slot=who.slot,
                    incarnation=who.incarnation,
                    host=who.host,
                    pid=who.pid,
                    version=who.version,
                    slots=who.slots,
                    cores=who.cores,
                    lives_seconds=None if who.ends_at is None else max(0.0, who.ends_at - self.now),
                    job_id=who.job_id,
                    restarts=who.restarts,
                    running=[attempt for attempt in self._running if attempt not in self._unwanted],
                    finished=list(self._finished),
                    unfit=who.unfit,
                )
            )
        )

    def _disconnected(self, why: str) -> None:
        self._is_linked = self._is_in = False
        if self.identity.unfit and self._tries == 0 and self._welcome is None and not why:
            self._leave(f"unfit: {self.identity.unfit}")
            return
        self._tries += 1
        longest = min(30.0, 0.5 * 2.0 ** min(self._tries, 10)) * self._scale
        self._act(Connect(longest * self.jitter.next()))

    def _heard(self, message: ToWorker) -> None:
        if self._is_stale:
            self._reconnect()
            return
        self._heard_at = self._served_at = self.now
        match message:
            case Run():
                self._run(message)
            case Ack(attempt=attempt):
                self._finished.pop(attempt, None)
                self._settle()
            case Environment(digest=digest, variables=variables):
                self._environments[digest] = variables
            case Beat():
                pass
            case CancelAttempt(attempt=attempt, is_urgent=is_urgent):
                self._cancel(attempt, is_urgent=is_urgent)
            case Welcome():
                self._welcomed(message)
            case Drain():
                self._is_draining = True
                self._settle()
            case Exit(why=why):
                self._leave(why)

    def _welcomed(self, message: Welcome) -> None:
        self._welcome, self._is_in, self._tries = message, True, 0
        self._busy_at = self.now
        for attempt in list(self._running):
            if attempt not in message.keep:
                self._cancel(attempt, is_urgent=True)
        for result in self._finished.values():
            self._say(result)

    @property
    def _is_stale(self) -> bool:
        """Whether the daemon may have given this worker up: then it must take it in anew before anything counts."""
        return self._is_in and self.now - self._heard_at > self._silence

    @property
    def _silence(self) -> float:
        return 15.0 if self._welcome is None else self._welcome.silence_seconds

    @property
    def _scale(self) -> float:
        """How much shorter times are than usual, as the daemon's heartbeat tells; 1 before it has told."""
        return 1.0 if self._welcome is None else min(1.0, self._welcome.heartbeat_seconds / 5.0)

    def _reconnect(self) -> None:
        self._is_linked = self._is_in = False
        self._act(Connect(0.0))

    def _say(self, message: FromWorker) -> None:
        if not self._is_in:
            return
        if self._is_stale:
            self._reconnect()
            return
        self._said_at = self.now
        self._act(Say(message))

    # Attempts.

    def _run(self, message: Run) -> None:
        if message.attempt in self._running or message.attempt in self._finished:
            return
        self._running[message.attempt] = True
        variables = self._environments.get(message.environment, {})
        self._act(Start(message, variables))

    def _cancel(self, attempt: int, *, is_urgent: bool) -> None:
        if attempt in self._running:
            self._unwanted.add(attempt)
            self._act(StopBody(attempt, is_urgent))
        elif attempt in self._finished:
            self._say(self._finished[attempt])
        else:
            self._say(Result(attempt=attempt, outcome="cancelled", body=b""))

    def _body_ended(self, result: Result) -> None:
        self._running.pop(result.attempt, None)
        self._unwanted.discard(result.attempt)
        self._busy_at = self.now
        self._finished[result.attempt] = result
        self._say(result)
        self._settle()

    # Going.

    def _tick(self) -> None:
        if self._is_linked and self.now - self._heard_at > self._silence:
            self._reconnect()
        lost = FIRST_LOST_SECONDS if self._welcome is None else self._welcome.lost_seconds
        if not self._is_in and self.now - self._served_at > lost:
            self._leave(f"no daemon served this worker for {lost:g} s")
            return
        if self._welcome is None or not self._is_in:
            return
        if self.now - self._said_at >= self._welcome.heartbeat_seconds:
            self._say(Beat())
        if self._running or self._finished:
            self._busy_at = self.now
        elif self.now - self._busy_at > self._welcome.idle_seconds:
            self._leave(f"idle for {self._welcome.idle_seconds:g} s")

    def _told(self, reason: str) -> None:
        """Give up what runs: the daemon is told which attempts that costs, and why."""
        self._say(Vacating(reason=reason, dropped=list(self._running)))
        self._leave(f"told to go ({reason})")

    def _settle(self) -> None:
        if self._is_draining and not self._running and not self._finished:
            self._leave("drained")

    def _leave(self, reason: str) -> None:
        self._say(Leaving(reason=reason))
        self._is_gone = True
        self._act(Leave(reason))

    def _act(self, action: SessionAction) -> None:
        self._actions.append(action)


class Jitter:
    """Numbers from 0 to 1 that differ from worker to worker, and are the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self._state = seed & 0xFFFFFFFF or 1

    def next(self) -> float:
        """Return the next one (a linear congruential generator; nothing secret hangs on it)."""
        self._state = (1664525 * self._state + 1013904223) & 0xFFFFFFFF
        return self._state / 0x100000000
