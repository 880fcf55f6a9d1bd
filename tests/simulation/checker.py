"""What must hold, looked at after every event: by the journal, by what is said, and by the reactor itself."""

from tests.simulation.scheduler import Scheduler
from tests.simulation.settings import LARGE
from tests.simulation.world import ViolationError, World

from dfm.core.pool import journal
from dfm.core.pool.events import Assign, Deliver, JournalEntry, PassAnswer
from dfm.core.pool.ledger import Ledger, LedgerSettings
from dfm.core.pool.reactor import Reactor, ReactorSettings

Task = tuple[str, int]
MAX_LOSSES = 3


class Checker:
    """The history of all daemons of one seed, from their journal entries."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.submitted: set[Task] = set()
        self.committed: dict[Task, str] = {}
        self.current: dict[Task, int] = {}
        self.of_attempt: dict[int, Task] = {}
        self.life_of: dict[int, tuple[str, str]] = {}
        self.unexplained: dict[Task, set[int]] = {}
        self.grown: set[Task] = set()
        self.intents: set[str] = set()
        self.job_ends: dict[str, str] = {}
        self._unsynced: list[JournalEntry] = []

    def fail(self, text: str) -> None:
        raise ViolationError(f"at {self.world.now:.1f} s: {text}")

    # The journal.

    def daemon_started(self, entries: list[JournalEntry]) -> None:
        """Forget what a loss of power took, by telling the story anew."""
        self.submitted.clear()
        self.committed.clear()
        self.current.clear()
        self.unexplained.clear()
        self.grown.clear()
        self._unsynced.clear()
        for entry in entries:
            self._take(entry)

    def synced(self) -> None:
        self._unsynced.clear()

    def recorded(self, entry: JournalEntry) -> None:
        task = _task_of(entry)
        if entry.kind == "dispatch" and task in self.current:
            self.fail(f"{task} is sent out while another attempt at it is current")
        if entry.kind in ("dispatch", "commit") and task in self.committed:
            self.fail(f"{entry.kind} of {task}, which has a committed result")
        if entry.kind == "submit" and task in self.submitted:
            self.fail(f"{task} is taken in twice")
        self._take(entry)
        self.world.log(f"record {entry.kind} {task} {entry.fields.get('attempt', '')}")

    def _take(self, entry: JournalEntry) -> None:
        fields = entry.fields
        task = _task_of(entry)
        match entry.kind:
            case "submit":
                self.submitted.add(task)
            case "dispatch":
                attempt = int(str(fields["attempt"]))
                self.current[task] = attempt
                self.of_attempt[attempt] = task
                self.life_of[attempt] = (str(fields["slot"]), str(fields["incarnation"]))
            case "lost":
                self.current.pop(task, None)
                if fields["kind"] in ("unexplained", "memory"):
                    self.unexplained.setdefault(task, set()).add(int(str(fields["attempt"])))
            case "grow":
                self.current.pop(task, None)
                self.grown.add(task)
            case "refund":
                pass
            case "commit":
                self.current.pop(task, None)
                self.committed[task] = str(fields["outcome"])
            case "close":
                self._forget(str(fields["client"]))
            case "job-end":
                self.job_ends[str(fields["name"])] = str(fields["cause"])
            case "job-intent":
                self.intents.add(str(fields["name"]))
            case _:
                pass

    def _forget(self, client: str) -> None:
        """A run is over: its tickets may be used again."""
        self.submitted = {task for task in self.submitted if task[0] != client}
        self.committed = {task: outcome for task, outcome in self.committed.items() if task[0] != client}
        self.current = {task: attempt for task, attempt in self.current.items() if task[0] != client}
        self.grown = {task for task in self.grown if task[0] != client}
        self.unexplained = {task: lost for task, lost in self.unexplained.items() if task[0] != client}

    # What is said.

    def assigned(self, action: Assign, reactor: Reactor) -> None:
        task = self.of_attempt.get(action.attempt)
        if task is None or self.current.get(task) != action.attempt:
            self.fail(f"attempt {action.attempt} is sent to {action.slot} before it is in the journal")
        shapes = [worker.shape for worker in reactor.workers() if worker.slot == action.slot]
        if task in self.grown and shapes not in ([], [LARGE]):
            self.fail(f"attempt {action.attempt} at {task} is sent to {action.slot}, where it ran out of memory")

    def answering(self, action: PassAnswer) -> None:
        task = self.of_attempt.get(action.attempt)
        if task is None or self.current.get(task) != action.attempt:
            self.fail(f"attempt {action.attempt} gets an answer on {action.slot} and is not the current one")

    def acknowledged(self, attempt: int) -> None:
        task = self.of_attempt.get(attempt)
        if task is not None and self.current.get(task) == attempt:
            self.fail(f"the result of {task} is acknowledged before it is committed")

    def delivering(self, action: Deliver) -> None:
        task = (action.client, action.ticket)
        if self.committed.get(task) != action.outcome:
            self.fail(f"{task} is delivered as {action.outcome}, committed was {self.committed.get(task)}")
        if action.body and not action.body.startswith(f"{action.client}:{action.ticket}:".encode()):
            self.fail(f"{task} is delivered with the result of another: {action.body!r}")
        if "no known cause" in action.cause and len(self.unexplained.get(task, ())) < MAX_LOSSES:
            self.fail(f"{task} is given up after {len(self.unexplained.get(task, ()))} unexplained losses")

    def submitting(self, name: str, reactor: Reactor, ledger: Ledger, scheduler: Scheduler) -> None:
        if name not in self.intents:
            self.fail(f"{name} is submitted before it is in the journal")
        known = {entry.fields["name"] for entry in ledger.snapshot()}
        for job in scheduler.alive():
            if job.name not in known and not job.is_twin and self.job_ends.get(job.name) != "lost":
                self.fail(f"{name} is submitted while job {job.id} ({job.name}) lives, which the ledger does not know")
        settings = self.world.settings
        stuck = sum(worker.is_waiting for worker in reactor.workers())
        if len(ledger.jobs()) > settings.max_workers + stuck:
            self.fail(f"there are {len(ledger.jobs())} jobs, and {stuck} workers wait")
        recent = sum(1 for at in scheduler.submits if at > self.world.now - 60.0)
        if recent > settings.max_submits_per_minute:
            self.fail(f"{recent} submissions in a minute")

    # The cores.

    def look_at(self, reactor: Reactor, ledger: Ledger) -> None:
        faults = reactor.check(self.world.now) + ledger.check(self.world.now)
        if faults:
            self.fail("; ".join(faults))
        lives = {worker.slot: worker.incarnation for worker in reactor.workers()}
        for task in reactor.tasks():
            if task.slot and self.life_of.get(task.attempt) != (task.slot, lives.get(task.slot)):
                self.fail(f"attempt {task.attempt} is with a life of {task.slot} that it was not sent to")
            standing = reactor.pending_reason(task.client, task.ticket, self.world.now)
            if standing is None or not standing.reason or standing.deadline < self.world.now:
                self.fail(f"{task.task} has no standing: {standing}")

    def prefixes(self, content: bytes, cores_reactor: type[Reactor], cores_ledger: type[Ledger]) -> None:
        """Restore from some prefixes of the journal, torn ones too: each gives a state in which all holds."""
        for _ in range(3):
            cut = self.world.random.randrange(len(content) + 1)
            found = journal.replay(content[:cut])
            if found.good_bytes > cut:
                self.fail("a journal counts more than there is")
            reactor = cores_reactor(ReactorSettings(), 99)
            ledger = cores_ledger(LedgerSettings(), "inst", 99)
            reactor.restore(found.entries, 0.0)
            ledger.restore(found.entries, 0.0)
            if faults := reactor.check(0.0):
                self.fail(f"the first {cut} bytes of the journal are no legal state: {'; '.join(faults)}")


def _task_of(entry: JournalEntry) -> Task:
    return str(entry.fields.get("client", "")), int(str(entry.fields.get("ticket", -1)))
