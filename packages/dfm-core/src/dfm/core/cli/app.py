"""The command `dfm`: its sub-commands by name, each imported only when it is called, and what becomes of errors.

`--version` is answered before click is imported. A DfmError is told in a few lines and ends with its own exit status;
anything else is a bug: it gets a traceback, a place to report it, and status 70.
"""

import sys
from collections.abc import Sequence

from dfm.core.__about__ import ISSUES, __version__


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its status."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words in (["--version"], ["-V"]):
        print(f"dfm {__version__}")
        sys.exit(0)
    sys.exit(_run(words))


def _run(words: list[str]) -> int:
    import click

    from dfm.api.errors import DfmError, ExitCode
    from dfm.core.cli.group import dfm

    try:
        status = dfm.main(args=words, prog_name="dfm", standalone_mode=False)
    except DfmError as error:
        _print_error(error)
        return error.exit_code
    except click.exceptions.Abort:
        return ExitCode.INTERRUPTED
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return ExitCode.USAGE
    except BrokenPipeError:
        return _leave_broken_pipe()
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except Exception:  # noqa: BLE001  (the last place: a bug must be told, with all that is known)
        return _print_bug()
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        return _leave_broken_pipe()
    return status if isinstance(status, int) else 0


def _print_error(error: Exception) -> None:
    import contextlib

    from dfm.core.cli.errors import shown

    with contextlib.suppress(OSError):  # a full disk takes no message either; the status still tells
        print(shown(error), file=sys.stderr)


def _print_bug() -> int:
    import traceback

    from dfm.api.errors import ExitCode

    traceback.print_exc()
    print(
        f"\ndfm {__version__}: this is a bug in DFM, not in your flow.\n"
        f"Please report it with the lines above and your flow file: {ISSUES}",
        file=sys.stderr,
    )
    return ExitCode.INTERNAL


def _leave_broken_pipe() -> int:
    """Point stdout to nothing, so that Python's own flush at exit does not fail again."""
    import os

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
