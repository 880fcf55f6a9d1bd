"""Errors a person can act on, and where in a file they come from.

Everything here is a person's mistake or the world's fault, never a bug: a bug is a plain exception with its traceback.
A message says what was wrong, with which value; the location says where; the hint says what to do.
"""

import enum
from dataclasses import dataclass


class ExitCode(enum.IntEnum):
    """The exit status of every `dfm` command; the table in docs/reference/exit-codes.md is the promise."""

    OK = 0
    TASK_FAILED = 1
    USAGE = 2
    FLOW_INVALID = 3
    NOTHING_SELECTED = 4
    INFRASTRUCTURE = 6
    RUNNER_UNAVAILABLE = 7
    INTERNAL = 70
    INTERRUPTED = 130
    TERMINATED = 143


@dataclass(frozen=True, slots=True, order=True)
class SourceLocation:
    """A place in a file a person wrote; `line` and `column` count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class DfmError(Exception):
    """What went wrong, with its value; where; and what to do about it.

    Args:
        message: one line, lower case, no full stop.
        hint: what the person can do, such as "did you mean 'queue'?".
        location: the place in a person's file that caused it.
    """

    exit_code = ExitCode.TASK_FAILED

    def __init__(self, message: str, *, hint: str | None = None, location: SourceLocation | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.location = location

    def __str__(self) -> str:
        where = f"{self.location}: " if self.location else ""
        return f"{where}{self.message}"


class UsageError(DfmError):
    """The command line asks for something that cannot be: an unknown task, option or runner."""

    exit_code = ExitCode.USAGE


class FlowError(DfmError):
    """The flow or a settings file is not valid."""

    exit_code = ExitCode.FLOW_INVALID


class NothingSelectedError(DfmError):
    """The command is well formed and selects no work."""

    exit_code = ExitCode.NOTHING_SELECTED


class RunnerError(DfmError):
    """The runner, or what it stands on, cannot be used."""

    exit_code = ExitCode.RUNNER_UNAVAILABLE


class InfrastructureError(DfmError):
    """The machine failed us: a directory that cannot be written, a disk that is full."""

    exit_code = ExitCode.INFRASTRUCTURE
