"""One seed: a world, its faults for a while, then calm, and a look at what is left."""

import random
from dataclasses import dataclass, field

from tests.simulation.checker import Checker
from tests.simulation.client import Client
from tests.simulation.daemon import Cores, Daemon, Disk
from tests.simulation.scheduler import Job, Scheduler
from tests.simulation.settings import SMALL
from tests.simulation.worker import Worker
from tests.simulation.world import FAULTS, Link, ViolationError, World

from dfm.core.worker.session import Self

STORM_SECONDS = 300.0
CALM_SECONDS = 1500.0
QUIET_SECONDS = 900.0


@dataclass
class Outcome:
    """What came of a seed."""

    seed: int
    faults: frozenset[str]
    digest: str
    events: int
    violation: str = ""
    tail: list[str] = field(default_factory=list)


def swarm(seed: int) -> frozenset[str]:
    """A random part of the kinds of faults: with all at once, restarts hide what the others do."""
    chance = random.Random(seed ^ 0x5EED)
    share = chance.choice((0.1, 0.2, 0.4, 0.6))
    return frozenset(fault for fault in FAULTS if chance.random() < share)


def simulate(seed: int, cores: Cores | None = None, faults: frozenset[str] | None = None) -> Outcome:
    """Run one seed to its end; a violation is in the outcome, with the last lines of the log."""
    chosen = swarm(seed) if faults is None else faults
    world = World(seed, chosen)
    run = _Run(world, cores or Cores())
    violation = ""
    try:
        run.go()
    except (AssertionError, LookupError, RuntimeError, AttributeError) as error:
        violation = f"{type(error).__name__}: {error}"
    return Outcome(seed, chosen, world.digest, world.events, violation, world.tail[-60:])


class _Run:
    def __init__(self, world: World, cores: Cores) -> None:
        self.world, self.cores = world, cores
        self.disk, self.checker = Disk(), Checker(world)
        self.scheduler = Scheduler(world, self._make_worker)
        self.epoch = 0
        self.daemon: Daemon | None = None
        self.clients: list[Client] = []
        self._start_daemon()
        for number in range(world.random.choice((1, 1, 2, 3))):
            client = Client(world, f"c{number}", world.random.randint(3, 12))
            client.daemon = self.daemon
            self.clients.append(client)

    def connect_worker(self, slot: str) -> Link | None:
        return self.daemon.accept_worker(slot) if self.daemon is not None and self.daemon.is_alive else None

    def _make_worker(self, job: Job) -> Worker:
        world = self.world
        identity = Self(
            slot=job.slot,
            incarnation=f"{world.random.getrandbits(48):x}",
            host=job.host,
            pid=1,
            version="1",
            slots=job.slots,
            cores=1,
            job_id=job.id,
            restarts=job.restarts,
            lives_seconds=None if job.ends_at is None else max(0.0, job.ends_at - world.now),
        )
        is_bad = job.host == self.scheduler.bad_host
        return Worker(
            world,
            self,
            identity,
            is_bad=is_bad,
            is_small=job.shape == SMALL,
            on_end=lambda worker, status: self.scheduler.worker_ended(job, worker, status),
        )

    def _start_daemon(self) -> None:
        self.epoch += 1
        self.world.log(f"daemon {self.epoch} starts")
        self.daemon = Daemon(self.world, self.cores, self.disk, self.scheduler, self.checker, self.epoch)
        for client in self.clients:
            client.daemon = self.daemon

    def _disturb(self) -> None:
        daemon = self.daemon
        assert daemon is not None
        if daemon.is_alive:
            is_dark = self.world.strikes("power-loss", 0.04)
            if is_dark or self.world.strikes("daemon-crash", 0.06):
                self.world.log(f"daemon {self.epoch} dies")
                daemon.crash()
                if is_dark:
                    self.disk.lose_power(self.world.random.choice((0, 0, 1, 7, 40)))
                self.world.after(self.world.random.uniform(0.5, 40), self._start_daemon)
        self.world.after(7.0, self._disturb)

    def go(self) -> None:
        world = self.world
        self._disturb()
        world.run_until(STORM_SECONDS)
        world.is_calm = True
        world.after(45.0, self._resume)
        world.run_until(STORM_SECONDS + CALM_SECONDS, lambda: all(client.is_closed for client in self.clients))
        self._check_served()
        world.run_until(world.now + QUIET_SECONDS, self._is_quiet)
        self._check_quiet()
        self.checker.prefixes(bytes(self.disk.content), self.cores.reactor, self.cores.ledger)

    def _resume(self) -> None:
        if self.daemon is not None and self.daemon.is_alive:
            self.daemon.resume()

    def _is_quiet(self) -> bool:
        assert self.daemon is not None
        return not (self.scheduler.alive() or self.daemon.ledger.jobs() or self.daemon.reactor.tasks())

    def _check_served(self) -> None:
        for client in self.clients:
            left = sorted(set(client.work) - set(client.received))
            if left:
                assert self.daemon is not None
                standing = self.daemon.reactor.pending_reason(client.name, left[0], self.world.now)
                raise ViolationError(f"{client.name} still waits for {left}: {standing}; {self._pool()}")
            if not client.is_closed:
                raise ViolationError(f"{client.name} is not closed")

    def _check_quiet(self) -> None:
        assert self.daemon is not None
        names = {job.name for job in self.daemon.ledger.jobs()}
        alive = [f"{job.id} {job.name} {job.state.value}" for job in self.scheduler.alive()]
        if alive:
            raise ViolationError(f"jobs are left: {alive}; the ledger has {names}")
        if names:
            raise ViolationError(f"the ledger has jobs that have ended: {self._pool()}")
        if tasks := self.daemon.reactor.tasks():
            raise ViolationError(f"tasks are left: {tasks}")

    def _pool(self) -> str:
        assert self.daemon is not None
        ledger = self.daemon.ledger
        jobs = [f"{job.name} {job.phase.value} {job.reason}" for job in ledger.jobs()]
        return f"jobs {jobs}, {ledger.pause_reason(self.world.now)}"
