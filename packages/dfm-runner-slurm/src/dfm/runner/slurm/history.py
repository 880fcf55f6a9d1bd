"""How a job ended that squeue no longer lists: sacct where the site has accounting, else scontrol.

A job counts only where its name fits as well as its id: ids are used again. sacct's window begins a day before the
submission, which makes up for any difference between its time zone and ours.

Source: sacct(1), scontrol(1), and the answers of SLURM 22.05.8 and 24.11.5.
"""

import dataclasses
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from dfm.api.batch import Command, CommandOutput, JobKey, JobStatus
from dfm.runner.slurm.command import command
from dfm.runner.slurm.options import SlurmOptions
from dfm.runner.slurm.states import Facts, exit_of, status

_SACCT_FIELDS = "JobID,JobName,State,ExitCode,NodeList,Reason,UID"
_NOTHING = ("", "None", "(null)", "None assigned", "N/A", "Unknown")


def history(options: SlurmOptions, job: JobKey) -> Command | None:
    """Return the command that tells how the job ended; None where it has no id to ask for."""
    if job.id is None:
        return None
    cluster = job.cluster or options.cluster
    words = [] if cluster is None else [f"--clusters={cluster}"]
    if not options.accounting:
        return command(options.scontrol_cmd, [*words, "-o", "show", "job", job.id], asked=(job,))
    since = (datetime.fromtimestamp(job.submitted_at, UTC) - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%S")
    asked = ["-n", "-X", "-P", f"--starttime={since}", f"--jobs={job.id}", f"--format={_SACCT_FIELDS}"]
    return command(options.sacct_cmd, [*words, *asked], asked=(job,))


def parse_history(options: SlurmOptions, job: JobKey, output: CommandOutput) -> JobStatus | None:
    """Return how the job ended; None where the answer does not tell, which is no end."""
    if output.is_timed_out or output.status != 0:
        return None
    read = _sacct_rows if options.accounting else _scontrol_rows
    ours = [row for row in read(output.stdout) if row.id == job.id and row.name == job.name]
    if not ours:
        return None
    found = status(ours[-1], may_requeue=options.requeue and not options.accounting)
    return dataclasses.replace(found, cluster=job.cluster)


def _scontrol_rows(stdout: str) -> Iterator[Facts]:
    for line in stdout.splitlines():
        if not line.startswith("JobId="):
            continue
        exit_code, signal = exit_of(_field(line, "ExitCode"))
        yield Facts(
            id=_field(line, "JobId"),
            name=_field(line, "JobName"),
            state=_field(line, "JobState"),
            reason=_known(_field(line, "Reason", until=" Dependency=")),
            host=_known(_field(line, "BatchHost")),
            exit_code=exit_code,
            signal=signal,
            restarts=int(_field(line, "Restarts") or 0),
        )


def _sacct_rows(stdout: str) -> Iterator[Facts]:
    for line in stdout.splitlines():
        words = line.split("|")
        if len(words) != len(_SACCT_FIELDS.split(",")):
            continue
        identifier, name, state, code, nodes, reason, owner = words
        exit_code, signal = exit_of(code)
        yield Facts(
            id=identifier,
            name=name,
            state=state,
            reason=_known(reason),
            host=_known(nodes),
            exit_code=exit_code,
            signal=signal,
            owner=owner,
        )


def _field(line: str, name: str, until: str = " ") -> str:
    _, found, rest = f" {line}".partition(f" {name}=")
    return rest.partition(until)[0] if found else ""


def _known(text: str) -> str:
    return "" if text in _NOTHING else text
