"""What a run's pool must know of the run, apart from the pools themselves: a run without one never imports them."""

import enum
from collections.abc import Callable, Mapping

from msgspec import Struct

from dfm.api.events import RunnerWaits, TaskMoved
from dfm.api.runner import Ask, nobody_asks

Tell = Callable[[TaskMoved | RunnerWaits], None]
"""Takes in how a run's tasks stand with its runner."""


def nobody_listens(event: TaskMoved | RunnerWaits) -> None:
    """Take no notice."""


class DaemonUse(enum.Enum):
    """Whether a run uses a daemon."""

    AUTO = "auto"
    """Where one answers that serves the same runner."""
    ALWAYS = "always"
    NEVER = "never"


class RunFacts(Struct, frozen=True, kw_only=True):
    """What a run's pool must know of the run.

    Attributes:
        project: directory of the root flow file.
        environ: of the run's tasks, before what may not travel is left out.
        ask: takes questions of running bodies to the run.
        tell: is told how the run's tasks stand.
        jobs: `-j`; None where it was not given.
    """

    run_id: str
    project: str
    root_rundir: str
    environ: Mapping[str, str]
    notice: Callable[[str], None]
    ask: Ask = nobody_asks
    tell: Tell = nobody_listens
    use: DaemonUse = DaemonUse.AUTO
    jobs: int | None = None
