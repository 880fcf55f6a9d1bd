"""Which runner a run uses: the command line, else `DFM_RUNNER`, else local."""

from collections.abc import Mapping
from dataclasses import dataclass

DEFAULT_RUNNER = "local"


@dataclass(frozen=True, slots=True)
class ChosenRunner:
    """The runner's name and what chose it."""

    name: str
    origin: str


def choose_runner(flag: str | None, environ: Mapping[str, str]) -> ChosenRunner:
    """Return the runner to use; an empty `DFM_RUNNER` counts as unset."""
    if flag:
        return ChosenRunner(flag, "--runner")
    if environ.get("DFM_RUNNER"):
        return ChosenRunner(environ["DFM_RUNNER"], "DFM_RUNNER")
    return ChosenRunner(DEFAULT_RUNNER, "default")
