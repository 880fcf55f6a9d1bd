"""What has happened so far, counted from events: the numbers that every report shows."""

from collections import Counter

from msgspec import Struct, field

from dfm.api.events import Event, RunStarted, TaskFinished, TaskStarted, Verdict

FAILURES = (Verdict.FAILED, Verdict.LOST, Verdict.REFUSED)


class Tally(Struct):
    """Counts of a run that goes on.

    Attributes:
        total: of tasks; it grows where some come into being on the way.
        done: how many have ended.
    """

    total: int = 0
    done: int = 0
    counts: Counter[Verdict] = field(default_factory=Counter)
    running: dict[str, None] = field(default_factory=dict)
    failures: list[TaskFinished] = field(default_factory=list)

    def take(self, event: Event) -> None:
        """Count one event."""
        match event:
            case RunStarted(nodes=nodes):
                self.total = nodes
            case TaskStarted(task=task):
                self.running[task] = None
            case TaskFinished():
                self.running.pop(event.task, None)
                if event.is_visible:
                    self.counts[event.verdict] += 1
                    self.done += 1
                    self.total = max(self.total, self.done)
                if event.verdict in FAILURES:
                    self.failures.append(event)
            case _:
                pass

    @property
    def position(self) -> str:
        """`[ 12/340]`, as wide for every task of the run."""
        width = len(str(self.total))
        return f"[{self.done:>{width}}/{self.total}]"
