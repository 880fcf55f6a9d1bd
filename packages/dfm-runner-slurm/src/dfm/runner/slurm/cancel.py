"""scancel: silent where it worked and where there was nothing to end, so that only the next query tells which.

A plain scancel signals the batch process with SIGCONT and SIGTERM, and with SIGKILL after KillWait; the worker has
replaced the batch shell, so nothing else is needed.

Source: scancel(1) and the answers of SLURM 22.05.8 and 24.11.5.
"""

import re
from collections.abc import Sequence

from dfm.api.batch import CancelAnswer, CancelState, Command, CommandOutput, JobKey
from dfm.runner.slurm.command import command
from dfm.runner.slurm.options import SlurmOptions
from dfm.runner.slurm.query import by_cluster, chunks

MAX_IDS = 500
_COMPLAINT = re.compile(r"job id (?P<id>[\d_]+)(?:: |\s+)?(?P<text>.*)")
_GONE = re.compile(r"Invalid job id|already complet", re.IGNORECASE)
_REFUSED = re.compile(r"denied|not permitted|Operation not", re.IGNORECASE)


def cancel(options: SlurmOptions, jobs: Sequence[JobKey]) -> list[Command]:
    """Return the commands that end the jobs; those without an id cannot be named, and are left out."""
    named = [job for job in jobs if job.id is not None]
    return [
        command(options.scancel_cmd, [*_words(cluster), *(key.id for key in chunk if key.id)], asked=chunk)
        for cluster, keys in by_cluster(options, named)
        for chunk in chunks(keys, MAX_IDS)
    ]


def parse_cancel(asked: Sequence[JobKey], output: CommandOutput) -> CancelAnswer:
    """Return what became of each job: stopping, unless scancel complains of it, or could not be heard at all."""
    complaints = {match["id"]: match["text"] for match in _COMPLAINT.finditer(output.stderr)}
    if output.is_timed_out or (output.status != 0 and not complaints):
        return CancelAnswer(states={}, text=output.stderr.strip() or f"scancel gave no answer (status {output.status})")
    states = {key.id: _state(complaints.get(key.id)) for key in asked if key.id is not None}
    known = {identifier: state for identifier, state in states.items() if state is not None}
    return CancelAnswer(states=known, text=output.stderr.strip())


def _words(cluster: str | None) -> list[str]:
    return ["-Q"] if cluster is None else ["-Q", f"--clusters={cluster}"]


def _state(complaint: str | None) -> CancelState | None:
    if complaint is None:
        return CancelState.STOPPING
    if _GONE.search(complaint):
        return CancelState.GONE
    return CancelState.REFUSED if _REFUSED.search(complaint) else None
