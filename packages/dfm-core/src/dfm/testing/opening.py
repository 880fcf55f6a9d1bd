"""A runner opened as `dfm run` opens it, for tests."""

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from dfm.api.runner import Runner
from dfm.core.compose import lend
from dfm.core.config.layers import CliOptions
from dfm.core.config.load import load_settings
from dfm.core.plugins.discovery import load_runner
from dfm.testing.tasks import RUN_ID, Workspace


@asynccontextmanager
async def opened(
    name: str,
    workspace: Workspace,
    *,
    jobs: int | None = None,
    options: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
) -> AsyncIterator[Runner]:
    """Open the installed runner `name` with options as `--runner-opt` takes them, and close it.

    Raises:
        UsageError: the runner or an option is unknown.
        RunnerError: it cannot be used.
    """
    plugin = load_runner(name)
    settings = load_settings(
        os.environ if environ is None else environ, None, CliOptions(runner=name, runner_options=options)
    )
    os.makedirs(workspace.root_rundir, exist_ok=True)
    context = lend(root_rundir=workspace.root_rundir, run_id=RUN_ID, jobs=jobs, notice=_ignored)
    async with plugin.open(context, settings.runner_options(plugin)) as runner:
        yield runner


def _ignored(text: str) -> None:
    """Tell nobody: a test looks at results."""
