"""What a worker does about what it hears, sees and waits for; free of I/O and clocks.

Rules that hold after every event:
1. a result is said only while the lease holds, and is held until it is acknowledged;
2. an attempt that is not wanted any more is stopped, and its result is never said as one;
3. the lease holds for `silence_seconds` after the daemon was last heard, or its host last told that nobody listens: the
   daemon that is certainly dead gives our attempts to nobody, the one that cannot be reached may. When it lapses the
   attempts are stopped, so that they have ended before the daemon starts them elsewhere;
4. who was frozen asks before it goes on: it holds what it runs, starts nothing, connects anew, and lets those of its
   attempts go on that are still wanted;
5. a question of a body is said after every welcome until it is answered, and answered once.

Times are seconds on a clock that goes on while the machine or the process sleeps (CLOCK_BOOTTIME). Those that the
daemon has not said are multiplied by `Self.time_scale`.
"""

import enum
from collections.abc import Iterable, Mapping

import msgspec

from dfm.core.wire.environment import variables_of
from dfm.core.wire.messages import (
    Ack,
    Answered,
    Asked,
    Beat,
    CancelAttempt,
    Drain,
    Environment,
    Exit,
    Hello,
    Leaving,
    Message,
    Result,
    Run,
    Started,
    ToWorker,
    Vacating,
    Welcome,
)

UNSERVED_SECONDS = 120.0
"""Without a first welcome the worker leaves after this time."""
VACATE_SECONDS = 8.0
"""What was told to stop has ended after this time, or is left behind."""
_FIRST_MARGIN = 120.0
"""Until the first welcome says otherwise."""
_BACKOFF_SECONDS = (0.5, 30.0)
_FIRST_SILENCE = 15.0
"""Until the first welcome says otherwise."""


class End(enum.Enum):
    """How a worker's life ends."""

    ORDERLY = "orderly"
    SIGNAL = "signal"
    LOST = "lost"
    UNFIT = "unfit"


class Say(msgspec.Struct, frozen=True):
    """Send a message."""

    message: Message


class Start(msgspec.Struct, frozen=True):
    """Run an attempt; answer with `started`, then `ended`."""

    run: Run
    environment: Mapping[str, str] | None


class Stop(msgspec.Struct, frozen=True, kw_only=True):
    """Kill an attempt; answer with `ended`.

    Attributes:
        cause: why it has failed, where its result is wanted all the same.
    """

    attempt: int
    is_urgent: bool = False
    cause: str = ""


class Hold(msgspec.Struct, frozen=True):
    """Suspend every attempt, and begin none that was to be started, until `GoOn`."""


class GoOn(msgspec.Struct, frozen=True):
    """Let the attempts that were held and not stopped since go on."""


class HandOver(msgspec.Struct, frozen=True):
    """Give a body the answer to a question that `asked` told of."""

    answered: Answered


class Keep(msgspec.Struct, frozen=True):
    """Write a result down, so that the next life of the slot can say it."""

    result: Result


class Forget(msgspec.Struct, frozen=True):
    """Remove what was written down of an attempt."""

    attempt: int


class Connect(msgspec.Struct, frozen=True):
    """Try to reach the daemon after a time of at most so many seconds; answer with `connected` or `unreachable`."""

    within_seconds: float


class HangUp(msgspec.Struct, frozen=True):
    """Close the link; no `disconnected` is wanted for it."""

    reason: str


class Leave(msgspec.Struct, frozen=True):
    """Go: send what is still to be sent, kill what still runs, and end the process."""

    end: End
    reason: str


Effect = Say | Start | Stop | Hold | GoOn | HandOver | Keep | Forget | Connect | HangUp | Leave


class Self(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker knows of itself when it starts; `time_scale` is the factor on its own times, for tests."""

    slot: str
    incarnation: str
    host: str
    pid: int
    version: str
    slots: int = 1
    cores: int = 1
    lives_seconds: float | None = None
    job_id: str = ""
    restarts: int = 0
    unfit: str = ""
    time_scale: float = 1.0


class _Attempt(msgspec.Struct):
    wall_seconds: float | None
    started_at: float
    is_wanted: bool = True
    is_stopping: bool = False
    """Whether it was told to stop."""
    is_dying: bool = False
    """Whether it was told so urgently."""
    is_reported: bool = True
    """Whether the daemon wants to hear that it has ended."""
    questions: dict[int, Asked] = {}
    """What its body has asked and was not answered."""


class Session:
    """The life of a worker.

    Args:
        me: what to tell of ourselves.
        now: the present.
        held: results of an earlier life of this slot that nobody has acknowledged.
    """

    def __init__(self, me: Self, now: float, held: Iterable[Result] = ()) -> None:
        self._me = me
        self._born_at = now
        self._attempts: dict[int, _Attempt] = {}
        self._held: dict[int, Result] = {result.attempt: result for result in held}
        self._environments: dict[str, dict[str, str]] = {}
        self._terms: Welcome | None = None
        self._is_linked = False
        self._is_welcome = False
        self._is_in_doubt = False
        """Whether we were frozen, and have not learnt since what is still wanted."""
        self._heard_at = self._certain_at = self._seen_at = self._free_since = now
        self._said_at = now
        self._tries = 0
        self._going = ""
        """Why no more work is taken; empty while it is."""
        self._must_leave_at: float | None = None
        self._end = End.ORDERLY
        self._has_left = False
        self._ends_at = None if me.lives_seconds is None else now + me.lives_seconds
        self._scale = me.time_scale

    @property
    def running(self) -> list[int]:
        """The attempts that have not ended."""
        return sorted(self._attempts)

    @property
    def has_left(self) -> bool:
        """Whether `Leave` was said; nothing counts any more."""
        return self._has_left

    @property
    def beat_seconds(self) -> float:
        """How often `tick` should come."""
        return 1.0 if self._terms is None else max(0.02, min(1.0, self._terms.heartbeat_seconds / 4))

    @property
    def kill_grace_seconds(self) -> float | None:
        """Time between SIGTERM and SIGKILL, once the daemon has said it."""
        return None if self._terms is None else self._terms.kill_grace_seconds

    def begin(self) -> list[Effect]:
        """Return what is done first."""
        return [Connect(0.0)]

    def connected(self, now: float) -> list[Effect]:
        """The handshake has succeeded: introduce ourselves."""
        effects = self._look(now)
        if self._has_left:
            return effects
        self._is_linked, self._is_welcome = True, False
        self._tries = 0
        self._heard_at = now
        return [*effects, Say(self._hello(now))]

    def unreachable(self, now: float, *, is_refused: bool) -> list[Effect]:
        """No link could be opened; `is_refused` where the daemon's host said that nobody listens there."""
        if is_refused:
            if self._terms is not None and self._terms.is_passing and not self._has_left:
                return self._leave(End.LOST, "the run that it belonged to is gone")
            self._certain_at = now
        effects = self._look(now)
        return effects if self._has_left else [*effects, self._retry()]

    def disconnected(self, now: float) -> list[Effect]:
        """The link broke."""
        if self._has_left or not self._is_linked:
            return []
        self._is_linked = self._is_welcome = False
        effects = self._look(now)
        return effects if self.has_left else [*effects, self._retry()]

    def heard(self, messages: Iterable[ToWorker], now: float) -> list[Effect]:
        """The daemon spoke."""
        effects = self._look(now)
        if self._has_left or not self._is_linked:
            return effects
        self._heard_at = now
        if self._is_welcome:
            self._certain_at = now
        for message in messages:
            if not self._has_left:
                effects += self._take(message, now)
        return effects

    def started(self, attempt: int, now: float) -> list[Effect]:
        """The body of an attempt was started."""
        effects = self._look(now)
        return [*effects, *self._say(Started(attempt=attempt))]

    def asked(self, question: Asked, now: float) -> list[Effect]:
        """The body of an attempt asks the run something."""
        effects = self._look(now)
        attempt = self._attempts.get(question.attempt)
        if self._has_left or attempt is None or not attempt.is_wanted:
            return effects
        attempt.questions[question.number] = question
        return [*effects, *self._say(question)]

    def ended(self, result: Result, now: float) -> list[Effect]:
        """An attempt has ended, by itself or because it was stopped."""
        effects = self._look(now)
        attempt = self._attempts.pop(result.attempt, None)
        if not self._attempts:
            self._free_since = now
        if attempt is None or not attempt.is_reported:
            return [*effects, *self._go_on(now)]
        if not attempt.is_wanted:
            result = Result(attempt=result.attempt, outcome="lost", body=b"")
        self._held[result.attempt] = result
        return [*effects, Keep(result), *self._say(result), *self._go_on(now)]

    def signalled(self, reason: str, now: float) -> list[Effect]:
        """A signal told us to go: `signal`, `preempted`. The second time it is urgent."""
        if self._has_left:
            return []
        is_again = self._end is End.SIGNAL
        if self._ends_at is not None and self._ends_at - now <= 2 * self._margin:
            reason = "walltime"
        return self._vacate(reason, now, end=End.SIGNAL, is_urgent=is_again)

    def recycle(self, reason: str) -> None:
        """Take no more work, and leave when what runs has ended: this process has become too large."""
        self._going = self._going or reason

    def tick(self, now: float) -> list[Effect]:
        """Time has passed."""
        effects = self._look(now)
        if self._has_left:
            return effects
        effects += self._stop_overdue(now)
        effects += self._go_on(now)
        return effects if self.has_left else [*effects, *self._beat(now)]

    def _beat(self, now: float) -> list[Effect]:
        if self._terms is None or now - self._said_at < self._terms.heartbeat_seconds:
            return []
        self._said_at = now
        return self._say(Beat())

    def _take(self, message: ToWorker, now: float) -> list[Effect]:
        match message:
            case Welcome():
                return self._be_welcome(message, now)
            case Environment():
                self._environments[message.digest] = variables_of(message)
                return []
            case Run():
                return self._run(message, now)
            case Answered():
                return self._hand_over(message)
            case Ack():
                self._held.pop(message.attempt, None)
                return [Forget(message.attempt), *self._go_on(now)]
            case CancelAttempt():
                return self._cancel(message)
            case Drain():
                self._going = self._going or "drained"
                return self._go_on(now)
            case Exit():
                return self._leave(End.ORDERLY, message.why)
            case Beat():
                return []

    def _be_welcome(self, welcome: Welcome, now: float) -> list[Effect]:
        if self._terms is not None and welcome.epoch < self._terms.epoch:
            return [HangUp("a daemon of an earlier life answers"), *self._lose_link()]
        if self._terms is None:
            self._free_since = now
        self._terms = welcome
        self._is_welcome = True
        self._certain_at = self._said_at = now
        if self._me.unfit:
            return self._leave(End.UNFIT, f"unfit: {self._me.unfit}")
        effects: list[Effect] = []
        for number in set(self._attempts) - set(welcome.keep):
            effects += self._stop(number, is_urgent=True, is_reported=False)
        if self._is_in_doubt:
            self._is_in_doubt = False
            effects.append(GoOn())
        effects += [Say(self._held[number]) for number in sorted(self._held)]
        for attempt in self._attempts.values():
            effects += [Say(question) for question in attempt.questions.values() if attempt.is_wanted]
        return [*effects, *self._go_on(now)]

    def _run(self, run: Run, now: float) -> list[Effect]:
        if run.attempt in self._attempts:
            return []
        if run.attempt in self._held:
            return self._say(self._held[run.attempt])
        if self._going or not self._is_welcome:
            return self._say(Vacating(reason=self._going or "unready", dropped=[run.attempt]))
        if not self._fits(run.wall_seconds, now):
            self._going = "walltime"
            left = self._left(now)
            return [
                *self._say(Vacating(reason="walltime", left_seconds=left, dropped=[run.attempt])),
                *self._go_on(now),
            ]
        self._attempts[run.attempt] = _Attempt(run.wall_seconds, now)
        return [Start(run, self._environments.get(run.environment) if run.environment else {})]

    def _hand_over(self, answered: Answered) -> list[Effect]:
        attempt = self._attempts.get(answered.attempt)
        if attempt is None or attempt.questions.pop(answered.number, None) is None:
            return []
        return [HandOver(answered)]

    @property
    def _margin(self) -> float:
        """The time before the limit of the job that no work reaches into."""
        margin = self._scale * _FIRST_MARGIN if self._terms is None else self._terms.margin_seconds
        return min(margin, (self._me.lives_seconds or 0.0) / 4)

    def _fits(self, wall_seconds: float | None, now: float) -> bool:
        return self._ends_at is None or now + (wall_seconds or 0.0) < self._ends_at - self._margin

    def _left(self, now: float) -> float:
        return 0.0 if self._ends_at is None else max(0.0, self._ends_at - now)

    def _cancel(self, message: CancelAttempt) -> list[Effect]:
        if message.attempt in self._held:
            del self._held[message.attempt]
            return [Forget(message.attempt)]
        return self._stop(message.attempt, is_urgent=message.is_urgent, is_reported=True)

    def _stop(self, number: int, *, is_urgent: bool, is_reported: bool) -> list[Effect]:
        """Stop an attempt whose result is not wanted."""
        attempt = self._attempts.get(number)
        if attempt is None:
            return []
        attempt.is_wanted = False
        attempt.is_reported = attempt.is_reported and is_reported
        if attempt.is_dying or (attempt.is_stopping and not is_urgent):
            return []
        attempt.is_stopping, attempt.is_dying = True, is_urgent
        return [Stop(attempt=number, is_urgent=is_urgent)]

    def _stop_overdue(self, now: float) -> list[Effect]:
        effects: list[Effect] = []
        for number, attempt in self._attempts.items():
            limit = attempt.wall_seconds
            if limit is not None and now - attempt.started_at >= limit and not attempt.is_stopping:
                attempt.is_stopping = True
                effects.append(Stop(attempt=number, cause=f"walltime of {limit:g} s exceeded"))
        return effects

    def _look(self, now: float) -> list[Effect]:
        """See whether we were frozen, and whether the lease still holds, before anything is said or believed."""
        if self._has_left:
            return []
        silence = self._silence
        gap, self._seen_at = now - self._seen_at, now
        if gap > silence and self._terms is not None:
            return self._thaw(now, gap)
        effects: list[Effect] = []
        if self._is_linked and now - self._heard_at > silence:
            effects += [HangUp("the daemon is silent"), *self._lose_link()]
        if self._terms is not None and now - self._certain_at > silence:
            for number in list(self._attempts):
                effects += self._stop(number, is_urgent=True, is_reported=False)
        return effects

    def _thaw(self, now: float, frozen_seconds: float) -> list[Effect]:
        """Doubt everything after a time in which we did not live; it is no part of any attempt's own time."""
        self._certain_at = now - self._silence * 2 / 3
        self._heard_at = now
        effects: list[Effect] = []
        for attempt in self._attempts.values():
            attempt.started_at += frozen_seconds
        if self._attempts and not self._is_in_doubt:
            self._is_in_doubt = True
            effects.append(Hold())
        if self._is_linked:
            effects += [HangUp("we were frozen"), *self._lose_link()]
        return effects

    @property
    def _silence(self) -> float:
        return self._scale * _FIRST_SILENCE if self._terms is None else self._terms.silence_seconds

    def _lose_link(self) -> list[Effect]:
        self._is_linked = self._is_welcome = False
        return [self._retry()]

    def _retry(self) -> Connect:
        """Wait longer each time; with attempts that wait for the answer never longer than the lease allows."""
        least, most = (self._scale * seconds for seconds in _BACKOFF_SECONDS)
        if self._terms is not None:
            least = min(least, self._silence / 10)
            most = min(most, self._silence / 4) if self._attempts else min(most, self._silence * 2)
        within = min(most, least * 2**self._tries)
        self._tries = min(self._tries + 1, 16)
        return Connect(within)

    def _go_on(self, now: float) -> list[Effect]:
        """Leave where there is a reason to, now that nothing is in the way."""
        if self._has_left:
            return []
        if self._must_leave_at is not None:
            is_over = not self._attempts or now >= self._must_leave_at
            return self._leave(self._end, self._going) if is_over else []
        if not self._is_linked and now - max(self._born_at, self._heard_at) > self._lost_seconds:
            return self._leave(End.LOST, "the daemon is lost" if self._terms else "no daemon took us in")
        if self._ends_at is not None and now >= self._ends_at - self._margin / 4 and self._attempts:
            return self._vacate("walltime", now, end=End.ORDERLY, is_urgent=False)
        if self._attempts or self._held:
            return self._announce_end(now)
        return self._leave_free(now)

    def _leave_free(self, now: float) -> list[Effect]:
        if self._going:
            return self._leave(End.ORDERLY, self._going)
        if self._ends_at is not None and now >= self._ends_at - self._margin:
            return self._leave(End.ORDERLY, "walltime")
        if self._terms is not None and self._is_welcome and now - self._free_since >= self._terms.idle_seconds:
            return self._leave(End.ORDERLY, "idle")
        if self._terms is None and now - self._born_at > self._scale * UNSERVED_SECONDS:
            return self._leave(End.LOST, "no daemon took us in")
        return []

    def _announce_end(self, now: float) -> list[Effect]:
        if self._going or self._ends_at is None or now < self._ends_at - self._margin:
            return []
        self._going = "walltime"
        return self._say(Vacating(reason="walltime", left_seconds=self._left(now)))

    @property
    def _lost_seconds(self) -> float:
        return self._scale * UNSERVED_SECONDS if self._terms is None else self._terms.lost_seconds

    def _vacate(self, reason: str, now: float, *, end: End, is_urgent: bool) -> list[Effect]:
        dropped = self.running
        self._going, self._end = reason, end
        if self._must_leave_at is None:
            self._must_leave_at = now + self._scale * VACATE_SECONDS
        effects = self._say(Vacating(reason=reason, left_seconds=self._left(now), dropped=dropped))
        for number in dropped:
            effects += self._stop(number, is_urgent=is_urgent, is_reported=False)
        return [*effects, *self._go_on(now)]

    def _leave(self, end: End, reason: str) -> list[Effect]:
        farewell = self._say(Leaving(reason=reason))
        self._has_left = True
        return [*farewell, Leave(end, reason)]

    def _say(self, message: Message) -> list[Effect]:
        """Say something that only a welcome worker may say; held results follow the next welcome."""
        return [Say(message)] if self._is_welcome else []

    def _hello(self, now: float) -> Hello:
        me = self._me
        return Hello(
            slot=me.slot,
            incarnation=me.incarnation,
            host=me.host,
            pid=me.pid,
            version=me.version,
            slots=me.slots,
            cores=me.cores,
            lives_seconds=None if self._ends_at is None else self._left(now),
            job_id=me.job_id,
            restarts=me.restarts,
            running=[number for number, attempt in sorted(self._attempts.items()) if attempt.is_wanted],
            finished=sorted(self._held),
            unfit=me.unfit,
        )
