"""Named places where a test can make the process kill or freeze itself, to prove what survives.

`DFM_CRASHPOINT=name` (or `name:n`, the n-th time it is passed, from 1) sends SIGKILL to this very process at that
place, provided that `DFM_CRASHPOINT_ARMED=yes` is set beside it, so that no stray variable can do it. With
`DFM_CRASHPOINT_ARMED=stop` it is SIGSTOP: the process goes on from there once somebody sends SIGCONT.
"""

import os
import signal

_NAME, _, _COUNT = os.environ.get("DFM_CRASHPOINT", "").partition(":")
_SIGNAL = {"yes": signal.SIGKILL, "stop": signal.SIGSTOP}.get(os.environ.get("DFM_CRASHPOINT_ARMED", ""))
IS_ARMED = bool(_NAME) and _SIGNAL is not None
"""Whether a test wants something of this process: names that cost something to make need not be made else."""
_passes_left = int(_COUNT) if _COUNT.isdigit() else 1


def crash_point(name: str) -> None:
    """Die or freeze here if a test asked for it; free of cost otherwise."""
    if IS_ARMED and name == _NAME:
        _pass()


def _pass() -> None:
    global _passes_left  # noqa: PLW0603  (one counter for the one armed place of this process)
    _passes_left -= 1
    if _passes_left == 0:
        assert _SIGNAL is not None
        os.kill(os.getpid(), _SIGNAL)
