"""How many whole lives of a task the reactor decides on in a second of CPU, and what a waiting task costs in memory."""

import argparse
import time
import tracemalloc

from dfm.core.pool.events import (
    Assign,
    AttemptEnded,
    AttemptStarted,
    ClientOpened,
    ResultReceived,
    TaskSubmitted,
    WorkerArrived,
)
from dfm.core.pool.reactor import Reactor, ReactorSettings
from dfm.core.wire.messages import Shape

SHAPE = Shape(cores=1)


def cycles_per_second(tasks: int, workers: int) -> float:
    """Return how many times submitted, assigned, started, ended, received go into a second of CPU."""
    reactor = Reactor(ReactorSettings(), 1)
    reactor.handle(ClientOpened(client="c"), 0.0)
    for number in range(workers):
        reactor.handle(WorkerArrived(slot=f"s{number}", incarnation="i", host="h", slots=1, shape=SHAPE), 0.0)
    start = time.process_time()
    for ticket in range(tasks):
        actions = reactor.handle(TaskSubmitted(client="c", ticket=ticket, task="t", shape=SHAPE, spec=b""), 1.0)
        sent = next(action for action in actions if isinstance(action, Assign))
        reactor.handle(AttemptStarted(slot=sent.slot, incarnation="i", attempt=sent.attempt), 1.0)
        ended = AttemptEnded(slot=sent.slot, incarnation="i", attempt=sent.attempt, outcome="succeeded", body=b"")
        reactor.handle(ended, 1.0)
        reactor.handle(ResultReceived("c", ticket), 1.0)
    return tasks / (time.process_time() - start)


def bytes_per_waiting_task(tasks: int) -> float:
    """Return what a task takes that waits, its payload aside."""
    reactor = Reactor(ReactorSettings(), 1)
    tracemalloc.start()
    for ticket in range(tasks):
        reactor.handle(TaskSubmitted(client="c", ticket=ticket, task="t", shape=SHAPE, spec=b""), 1.0)
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return used / tasks


def main() -> None:
    """Print both figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=50_000)
    parser.add_argument("--workers", type=int, default=200)
    chosen = parser.parse_args()
    print(f"{cycles_per_second(chosen.tasks, chosen.workers):,.0f} cycles in a second of CPU, {chosen.workers} workers")
    print(f"{bytes_per_waiting_task(chosen.tasks):,.0f} bytes for a waiting task")


if __name__ == "__main__":
    main()
