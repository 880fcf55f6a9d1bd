"""Named places where a test can make the process kill itself, to prove what survives.

`DFM_CRASHPOINT=name` (or `name:n`, the n-th time it is passed, from 1) sends SIGKILL to this very process at that
place, provided that `DFM_CRASHPOINT_ARMED=yes` is set beside it, so that no stray variable can do it.
"""

import os
import signal

_NAME, _, _COUNT = os.environ.get("DFM_CRASHPOINT", "").partition(":")
_IS_ARMED = bool(_NAME) and os.environ.get("DFM_CRASHPOINT_ARMED") == "yes"
_passes_left = int(_COUNT) if _COUNT.isdigit() else 1


def crash_point(name: str) -> None:
    """Die here if a test asked for it; free of cost otherwise."""
    if _IS_ARMED and name == _NAME:
        _pass()


def _pass() -> None:
    global _passes_left  # noqa: PLW0603  (one counter for the one armed place of this process)
    _passes_left -= 1
    if _passes_left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
