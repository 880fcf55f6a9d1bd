"""The log of every call of a command, and what a polite runner does not do."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from dfm.testing.fake_lsf.options import FLAG, OPTIONS

LOG = "invocations.jsonl"
STATUS_COMMANDS = frozenset({"bjobs", "bhist", "bacct"})
NEVER = ("-K", "-I", "-Ip", "-Is", "-E", "-Ep")
NEED_IDS = frozenset({"bkill", "bstop", "bresume", "brequeue"})
BSUB_FLAGS = frozenset(option for option, kind in OPTIONS["bsub"].items() if kind == FLAG)


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """One call.

    Attributes:
        environ: variables of LSF and of the locale only.
        started: seconds since the epoch.
        ended: None while it goes on, and for ever if it was killed.
        status: exit status, None likewise.
    """

    id: str
    command: str
    argv: tuple[str, ...]
    environ: dict[str, str]
    started: float
    ended: float | None
    status: int | None


def read(directory: str) -> list[Invocation]:
    """Return all calls that were logged in FAKE_LSF_DIR, in the order of their start."""
    begins: dict[str, dict[str, object]] = {}
    ends: dict[str, dict[str, object]] = {}
    try:
        with open(os.path.join(directory, LOG), encoding="utf-8") as stream:
            for line in stream:
                entry = json.loads(line)
                (ends if "status" in entry else begins)[entry["id"]] = entry
    except FileNotFoundError:
        return []
    return [_merge(begin, ends.get(identity)) for identity, begin in begins.items()]


def _merge(begin: dict[str, object], end: dict[str, object] | None) -> Invocation:
    return Invocation(
        id=str(begin["id"]),
        command=str(begin["command"]),
        argv=tuple(begin["argv"]),  # type: ignore[arg-type]  # our own log
        environ=begin["env"],  # type: ignore[arg-type]  # our own log
        started=begin["time"],  # type: ignore[arg-type]  # our own log
        ended=end["time"] if end else None,  # type: ignore[arg-type]  # our own log
        status=end["status"] if end else None,  # type: ignore[arg-type]  # our own log
    )


def impoliteness(
    calls: Sequence[Invocation], *, seconds_between_status_calls: float, most_submissions: int | None = None
) -> list[str]:
    """Return what a site's administrator would complain about, a line each.

    Args:
        calls: in the order of their start.
        seconds_between_status_calls: real seconds from the start of one status call to the start of the next.
        most_submissions: how many bsub there may be.
    """
    faults = [fault for call in calls if (fault := _forbidden(call))]
    asking = [call for call in calls if call.command in STATUS_COMMANDS]
    for before, after in pairwise(asking):
        gap = after.started - before.started
        if gap < seconds_between_status_calls:
            faults.append(f"{_shown(after)}: {gap:.3f} s after {_shown(before)}")
        if before.ended is not None and after.started < before.ended:
            faults.append(f"{_shown(after)}: while {_shown(before)} was under way")
    submissions = sum(call.command == "bsub" for call in calls)
    if most_submissions is not None and submissions > most_submissions:
        faults.append(f"{submissions} submissions, more than {most_submissions}")
    return faults


def _forbidden(call: Invocation) -> str:
    if call.command == "bsub":
        bad = [word for word in _options_of_bsub(call.argv) if word in NEVER]
        return f"{_shown(call)}: {bad[0]} is never for a pool" if bad else ""
    if call.command in NEED_IDS:
        if "0" in call.argv:
            return f"{_shown(call)}: all jobs of the user"
        if not any(word[:1].isdigit() for word in call.argv):
            return f"{_shown(call)}: no ids"
    return ""


def _options_of_bsub(argv: Sequence[str]) -> list[str]:
    """Return the words that stand where options may: up to the command, whose own options do not count."""
    found: list[str] = []
    words = list(argv)
    while words and words[0].startswith("-"):
        found.append(words.pop(0))
        if found[-1] not in BSUB_FLAGS:
            del words[:1]
    return found


def _shown(call: Invocation) -> str:
    return " ".join([call.command, *call.argv])
