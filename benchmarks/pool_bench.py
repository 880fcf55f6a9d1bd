"""The pool with real TCP, authentication and journal, and workers that are coroutines of this process.

Prints one JSON object. `connect`: from the first of the workers, who all come at once, to the welcome of the last;
`dispatch`: tasks dispatched and committed a second with many workers; `latency`: from the submission of one task to an
idle pool to the word that its body has started; `peak`: memory of the process: of pool, client and workers together.
"""

import argparse
import asyncio
import contextlib
import json
import os
import resource
import secrets
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from dfm.api.batch import (
    CancelAnswer,
    CancelState,
    Command,
    CommandOutput,
    JobKey,
    JobState,
    JobStatus,
    Listed,
    WorkerJob,
)
from dfm.core.config.settings import PoolSettings
from dfm.core.pool.host import PoolPlan, hosted
from dfm.core.pool.link import open_message
from dfm.core.pool.processes import ProcessDialect
from dfm.core.wire.access import private_directory, read_access
from dfm.core.wire.channel import Channel, ConnectError, connect, own_identity
from dfm.core.wire.exchange import decode_to_worker
from dfm.core.wire.messages import (
    Beat,
    Done,
    FromClient,
    Hello,
    Message,
    Received,
    Result,
    Run,
    Shape,
    Started,
    Submit,
    TaskState,
    ToClient,
    Welcome,
)

SPEC = secrets.token_bytes(600)
"""About as long as the request of a shell task."""
BODY = secrets.token_bytes(200)
_NO_PROCESS = 1_000_000_000
"""No process has such an id."""


@dataclass(slots=True)
class Slots:
    """A dialect whose jobs are names, since their workers are ours; it tells the slots that were asked for."""

    asked: "asyncio.Queue[str]" = field(default_factory=asyncio.Queue)
    local: ProcessDialect = field(default_factory=lambda: ProcessDialect(max_cores=1_000_000))
    name: str = "bench"

    def __getattr__(self, name: str) -> object:
        return getattr(self.local, name)

    def submit(self, job: WorkerJob) -> Command:
        """Start nothing that stays."""
        self.asked.put_nowait(job.slot)
        return Command(argv=("/bin/echo", str(_NO_PROCESS + self.asked.qsize())))

    def query(self, prefix: str, jobs: Sequence[JobKey]) -> Sequence[Command]:  # noqa: ARG002  (the contract)
        """Ask nobody."""
        return [Command(argv=("/bin/true",), asked=tuple(jobs))]

    def parse_query(self, command: Command, output: CommandOutput) -> Listed:  # noqa: ARG002  (the contract)
        """Say that all of them run."""
        jobs = [JobStatus(id=job.id or "", name=job.name, state=JobState.RUNNING) for job in command.asked]
        return Listed(jobs=tuple(jobs))

    def cancel(self, jobs: Sequence[JobKey]) -> Sequence[Command]:
        """End nobody."""
        return [Command(argv=("/bin/true",), asked=tuple(jobs))]

    def parse_cancel(self, command: Command, output: CommandOutput) -> CancelAnswer:  # noqa: ARG002  (the contract)
        """Say that all of them are gone."""
        return CancelAnswer(states={job.id: CancelState.GONE for job in command.asked if job.id is not None})


class Worker:
    """Ends every attempt at once."""

    decoder = staticmethod(decode_to_worker)

    def __init__(self) -> None:
        self.channel: Channel | None = None
        self.is_welcome = asyncio.Event()

    def on_messages(self, messages: list[Message]) -> None:
        """Answer each attempt."""
        assert self.channel is not None
        for message in messages:
            match message:
                case Run(attempt=attempt):
                    self.channel.send(Started(attempt=attempt), Result(attempt=attempt, outcome="succeeded", body=BODY))
                case Beat():
                    self.channel.send(Beat())
                case Welcome():
                    self.is_welcome.set()
                case _:
                    pass

    def on_closed(self, reason: str) -> None:
        """The pool has closed."""


class Client:
    """A run that lives in this process."""

    def __init__(self) -> None:
        self.done = 0
        self.started: dict[int, float] = {}
        self.tickets: asyncio.Queue[int] = asyncio.Queue()
        self.say = lambda _message: None

    def hear(self, message: ToClient) -> None:
        """Count what has ended."""
        match message:
            case TaskState(ticket=ticket, state="running"):
                self.started.setdefault(ticket, time.perf_counter())
            case Done(ticket=ticket):
                self.done += 1
                self.say(Received(ticket=ticket))
                self.tickets.put_nowait(ticket)
            case _:
                pass


async def measure(tasks: int, workers: int, probes: int, directory: Path) -> dict[str, float]:
    """Return all figures."""
    dialect = Slots()
    plan = PoolPlan(
        dialect=cast("ProcessDialect", dialect),
        settings=PoolSettings(
            max_workers=workers,
            min_workers=workers,
            launch_batch_size=workers,
            max_submits_per_minute=100_000,
            start_timeout=600.0,
        ),
        project=str(directory),
        instance="benchone",
        epoch=1,
        state_directory=private_directory(str(directory / "state")),
        access_path=os.path.join(private_directory(str(directory / "access")), "access.json"),
        log_directory=str(directory / "logs"),
        default_shape=Shape(cores=1),
        environ=os.environ,
        notice=lambda _: None,
        is_on_this_host=True,
        is_passing=True,
    )
    async with hosted(plan) as engine:
        client = Client()
        engine.attach("bench", client.hear)

        def say(message: FromClient) -> None:
            engine.hear("bench", message)

        client.say = say
        say(open_message("bench", str(directory)))
        slots = [await dialect.asked.get() for _ in range(workers)]
        begun, spent = time.perf_counter(), time.process_time()
        channels = await asyncio.gather(*(_worker(slot, plan.access_path) for slot in slots))
        connected, spent = time.perf_counter() - begun, time.process_time() - spent
        rate = await _dispatch(client, tasks, 4 * workers)
        waits = await _latency(client, probes)
        for channel in channels:
            channel.close()
    return {
        "workers": workers,
        "tasks": tasks,
        "connect_seconds": connected,
        "connect_cpu_seconds": spent,
        "dispatch_per_second": rate[0],
        "dispatch_per_cpu_second": rate[1],
        "latency_p50_ms": waits[len(waits) // 2] * 1000,
        "latency_p99_ms": waits[int(len(waits) * 0.99)] * 1000,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


async def _worker(slot: str, access_path: str) -> Channel:
    peer = Worker()
    access = read_access(access_path)
    channel = None
    while channel is None:
        with contextlib.suppress(ConnectError):  # as a worker, it comes again
            channel = peer.channel = await connect(access, slot, peer, own_identity("bench"))
    channel.send(
        Hello(slot=slot, incarnation=secrets.token_hex(8), host="bench", pid=1, version="bench", slots=1, cores=1)
    )
    await peer.is_welcome.wait()
    return channel


async def _dispatch(client: Client, tasks: int, window: int) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    sent = min(window, tasks)
    for ticket in range(sent):
        client.say(_submission(ticket))
    while client.done < tasks:
        await client.tickets.get()
        if sent < tasks:
            client.say(_submission(sent))
            sent += 1
    return tasks / (time.perf_counter() - wall), tasks / (time.process_time() - cpu)


async def _latency(client: Client, probes: int) -> list[float]:
    waits = []
    for ticket in range(10_000_000, 10_000_000 + probes):
        begun = time.perf_counter()
        client.say(_submission(ticket))
        while await client.tickets.get() != ticket:
            pass
        waits.append(client.started.get(ticket, time.perf_counter()) - begun)
    return sorted(waits)


def _submission(ticket: int) -> Submit:
    return Submit(ticket=ticket, task=f"t{ticket}", shape=Shape(cores=1), spec=SPEC)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=200)
    parser.add_argument("--probes", type=int, default=300)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        print(json.dumps(asyncio.run(measure(chosen.tasks, chosen.workers, chosen.probes, Path(directory)))))


if __name__ == "__main__":
    main()
