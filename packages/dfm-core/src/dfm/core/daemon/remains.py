"""What a daemon that does not answer has on this host: a journal, which is somebody's, or tells of jobs that were left.

Nothing is locked, so that a daemon that starts meanwhile is not hindered.
"""

import os
from dataclasses import dataclass

from dfm.core.daemon.endpoint import Endpoint
from dfm.core.pool.journal import read_journal
from dfm.core.pool.reap import JOURNAL_NAME, is_owned, jobs_in, owner_of
from dfm.core.wire.messages import EPOCH_SHIFT


@dataclass(frozen=True, slots=True, kw_only=True)
class Remains:
    """What there is.

    Attributes:
        project: whose.
        is_owned: a process has the journal; jobs are not counted then.
        owner: its pid, where that is known.
        runner: whose jobs they are.
        jobs: how many are not known to have ended.
    """

    project: str
    is_owned: bool = False
    owner: int | None = None
    runner: str = ""
    jobs: int = 0

    def lines(self) -> list[str]:
        """Return what a person is told."""
        if self.is_owned:
            who = f"process {self.owner or 'unknown'} has its journal"
            what = "a daemon that starts or stops, or whose project was moved"
            return [f"no daemon of {self.project} answers; {who}: {what}"]
        told = [f"no daemon of {self.project} runs"]
        return [*told, *self._job_lines()] if self.jobs else told

    def _job_lines(self) -> list[str]:
        told = "1 worker job that it left is" if self.jobs == 1 else f"{self.jobs} worker jobs that it left are"
        ways = f"`dfm daemon reap` cancels what is left; `dfm daemon start --runner {self.runner}` takes it in again"
        return [f"{told} not known to have ended", f"  hint: {ways}"]


def remains_of(endpoint: Endpoint) -> Remains:
    """Look what the daemon of a project that does not answer has on this host."""
    directory = endpoint.state_location()
    if is_owned(directory):
        return Remains(project=endpoint.project, is_owned=True, owner=owner_of(directory))
    found = read_journal(os.path.join(directory, JOURNAL_NAME))
    if found.header is None:
        return Remains(project=endpoint.project)
    return Remains(project=endpoint.project, runner=found.header.runner, jobs=len(jobs_in(found)))


def last_epoch(endpoint: Endpoint) -> int:
    """Return the greatest epoch that a project's journal on this host has names of; 0 where it has none.

    Names of workers and numbers of attempts hold the epoch, and must not be given again while any is in the journal.
    """
    found = read_journal(os.path.join(endpoint.state_location(), JOURNAL_NAME))
    epochs = [0 if found.header is None else found.header.epoch]
    for entry in found.entries:
        match entry.kind, entry.fields:
            case "job-intent", {"slot": str(slot)}:
                epochs.append(int(slot.split("-")[1]))
            case "dispatch", {"attempt": int(attempt)}:
                epochs.append(attempt >> EPOCH_SHIFT)
            case _:
                pass
    return max(epochs)
