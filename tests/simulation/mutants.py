"""Faults planted into the cores, as subclasses: each must be found by the simulation, or the simulation is blind."""

from collections import Counter
from collections.abc import Iterable, Mapping

from msgspec.structs import replace
from tests.simulation.daemon import Cores

from dfm.api.batch import FailureKind, Listed, QueryFailed, SubmitFailed
from dfm.core.config.settings import PoolSettings
from dfm.core.pool.deadlines import Key
from dfm.core.pool.events import (
    Acknowledge,
    Assign,
    AttemptEnded,
    ClientOpened,
    Deliver,
    JournalEntry,
    Loss,
    PassAnswer,
    PassQuestion,
    PoolAction,
    PoolEvent,
    QuestionAnswered,
    Record,
    TaskSubmitted,
    Welcomed,
    WorkerArrived,
    WorkerDisconnected,
    WorkerLost,
)
from dfm.core.pool.jobs import LedgerAction, LedgerEvent, QueryAnswered, SubmitAnswered, SubmitJob
from dfm.core.pool.ledger import Ledger
from dfm.core.pool.losses import Losses
from dfm.core.pool.membership import Membership
from dfm.core.pool.placing import Placing
from dfm.core.pool.reactor import Reactor, ReactorSettings
from dfm.core.pool.scaling import PoolView, ScaleAction, plan
from dfm.core.pool.standing import Demand
from dfm.core.pool.state import Task
from dfm.core.wire.messages import Shape


def altered(
    reactor: type[Reactor] = Reactor,
    *,
    placing: type[Placing] = Placing,
    losses: type[Losses] = Losses,
    membership: type[Membership] = Membership,
) -> type[Reactor]:
    """Return a reactor of which a part is another."""

    class Altered(reactor):  # type: ignore[misc,valid-type]
        def __init__(self, settings: ReactorSettings, epoch: int) -> None:
            super().__init__(settings, epoch)
            self._placing = placing(self._state, epoch)
            self._losses = losses(self._state, self._placing)
            self._membership = membership(self._state, self._placing, self._losses)

    return Altered


class NoAttemptCheck(Reactor):
    """Takes a result from whoever has it, as long as the ticket is known."""

    def _on_ended(self, event: AttemptEnded, now: float, actions: list[PoolAction]) -> None:
        client, ticket, _ = event.body.decode().split(":") if event.body else ("", "0", "")
        task = self._state.task_of(client, int(ticket))
        if task is not None and task.end is None and task.attempt != event.attempt:
            end = Deliver(client=client, ticket=int(ticket), outcome=event.outcome, body=event.body)
            actions += [Record(_commit(end)), Acknowledge(event.slot, event.attempt), end]
            return
        super()._on_ended(event, now, actions)


def _commit(end: Deliver) -> JournalEntry:
    return JournalEntry(
        kind="commit",
        fields={
            "client": end.client,
            "ticket": end.ticket,
            "outcome": end.outcome,
            "cause": "",
            "body": end.body,
            "attempts": 1,
            "is_out_of_memory": False,
        },
    )


class AnswersAnyAttempt(Reactor):
    """Hands an answer to the attempt it names, whether or not that is the task's current one."""

    def _on_answered(self, event: QuestionAnswered, now: float, actions: list[PoolAction]) -> None:
        task = self._state.task_of(event.client, event.ticket)
        if task is not None and task.worker is not None and task.attempt != event.attempt:
            slot = task.worker.slot
            actions.append(PassAnswer(slot=slot, attempt=event.attempt, number=event.number, answer=event.answer))
            return
        super()._on_answered(event, now, actions)


class AsksOnce(Reactor):
    """Does not ask a client again that has come back."""

    def _on_opened(self, event: ClientOpened, now: float, actions: list[PoolAction]) -> None:
        super()._on_opened(event, now, actions)
        actions[:] = [action for action in actions if not isinstance(action, PassQuestion)]


class KeepsLentSlots(Reactor):
    """Does not take the slot again when the answer comes."""

    def _on_answered(self, event: QuestionAnswered, now: float, actions: list[PoolAction]) -> None:
        worker = next((worker for worker in self._state.workers.values() if event.attempt in worker.attempts), None)
        lent = 0 if worker is None else worker.lent
        super()._on_answered(event, now, actions)
        if worker is not None:
            worker.lent = lent


class DrainingWorkersServe(Reactor):
    """Takes a worker that was asked to leave for one that will take what waits."""

    def demand(self, now: float) -> Mapping[Shape, Demand]:
        connected = Counter(worker.shape for worker in self.workers() if worker.is_connected)
        return {shape: replace(asked, workers=connected[shape]) for shape, asked in super().demand(now).items()}


def no_room_for_others(view: PoolView, settings: PoolSettings, now: float) -> list[ScaleAction]:
    """Count workers whose tasks all wait like any others: what they wait for finds the pool full."""
    return plan(replace(view, stuck=()), settings, now)


class ForgetsGrowth(Reactor):
    """After a restart a task is where it began, whatever memory it was found to need."""

    def restore(self, entries: Iterable[JournalEntry], now: float) -> None:
        super().restore([entry for entry in entries if entry.kind != "grow"], now)


class NeverGrows(Reactor):
    """A task that ran out of memory has failed."""

    def _on_ended(self, event: AttemptEnded, now: float, actions: list[PoolAction]) -> None:
        super()._on_ended(replace(event, is_out_of_memory=False), now, actions)


class NeverLearnsWhy(Losses):
    """What a worker gave back that was told to go is nobody's fault, even where its job was ended for memory."""

    def judge_given_back(self, slot: str, loss: Loss, now: float, actions: list[PoolAction]) -> None:
        pass


def acknowledge_first(actions: list[PoolAction]) -> list[PoolAction]:
    """Tell the worker before the commit is in the journal."""
    return sorted(actions, key=lambda action: not isinstance(action, Acknowledge))


def deliver_first(actions: list[PoolAction]) -> list[PoolAction]:
    """Tell the client before the commit is in the journal."""
    return sorted(actions, key=lambda action: not isinstance(action, Deliver))


def assign_first(actions: list[PoolAction]) -> list[PoolAction]:
    """Send an attempt out before it is in the journal."""
    return sorted(actions, key=lambda action: not isinstance(action, Assign))


def forget_losses(actions: list[PoolAction]) -> list[PoolAction]:
    """Leave lost attempts out of the journal."""
    return [action for action in actions if not (isinstance(action, Record) and action.entry.kind == "lost")]


class EndOfLinkIsNothing(Membership):
    """A worker whose link broke keeps its tasks for ever, whatever the scheduler says of its job."""

    def disconnect(self, event: WorkerDisconnected, now: float) -> None:
        super().disconnect(event, now)
        worker = self._workers.get(event.slot)
        if worker is not None and not worker.is_connected:
            worker.heard_at = float("inf")

    def end(self, event: WorkerLost, now: float, actions: list[PoolAction]) -> None:
        worker = self._workers.get(event.slot)
        if worker is None or worker.is_connected:
            super().end(event, now, actions)


class NoLeaseAfterRestart(Reactor):
    """What ran when the daemon died goes to another worker at once."""

    def restore(self, entries: Iterable[JournalEntry], now: float) -> None:
        super().restore([entry for entry in entries if entry.kind != "dispatch"], now)


class CountsLossesTwice(Losses):
    """One lost worker counts as two."""

    def account(self, task: Task) -> str:
        losses = task.losses
        if losses is not None and len(losses) == 1:
            task.losses = [*losses, *losses]
        return super().account(task)


class NeverCountsLosses(Losses):
    """A task that kills its workers goes on for ever."""

    def account(self, task: Task) -> str:
        task.losses = None
        return ""


class ForgetsOnDelivery(Reactor):
    """A result is forgotten when it was sent, not when it was received."""

    def handle(self, event: PoolEvent, now: float) -> list[PoolAction]:
        actions = super().handle(event, now)
        for action in actions:
            if isinstance(action, Deliver) and action.client in self._state.clients:
                self._state.clients[action.client].tasks.pop(action.ticket, None)
        return actions


class EachSubmissionIsNew(Reactor):
    """A ticket that is submitted again after a reconnection is another task."""

    def _on_submitted(self, event: TaskSubmitted, now: float, actions: list[PoolAction]) -> None:
        client = self._state.clients.get(event.client)
        if client is not None:
            client.tasks.pop(event.ticket, None)
        super()._on_submitted(event, now, actions)


class NewLifeInheritsTasks(Membership):
    """A second life of a slot is taken for the first one come back."""

    def arrive(self, event: WorkerArrived, now: float, actions: list[PoolAction]) -> None:
        worker = self._workers.get(event.slot)
        if worker is not None and worker.incarnation != event.incarnation:
            worker.incarnation = event.incarnation
            worker.is_connected = True
            worker.heard_at = now
            actions.append(Welcomed(slot=event.slot))
            return
        super().arrive(event, now, actions)


class DropsLostTasks(Placing):
    """A task that lost its worker is put nowhere."""

    def requeue(self, tasks: list[Task], now: float, actions: list[PoolAction]) -> None:
        pass


class WrongClient(Reactor):
    """Results go to the client that came first."""

    def handle(self, event: PoolEvent, now: float) -> list[PoolAction]:
        first = next(iter(self._state.clients), "")
        return [
            Deliver(client=first, ticket=action.ticket, outcome=action.outcome, cause=action.cause, body=action.body)
            if isinstance(action, Deliver) and first
            else action
            for action in super().handle(event, now)
        ]


class LosesStops(Reactor):
    """Says that an attempt shall be stopped only once; and takes no heed of the answer."""

    def _on_ended(self, event: AttemptEnded, now: float, actions: list[PoolAction]) -> None:
        worker = self._state.workers.get(event.slot)
        task = worker.attempts.get(event.attempt) if worker is not None else None
        if task is None or not task.is_unwanted:
            super()._on_ended(event, now, actions)


class WaitsForStopsForEver(Membership):
    """Does not mind that what was to stop goes on."""

    def look_at_stop(self, key: Key, now: float, actions: list[PoolAction]) -> None:
        pass


class ForgetsGoneClients(Reactor):
    """A client whose link broke is taken for closed."""

    def _on_client_gone(self, event: object, now: float) -> None:  # noqa: ARG002  (as its base)
        client = self._state.clients.get(event.client)  # type: ignore[attr-defined]
        if client is not None:
            client.tasks.clear()


class AbsenceIsDeath(Ledger):
    """A job that an answer does not list has ended."""

    def _on_query(self, event: QueryAnswered, now: float, actions: list[LedgerAction]) -> None:
        super()._on_query(event, now, actions)
        if isinstance(event.answer, Listed):
            for key in event.answer.missing:
                if key.name in self._jobs:
                    self._forget(self._jobs[key.name], None, "missing", actions)


class SuspendedForEver(Ledger):
    """A job that was suspended is taken for suspended until it is seen to go on."""

    def _is_long_unlisted(self, job: object, now: float) -> bool:  # noqa: ARG002  (as its base)
        return False


class FailedQueryIsEmpty(Ledger):
    """No answer is read as an answer that lists nothing."""

    def handle(self, event: LedgerEvent, now: float) -> list[LedgerAction]:
        if isinstance(event, QueryAnswered) and isinstance(event.answer, QueryFailed):
            actions: list[LedgerAction] = []
            self._polling.is_open = False
            for job in self._table.outstanding():
                self._forget(job, None, "missing", actions)
            return actions
        return super().handle(event, now)


class RetriesBlindly(Ledger):
    """A submission without an answer is made again, under another name, and the first one forgotten."""

    def handle(self, event: LedgerEvent, now: float) -> list[LedgerAction]:
        match event:
            case SubmitAnswered(answer=SubmitFailed(kind=FailureKind.AMBIGUOUS, text=text)):
                event = SubmitAnswered(name=event.name, answer=SubmitFailed(kind=FailureKind.TRANSIENT, text=text))
            case _:
                pass
        return super().handle(event, now)


class ForgetsIntents(Ledger):
    """After a restart, submissions without an answer are forgotten."""

    def restore(self, entries: Iterable[JournalEntry], now: float) -> list[LedgerAction]:
        kept = list(entries)
        named = {entry.fields["name"] for entry in kept if entry.kind == "job"}
        return super().restore(
            [entry for entry in kept if entry.kind != "job-intent" or entry.fields["name"] in named], now
        )


class SubmitsUnrecorded(Ledger):
    """The intent comes into the journal behind the submission."""

    def handle(self, event: LedgerEvent, now: float) -> list[LedgerAction]:
        return sorted(super().handle(event, now), key=lambda action: not isinstance(action, SubmitJob))


MUTANTS = {
    "no attempt check": Cores(reactor=NoAttemptCheck),
    "acknowledged before committed": Cores(arrange=acknowledge_first),
    "delivered before committed": Cores(arrange=deliver_first),
    "sent before journalled": Cores(arrange=assign_first),
    "losses not journalled": Cores(arrange=forget_losses),
    "end of link does not free the task": Cores(reactor=altered(membership=EndOfLinkIsNothing)),
    "no lease after a restart": Cores(reactor=NoLeaseAfterRestart),
    "losses counted twice": Cores(reactor=altered(losses=CountsLossesTwice)),
    "losses never counted": Cores(reactor=altered(losses=NeverCountsLosses)),
    "result forgotten when sent": Cores(reactor=ForgetsOnDelivery),
    "ticket taken in twice": Cores(reactor=EachSubmissionIsNew),
    "second life inherits tasks": Cores(reactor=altered(membership=NewLifeInheritsTasks)),
    "lost tasks dropped": Cores(reactor=altered(placing=DropsLostTasks)),
    "result to the wrong client": Cores(reactor=WrongClient),
    "stops forgotten": Cores(reactor=altered(LosesStops, membership=WaitsForStopsForEver)),
    "client gone is client closed": Cores(reactor=ForgetsGoneClients),
    "answers any attempt": Cores(reactor=AnswersAnyAttempt),
    "client that came back is not asked again": Cores(reactor=AsksOnce),
    "lent slots are not taken again": Cores(reactor=KeepsLentSlots),
    "draining workers are counted on": Cores(reactor=DrainingWorkersServe),
    "waiting workers fill the pool": Cores(plan=no_room_for_others),
    "growth is forgotten at a restart": Cores(reactor=ForgetsGrowth),
    "out of memory is the end": Cores(reactor=NeverGrows),
    "kills with a warning are never explained": Cores(reactor=altered(losses=NeverLearnsWhy)),
    "absence is death": Cores(ledger=AbsenceIsDeath),
    "suspended for ever": Cores(ledger=SuspendedForEver),
    "failed query is an empty list": Cores(ledger=FailedQueryIsEmpty),
    "ambiguous submission retried blindly": Cores(ledger=RetriesBlindly),
    "intents forgotten at a restart": Cores(ledger=ForgetsIntents),
    "submitted before journalled": Cores(ledger=SubmitsUnrecorded),
}
