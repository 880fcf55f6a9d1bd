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
    status = _run(words)
    if argv is None:
        _leave_at_once(status)
    sys.exit(status)


def _leave_at_once(status: int) -> None:
    """End the process as it stands: to take it apart is a tenth of a small run, and 20 ms after 10,000 tasks.

    All is closed and stopped by now, and what others registered for the end is run. Threads, a profiler or a tracer
    have something left to do, and output that cannot be written has something to tell: then this returns.
    """
    import atexit
    import os
    import threading

    monitoring = getattr(sys, "monitoring", None)  # Python 3.12
    if monitoring is not None and any(monitoring.get_tool(number) for number in range(6)):
        return
    if threading.active_count() > 1 or sys.gettrace() is not None or sys.getprofile() is not None:
        return
    atexit._run_exitfuncs()  # noqa: SLF001  (nothing public runs them without ending the process)
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        return
    os._exit(status)


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
