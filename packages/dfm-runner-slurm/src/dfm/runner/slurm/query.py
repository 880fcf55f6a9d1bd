"""squeue: how jobs stand, all in one call, by their names.

By name, because a single unknown id makes squeue fail and unknown names are simply not listed. `-t all` lists ended
jobs too, for MinJobAge. The full form tells restarts and exit codes, `3:0` or, before 23.02, the wait status `768`;
where a version does not know it, the plain form is asked. Not JSON: its shape differs between versions, and in 22.05 it
ignores what is asked for.

Source: squeue(1) and the answers of SLURM 22.05.8 and 24.11.5.
"""

import dataclasses
import enum
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from dfm.api.batch import Command, CommandOutput, JobKey, JobState, JobStatus, Listed, QueryFailed
from dfm.runner.slurm.command import command
from dfm.runner.slurm.options import SlurmOptions
from dfm.runner.slurm.states import Facts, exit_of, status

MAX_NAMES = 1000
"""Names in one command: one word of a command line holds at most 128 KiB (execve(2))."""
MAX_ELEMENTS = 10000

_FULL_FIELDS = ("JobArrayID", "Name", "State", "Reason", "NodeList", "Comment", "exit_code", "RestartCnt")
_PLAIN_FORMAT = "%i|%j|%T|%r|%N|%k"
_UNKNOWN_FORM = re.compile(r"Invalid job format specification|(?:unrecognized|invalid) option", re.IGNORECASE)
_NO_SUCH_JOB = re.compile(r"Invalid job id", re.IGNORECASE)
_CLUSTER = re.compile(r"CLUSTER: (\S+)\s*\Z")
_ELEMENTS = re.compile(r"(?P<base>\d+)_\[(?P<ranges>[\d,:-]+)(?:%\d+)?\]\Z")
_RANGE = re.compile(r"(?P<first>\d+)(?:-(?P<last>\d+)(?::(?P<step>[1-9]\d*))?)?\Z")


class Form(enum.Enum):
    """How squeue is asked."""

    FULL = enum.auto()
    PLAIN = enum.auto()


def query(options: SlurmOptions, form: Form, jobs: Sequence[JobKey]) -> list[Command]:
    """Return the commands that list the jobs: one for each cluster, more only where there are very many."""
    return [
        command(options.squeue_cmd, [*_cluster_words(cluster), *_words(form, chunk)], asked=chunk)
        for cluster, keys in by_cluster(options, jobs)
        for chunk in chunks(keys, MAX_NAMES)
    ]


def by_cluster(options: SlurmOptions, jobs: Iterable[JobKey]) -> Iterator[tuple[str | None, list[JobKey]]]:
    """Group jobs by the cluster that has to be asked."""

    def cluster(key: JobKey) -> str:
        return key.cluster or options.cluster or ""

    for name, keys in groupby(sorted(jobs, key=cluster), key=cluster):
        yield name or None, list(keys)


def chunks(keys: Sequence[JobKey], size: int) -> Iterator[Sequence[JobKey]]:
    """Return the keys in parts of at most `size`."""
    for start in range(0, len(keys), size):
        yield keys[start : start + size]


def parse_query(options: SlurmOptions, asked: Sequence[JobKey], output: CommandOutput) -> Listed | QueryFailed:
    """Return how the jobs asked about stand; anything but a clear answer is a failure to answer."""
    said = output.stderr.strip()
    if output.is_timed_out:
        return QueryFailed(text="squeue gave no answer in time")
    if output.status != 0 and not _NO_SUCH_JOB.search(said):
        return QueryFailed(text=said or f"squeue said nothing (status {output.status})")
    rows = list(_rows(output.stdout))
    if not rows and _has_text(output.stdout):
        return QueryFailed(text=f"squeue's answer is not understood: {output.stdout.strip()[:200]!r}")
    return _listed(options, asked, rows)


def is_form_refused(output: CommandOutput) -> bool:
    """Return whether squeue does not know how it was asked; it may say so with status 0 and empty columns."""
    return _UNKNOWN_FORM.search(output.stderr) is not None


def expanded(identifier: str) -> list[str]:
    """Return the elements that a pending array's one row stands for: `3_[1-2,7%2]` is `3_1`, `3_2`, `3_7`."""
    match = _ELEMENTS.match(identifier)
    if match is None:
        return [identifier]
    indices: list[int] = []
    for part in match["ranges"].split(","):
        span = _RANGE.match(part)
        if span is None:
            return [identifier]
        first, last = int(span["first"]), int(span["last"] or span["first"])
        indices.extend(range(first, min(last, first + MAX_ELEMENTS) + 1, int(span["step"] or 1)))
    return [f"{match['base']}_{index}" for index in indices]


def _cluster_words(cluster: str | None) -> list[str]:
    return [] if cluster is None else [f"--clusters={cluster}"]


def _words(form: Form, keys: Sequence[JobKey]) -> list[str]:
    names = f"--name={','.join(dict.fromkeys(key.name for key in keys))}"
    match form:
        case Form.FULL:
            return ["-h", "-t", "all", "--me", names, "-O", ",".join(f"{field}:|" for field in _FULL_FIELDS)]
        case Form.PLAIN:
            return ["-h", "-t", "all", names, "-o", _PLAIN_FORMAT]


def _has_text(stdout: str) -> bool:
    return any(line.strip() and not _CLUSTER.match(line) for line in stdout.splitlines())


def _rows(stdout: str) -> Iterator[Facts]:
    cluster = None
    for line in stdout.splitlines():
        if header := _CLUSTER.match(line):
            cluster = header[1]
        else:
            yield from _facts(line.split("|"), cluster)


def _facts(fields: Sequence[str], cluster: str | None) -> Iterator[Facts]:
    words = [field.strip() for field in fields]
    is_full = len(words) == len(_FULL_FIELDS) + 1 and not words[-1]
    if not (is_full or len(words) == _PLAIN_FORMAT.count("|") + 1) or not words[0][:1].isdigit():
        return
    exit_code, signal = exit_of(words[6]) if is_full else (None, None)
    for identifier in expanded(words[0]):
        yield Facts(
            id=identifier,
            name=words[1],
            state=words[2],
            reason=_said(words[3]),
            host=_said(words[4]),
            cluster=cluster,
            exit_code=exit_code,
            signal=signal,
            restarts=int(words[7]) if is_full and words[7].isascii() and words[7].isdecimal() else 0,
        )


def _said(field: str) -> str:
    return "" if field in ("None", "(null)", "N/A") else field


def _listed(options: SlurmOptions, asked: Sequence[JobKey], rows: Sequence[Facts]) -> Listed:
    by_name: dict[str, list[Facts]] = {}
    for row in rows:
        by_name.setdefault(row.name, []).append(row)
    jobs: dict[tuple[str | None, str], JobStatus] = {}
    missing = []
    for key in asked:
        found = [
            (row, _in_cluster(status(row, may_requeue=options.requeue), key.cluster or options.cluster))
            for row in by_name.get(key.name, ())
            if key.cluster is None or row.cluster in (None, key.cluster)
        ]
        ours = [answer for row, answer in found if (row.id == key.id if key.id else not _is_refused(row))]
        twins = [answer for row, answer in found if key.id and row.id != key.id and answer.state is not JobState.ENDED]
        jobs.update(((answer.cluster, answer.id), answer) for answer in (*ours, *twins))
        if not ours:
            missing.append(key)
    return Listed(jobs=tuple(jobs.values()), missing=tuple(missing))


def _in_cluster(answer: JobStatus, asked: str | None) -> JobStatus:
    """Return the answer with the cluster that was asked, where the answer itself names none."""
    return dataclasses.replace(answer, cluster=answer.cluster or asked)


def _is_refused(row: Facts) -> bool:
    """Return whether it is what a rejected submission leaves behind, which is no job of ours."""
    return row.state == "FAILED" and row.reason == "BadConstraints"
