"""The journal entries of the reactor: how each is written, and what it means when it is read again.

Owns the kinds `client`, `close`, `submit`, `cancel`, `dispatch`, `lost`, `grow`, `refund`, `commit`, `forget` and
`stopped`, and their fields. A snapshot says all that the journal before it said of what is not forgotten. A task of a
client that was closed is forgotten when it is with no worker any more.
"""

from collections.abc import Iterable, Iterator

import msgspec

from dfm.core.pool.events import Deliver, JournalEntry, Loss, LossKind, TaskSubmitted
from dfm.core.pool.state import Client, State, Task, Worker
from dfm.core.wire.messages import Shape


class Lease(msgspec.Struct, frozen=True):
    """The worker that an attempt was sent to in an earlier epoch."""

    slot: str
    incarnation: str
    host: str


class Replayed(msgspec.Struct, frozen=True):
    """What earlier epochs have left, beside the clients and their tasks.

    Attributes:
        leases: by the number of an attempt.
        orphans: tasks of closed clients whose attempts are not known to have ended, by client and ticket.
    """

    leases: dict[int, Lease] = {}
    orphans: dict[tuple[str, int], Task] = {}


def opened(client: Client) -> JournalEntry:
    """Return the entry of a client that is new."""
    share = client.share
    return _entry("client", client=share.client, weight=share.weight, rundir=client.rundir)


def closed(client: str) -> JournalEntry:
    """Return the entry of a client that nobody expects any more: its tasks that are with no worker are forgotten."""
    return _entry("close", client=client)


def submitted(task: Task) -> JournalEntry:
    """Return the entry of a task that is taken in."""
    more: dict[str, object] = {}
    if task.larger or task.outgrown:
        more = {"larger": msgspec.to_builtins(task.larger), "outgrown": list(task.outgrown)}
    if task.overruns or task.host_failures:
        more |= {"overruns": task.overruns, "host_failures": task.host_failures}
    return _entry(
        "submit",
        client=task.share.client,
        ticket=task.ticket,
        task=task.name,
        shape=task.pool.encoded,
        spec=task.spec,
        environment=task.environment,
        wall_seconds=task.wall_seconds,
        number=task.number,
        **more,
    )


def cancelled(task: Task) -> JournalEntry:
    """Return the entry of a task whose client does not want it any more."""
    return _entry("cancel", client=task.share.client, ticket=task.ticket)


def dispatched(task: Task, worker: Worker) -> JournalEntry:
    """Return the entry of an attempt that is on its way to a worker."""
    return _entry(
        "dispatch",
        client=task.share.client,
        ticket=task.ticket,
        attempt=task.attempt,
        number=task.number,
        slot=worker.slot,
        incarnation=worker.incarnation,
        host=worker.host,
    )


def lost(task: Task, worker: Worker, loss: Loss, *, is_overrun: bool = False) -> JournalEntry:
    """Return the entry of an attempt that is lost; `is_overrun` where a worker's whole life was too short for it."""
    return _entry(
        "lost",
        client=task.share.client,
        ticket=task.ticket,
        attempt=task.attempt,
        kind=loss.kind.value,
        text=loss.text,
        host=worker.host,
        slot=worker.slot,
        is_overrun=is_overrun,
    )


def outgrown(task: Task, slot: str) -> JournalEntry:
    """Return the entry of a task that goes on in its next larger shape; it is still of the smaller one."""
    return _entry("grow", client=task.share.client, ticket=task.ticket, attempt=task.attempt, slot=slot)


def refunded(task: Task, host: str) -> JournalEntry:
    """Return the entry of a task whose losses on a host do not count any more."""
    return _entry("refund", client=task.share.client, ticket=task.ticket, host=host)


def committed(end: Deliver) -> JournalEntry:
    """Return the entry of a result that counts."""
    return _entry(
        "commit",
        client=end.client,
        ticket=end.ticket,
        outcome=end.outcome,
        cause=end.cause,
        body=end.body,
        attempts=end.attempts,
        is_out_of_memory=end.is_out_of_memory,
        resource_class=end.resource_class,
    )


def forgotten(client: str, ticket: int) -> JournalEntry:
    """Return the entry of a result that was received."""
    return _entry("forget", client=client, ticket=ticket)


def stopped(task: Task) -> JournalEntry:
    """Return the entry of a task of a closed client that is with no worker any more."""
    return _entry("stopped", client=task.share.client, ticket=task.ticket)


def _entry(kind: str, /, **fields: object) -> JournalEntry:
    return JournalEntry(kind=kind, fields=fields)


def snapshot(state: State) -> list[JournalEntry]:
    """Return entries that say all that the journal so far says of what is not forgotten."""
    entries = []
    for client in state.clients.values():
        entries.append(opened(client))
        for task in client.tasks.values():
            entries += _story(task)
    for task in state.orphans():
        entries += [opened(task.client), *_story(task), closed(task.share.client)]
    return entries


def _story(task: Task) -> Iterator[JournalEntry]:
    """Yield the entries that say where a task stands."""
    yield submitted(task)
    if task.is_refunded:
        yield refunded(task, "")
    for host, slot, text, kind in task.losses or ():
        loss = {"kind": kind.value, "text": text, "host": host, "slot": slot, "attempt": 0}
        yield _entry("lost", client=task.share.client, ticket=task.ticket, **loss)
    if task.is_unwanted and task.end is None and not task.is_orphan:
        yield cancelled(task)
    if task.worker is not None:
        yield dispatched(task, task.worker)
    if task.end is not None:
        yield committed(task.end)


def replay(state: State, entries: Iterable[JournalEntry], now: float) -> Replayed:
    """Take the entries of earlier epochs into an empty state; return what is with workers.

    Tasks are in no place yet: those with a current attempt had one of these leases, the others waited or have ended.
    Entries of other kinds are passed over.
    """
    found = Replayed()
    for entry in entries:
        _replay(state, entry, found, now)
    return found


def _replay(state: State, entry: JournalEntry, found: Replayed, now: float) -> None:
    fields = entry.fields
    match entry.kind:
        case "client":
            name = str(fields["client"])
            if name not in state.clients:
                state.enter_client(name, _number(fields["weight"]), str(fields.get("rundir", "")), is_here=False)
        case "close":
            _replay_closing(state, str(fields["client"]), found)
        case "stopped":
            found.orphans.pop((str(fields["client"]), int(_number(fields["ticket"]))), None)
        case _:
            client = state.clients.get(str(fields.get("client", "")))
            if client is not None:
                _replay_of_client(state, client, entry, found.leases, now)


def _replay_closing(state: State, name: str, found: Replayed) -> None:
    client = state.clients.pop(name, None)
    if client is None:
        return
    for task in client.tasks.values():
        if task.attempt and task.end is None:
            task.is_orphan = task.is_unwanted = True
            found.orphans[name, task.ticket] = task
    client.tasks.clear()


def _replay_of_client(state: State, client: Client, entry: JournalEntry, leases: dict[int, Lease], now: float) -> None:
    fields = entry.fields
    ticket = int(_number(fields["ticket"]))
    task = client.tasks.get(ticket)
    if task is None:
        if entry.kind == "submit":
            _replay_submission(state, client, ticket, fields, now)
        return
    match entry.kind:
        case "dispatch":
            task.attempt = int(_number(fields["attempt"]))
            task.number = int(_number(fields["number"]))
            leases[task.attempt] = Lease(str(fields["slot"]), str(fields["incarnation"]), str(fields["host"]))
        case "lost":
            task.attempt = 0
            kind = LossKind(str(fields["kind"]))
            task.count_loss(str(fields["host"]), str(fields["slot"]), Loss(kind, str(fields["text"])))
            task.host_failures += kind is LossKind.HOST
            task.overruns += bool(fields.get("is_overrun"))
        case "grow":
            task.attempt = 0
            state.enlarge(task, now)
        case "refund":
            task.refund(str(fields["host"]))
        case "cancel":
            task.is_unwanted = True
        case "commit":
            task.attempt = 0
            task.spec = b""
            task.end = _end_from(task, fields)
        case "forget":
            del client.tasks[ticket]
        case _:
            pass


def _replay_submission(state: State, client: Client, ticket: int, fields: dict[str, object], now: float) -> None:
    wall = fields["wall_seconds"]
    spec = fields["spec"]
    assert isinstance(spec, bytes)
    event = TaskSubmitted(
        client=client.share.client,
        ticket=ticket,
        task=str(fields["task"]),
        shape=msgspec.convert(fields["shape"], Shape),
        spec=spec,
        environment=str(fields["environment"]),
        wall_seconds=None if wall is None else _number(wall),
        larger=msgspec.convert(fields.get("larger", ()), tuple[Shape, ...]),
    )
    task = state.enter_task(client, event, now)
    task.number = int(_number(fields.get("number", 0)))
    task.outgrown = msgspec.convert(fields.get("outgrown", ()), tuple[str, ...])
    task.overruns = int(_number(fields.get("overruns", 0)))
    task.host_failures = int(_number(fields.get("host_failures", 0)))


def _end_from(task: Task, fields: dict[str, object]) -> Deliver:
    body = fields["body"]
    assert isinstance(body, bytes)
    return Deliver(
        client=task.share.client,
        ticket=task.ticket,
        outcome=str(fields["outcome"]),
        cause=str(fields["cause"]),
        body=body,
        attempts=int(_number(fields["attempts"])),
        is_out_of_memory=bool(fields["is_out_of_memory"]),
        resource_class=None if (name := fields.get("resource_class")) is None else str(name),
    )


def _number(value: object) -> float:
    assert isinstance(value, int | float)
    return value
