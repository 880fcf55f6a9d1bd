"""bkill: always with ids, and what became of each.

Source: IBM Spectrum LSF 10.1 command reference, bkill. `bkill` without an id ends the job that was submitted last, and
`bkill 0` ends all jobs of the user: neither can be written here. `-r` is never used, for it leaves the process running.
"""

import re
from collections.abc import Mapping, Sequence

from dfm.api.batch import CancelAnswer, CancelState, Command, CommandOutput, JobKey
from dfm.runner.lsf.commands import Commands, Tool
from dfm.runner.lsf.failures import words_of
from dfm.runner.lsf.query import is_id

IDS_PER_COMMAND = 200
_ANSWER = re.compile(r"Job <(?P<id>[^>\n]+)>(?P<colon>:?) (?P<words>[^\n]+)\n")
"""A whole line: one that was cut off tells nothing."""
_STOPPING = re.compile(r"is being (?:terminated|signaled|stopped|requeued)|[Oo]peration is in progress")
_GONE = re.compile(r"already finished|No matching job found|is not found")


def commands_for(jobs: Sequence[JobKey], commands: Commands) -> list[Command]:
    """Return a command for each 200 jobs that have an id, and none where there are none."""
    known = list({job.id: job for job in jobs if is_id(job.id)}.values())
    chunks = [known[start : start + IDS_PER_COMMAND] for start in range(0, len(known), IDS_PER_COMMAND)]
    return [commands.make(Tool.BKILL, [str(job.id) for job in chunk], asked=chunk) for chunk in chunks]


def parse(command: Command, output: CommandOutput) -> CancelAnswer:
    """Return what became of each job that the answer tells of, whatever the exit status: one bad id makes it 255."""
    asked = {job.id for job in command.asked}
    told = {
        match["id"]: state
        for stream in (output.stdout, output.stderr)
        for match in _ANSWER.finditer(stream)
        if match["id"] in asked and (state := _state(match)) is not None
    }
    return CancelAnswer(states=told, text=_text(told, output))


def _state(answer: re.Match[str]) -> CancelState | None:
    if _STOPPING.search(answer["words"]):
        return CancelState.STOPPING
    if _GONE.search(answer["words"]):
        return CancelState.GONE
    return CancelState.REFUSED if answer["colon"] else None


def _text(told: Mapping[str, CancelState], output: CommandOutput) -> str:
    if output.is_timed_out:
        return "bkill gave no answer in time"
    if told and CancelState.REFUSED not in told.values():
        return ""
    return words_of(output) or f"bkill said nothing (exit status {output.status})"
