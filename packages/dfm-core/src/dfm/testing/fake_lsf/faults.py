"""Faults on order: the next N calls of a command hang, lie, or lose what they did.

Orders come from `FakeLsf.inject`, from `fakelsf inject`, and from lines written to FAKE_LSF_DIR/faults, such as

    bsub hang seconds=60 times=2
    bjobs refuse text="Batch system concurrent job query limit exceeded" status=255

The first order that names the command of a call is applied to it. Seconds are LSF seconds.
"""

import dataclasses
import enum
import os
import shlex
import sys
from dataclasses import dataclass

from dfm.testing.fake_lsf.commands import NAMES
from dfm.testing.fake_lsf.state import Cluster

CONTROL_FILE = "faults"


class Kind(enum.StrEnum):
    """What goes wrong."""

    HANG = "hang"
    """Nothing is done; after `seconds` (never, without) a failed library call, 255."""
    SLOW = "slow"
    """Done as ever, `seconds` late."""
    DOWN = "down"
    """mbatchd does not answer for `seconds` (for ever, without): the text of it every 10 s, LSB_NTRIES obeyed; then as
    ever, or with end=non-lsf-host rejected. text=lim is the other text of a system that is down."""
    RC255_EMPTY = "rc255-empty"
    """Status 255, nothing written, nothing done."""
    OK_EMPTY = "ok-empty"
    """Status 0, nothing written; a bsub has submitted the job, unless accepted=no."""
    NOISE_BEFORE = "noise-before"
    """A wrapper's line before the answer: `text`, or one that looks much like a Job line."""
    NOISE_CANNOT_CONNECT = "noise-stdout-cannot-connect"
    """`Cannot connect to LSF. Please wait ...` on stdout before the answer."""
    SUBMIT_BUT_TIME_OUT = "submit-but-time-out"
    """The job is taken in, and the answer never comes."""
    SUBMIT_TWICE = "submit-twice"
    """The job is taken in twice; the answer names the second."""
    INVISIBLE = "invisible"
    """The submitted job shows up in bjobs `seconds` later only."""
    FORGET = "forget"
    """bjobs never again knows `job`; it goes on."""
    GARBAGE_JSON = "garbage-json"
    """The answer is not JSON."""
    PARTIAL_OUTPUT = "partial-output"
    """The answer ends in its midst, status 0."""
    PENDING_THRESHOLD = "pending-threshold"
    """bsub waits and says so every SUB_TRY_INTERVAL, for `seconds` or for ever, LSB_NTRIES obeyed."""
    ESUB_ABORT = "esub-abort"
    """An esub refuses, with its `text`."""
    QUERY_LIMIT = "query-limit"
    """`Batch system concurrent job query limit exceeded`, 255."""
    NON_LSF_HOST = "non-lsf-host"
    """`LSF is down. Please wait ...` and then `Request from non-LSF host rejected`, several times each, 255."""
    REFUSE = "refuse"
    """`text` on stderr, `status` or 255, nothing done."""


class OrderError(ValueError):
    """An order that makes no sense."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One order.

    Attributes:
        times: how many calls are hit; 0 is all of them.
        seconds: None is for ever, or at once, as the kind has it.
    """

    command: str
    kind: Kind
    times: int = 1
    seconds: float | None = None
    text: str = ""
    job: str = ""
    status: int = 255
    end: str = ""
    accepted: str = ""


def order(words: list[str]) -> Fault:
    """Read an order: `COMMAND KIND [NAME=VALUE ...]`.

    Raises:
        OrderError: an unknown command, kind or name, or a value that is no number where one is needed.
    """
    if len(words) < 2 or words[0] not in NAMES:
        commands, kinds = ", ".join(NAMES), ", ".join(Kind)
        raise OrderError(f"a fault is COMMAND KIND [NAME=VALUE ...]\nCOMMAND: {commands}\nKIND: {kinds}")
    if words[1] not in list(Kind):
        raise OrderError(f"no fault {words[1]!r}; there are {', '.join(Kind)}")
    values: dict[str, str] = {}
    known = {field.name for field in dataclasses.fields(Fault)} - {"command", "kind"}
    for word in words[2:]:
        name, _, value = word.partition("=")
        if name not in known:
            raise OrderError(f"no setting {name!r} of a fault; there are {', '.join(sorted(known))}")
        values[name] = value
    try:
        return Fault(
            command=words[0],
            kind=Kind(words[1]),
            times=int(values.pop("times", 1)),
            seconds=float(values.pop("seconds")) if "seconds" in values else None,
            status=int(values.pop("status", 255)),
            **values,
        )
    except ValueError as fault:
        raise OrderError(f"not a number: {fault}") from fault


def add(cluster: Cluster, fault: Fault) -> None:
    """Take an order."""
    cluster.system.faults.append(dataclasses.asdict(fault))
    cluster.save_system()


def take(cluster: Cluster, command: str) -> Fault | None:
    """Return the fault that hits this call of a command, if any, and count it down."""
    _read_control_file(cluster)
    for position, values in enumerate(cluster.system.faults):
        fault = decode(values)
        if fault.command != command:
            continue
        if fault.times == 1:
            del cluster.system.faults[position]
        elif fault.times > 1:
            cluster.system.faults[position] = dataclasses.asdict(dataclasses.replace(fault, times=fault.times - 1))
        cluster.save_system()
        return fault
    return None


def decode(values: dict[str, object]) -> Fault:
    """Return an order from its stored form."""
    fault = Fault(**values)  # type: ignore[arg-type]  # written by `add`
    return dataclasses.replace(fault, kind=Kind(fault.kind))


def _read_control_file(cluster: Cluster) -> None:
    taken = f"{CONTROL_FILE}.taken"
    try:
        os.rename(CONTROL_FILE, taken)
    except FileNotFoundError:
        return
    with open(taken, encoding="utf-8") as stream:
        for line in stream:
            try:
                words = shlex.split(line, comments=True)
                if words:
                    add(cluster, order(words))
            except ValueError as fault:
                sys.stderr.write(f"{CONTROL_FILE}: {line.strip()}: {fault}\n")
    os.unlink(taken)
