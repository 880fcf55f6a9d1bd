"""The command line of a worker: `dfm worker`, and `python -m dfm.core.worker`, which loads less."""

import argparse
import gc
import logging
import os
import re
import sys
from collections.abc import Sequence

from dfm.api.batch import ARRAY_INDEX
from dfm.api.errors import ExitCode
from dfm.core.wire.redaction import Redaction

_INDEX_VARIABLES = ("SLURM_ARRAY_TASK_ID", "LSB_JOBINDEX")
_SLOT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


def main(words: Sequence[str] | None = None) -> int:
    """Be a worker; return the exit status."""
    gc.disable()  # while all is loaded that stays: to look through it again and again costs a fifth of the start
    parser = _parser()
    arguments = parser.parse_args(words)
    try:
        _put_in_index(arguments)
    except ValueError as error:
        parser.error(str(error))
    if arguments.log is not None and not _redirect(arguments.log):
        return int(ExitCode.INFRASTRUCTURE)
    sys.stderr.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # it is a text file from the start
    redaction = Redaction()
    redaction.learn(os.environ)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(redaction.formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    from dfm.core.worker.process import Options, run_worker  # noqa: PLC0415  (the log is open before anything can fail)

    gc.freeze()
    gc.enable()
    return run_worker(
        Options(
            access=arguments.access,
            slot=arguments.slot,
            directory=arguments.directory,
            slots=arguments.slots,
            cores=arguments.cores,
            lives_seconds=arguments.lives,
        ),
        redaction,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="dfm worker", description="Run tasks for the daemon of an access file.")
    parser.add_argument("--access", required=True, metavar="FILE", help="the daemon's access file")
    parser.add_argument("--slot", required=True, type=_slot, metavar="ID", help="which slot of the daemon this is")
    parser.add_argument("--log", metavar="FILE", help="append the log, and all output, to this file")
    parser.add_argument("--directory", metavar="DIR", help="directory in which this must have been started")
    parser.add_argument("--slots", type=_positive, default=1, metavar="N", help="tasks to run at once")
    parser.add_argument("--cores", type=_positive, default=1, metavar="N", help="tokens for make and ninja in tasks")
    parser.add_argument("--lives", type=_seconds, metavar="SECONDS", help="time until the batch job's limit")
    return parser


def _put_in_index(arguments: argparse.Namespace) -> None:
    """Tell an element of an array from the others, which were given the same words.

    Raises:
        ValueError: the words are for an array, and this job is of none.
    """
    if ARRAY_INDEX not in arguments.slot:
        return
    index = next((os.environ[name] for name in _INDEX_VARIABLES if os.environ.get(name, "") not in ("", "0")), None)
    if index is None:
        raise ValueError(f"slot {arguments.slot} is for an element of an array, and this job is of none")
    arguments.slot = arguments.slot.replace(ARRAY_INDEX, index)
    if arguments.log is not None:
        directory, name = os.path.split(arguments.log)
        arguments.log = os.path.join(directory, name.replace(ARRAY_INDEX, index))


def _slot(text: str) -> str:
    if not _SLOT.fullmatch(text.replace(ARRAY_INDEX, "1")):
        raise argparse.ArgumentTypeError(f"{text!r} is no slot: letters, digits, '.', '_' and '-'")
    return text


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no time in seconds")
    return value


def _redirect(path: str) -> bool:
    """Let stdout and stderr, ours and those of whatever crashes in us, go to the log."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as error:
        print(f"dfm worker: cannot write the log {path}: {error.strerror}", file=sys.stderr)  # noqa: T201  (there is no log)
        return False
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    os.close(fd)
    return True
