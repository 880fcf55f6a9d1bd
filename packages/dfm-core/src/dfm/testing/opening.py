"""A runner opened as `dfm run` opens it, for tests."""

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from dfm.api.runner import Runner
from dfm.core.compose import open_runner
from dfm.core.config.layers import CliOptions
from dfm.core.config.load import load_settings
from dfm.core.plugins.discovery import load_runner
from dfm.core.runfacts import DaemonUse, RunFacts
from dfm.testing.tasks import RUN_ID, Workspace


@asynccontextmanager
async def opened(
    name: str,
    workspace: Workspace,
    *,
    jobs: int | None = None,
    options: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
    project: str | None = None,
    use: DaemonUse = DaemonUse.NEVER,
) -> AsyncIterator[Runner]:
    """Open the installed runner `name` with options as `--runner-opt` takes them, and close it.

    Args:
        name: of the runner.
        workspace: of the test.
        jobs: `-j`.
        options: as `--runner-opt` takes them.
        environ: names the settings files; None is that of this process.
        project: directory whose settings and daemon are used; None is the workspace, which has none.
        use: whether the project's daemon is used.

    Raises:
        UsageError: the runner or an option is unknown.
        RunnerError: it cannot be used.
    """
    plugin = load_runner(name)
    settings = load_settings(
        os.environ if environ is None else environ, project, CliOptions(runner=name, runner_options=options)
    )
    os.makedirs(workspace.root_rundir, exist_ok=True)
    facts = RunFacts(
        run_id=RUN_ID,
        project=project or workspace.root_rundir,
        root_rundir=workspace.root_rundir,
        environ=os.environ,
        notice=_ignored,
        use=use,
    )
    async with open_runner(plugin, settings.runner_options(plugin), settings, facts, jobs) as runner:
        yield runner


def _ignored(text: str) -> None:
    """Tell nobody: a test looks at results."""
