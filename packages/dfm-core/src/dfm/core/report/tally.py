"""What has happened so far, counted from events: the numbers that every report shows."""

from collections import Counter

from msgspec import Struct, field

from dfm.api.events import Event, Progress, RunnerWaits, RunStarted, TaskFinished, TaskMoved, TaskStarted, Verdict

FAILURES = (Verdict.FAILED, Verdict.LOST, Verdict.REFUSED)
_WORDS = {
    Progress.QUEUED: "waiting",
    Progress.ASSIGNED: "waiting",
    Progress.SUSPENDED: "suspended",
    Progress.UNREACHABLE: "out of reach",
}


class Tally(Struct):
    """Counts of a run that goes on.

    Attributes:
        total: of tasks; it grows where some come into being on the way.
        done: how many have ended.
    """

    total: int = 0
    done: int = 0
    counts: Counter[Verdict] = field(default_factory=Counter)
    running: dict[str, Progress] = field(default_factory=dict)
    """Tasks that have started and not ended, the newest last, with where they stand."""
    waits: str = ""
    """What the runner waits for, empty where for nothing."""
    failures: list[TaskFinished] = field(default_factory=list)

    def take(self, event: Event) -> None:
        """Count one event."""
        match event:
            case TaskFinished():
                self.running.pop(event.task, None)
                if event.is_visible:
                    self.counts[event.verdict] += 1
                    self.done += 1
                    self.total = max(self.total, self.done)
                if event.verdict in FAILURES:
                    self.failures.append(event)
            case RunStarted(nodes=nodes):
                self.total = nodes
            case TaskStarted(task=task):
                self.running[task] = Progress.RUNNING
            case TaskMoved(task=task, progress=progress):
                if task in self.running:
                    self.running[task] = progress
            case RunnerWaits(text=text):
                self.waits = text
            case _:
                pass

    @property
    def standing(self) -> str:
        """How many tasks run, wait and so on: `2 running, 3 waiting`."""
        counts = Counter(_WORDS.get(progress, "running") for progress in self.running.values())
        words = ["running", *dict.fromkeys(_WORDS.values())]
        return ", ".join(f"{counts[word]} {word}" for word in words if counts[word] or word == "running")

    @property
    def why_waiting(self) -> str:
        """Why tasks wait, where it is not for others to end."""
        return self.waits if Progress.QUEUED in self.running.values() else ""

    @property
    def position(self) -> str:
        """`[ 12/340]`, as wide for every task of the run."""
        width = len(str(self.total))
        return f"[{self.done:>{width}}/{self.total}]"
