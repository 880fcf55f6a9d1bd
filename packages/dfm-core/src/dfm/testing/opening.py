"""A runner opened as `dfm run` opens it, for tests."""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from dfm.api.runner import Answer, Ask, Question, Runner
from dfm.core.compose import open_runner
from dfm.core.config.layers import CliOptions
from dfm.core.config.load import load_settings
from dfm.core.plugins.discovery import load_runner
from dfm.core.pooled import local_dialect, pooled_runner
from dfm.core.runfacts import DaemonUse, RunFacts
from dfm.testing.tasks import RUN_ID, Workspace


async def all_well(task: str, question: Question) -> Answer:  # noqa: ARG001  (an Ask)
    """Answer as a run in which all tasks that a body asks for end well and hand nothing on."""
    tasks = question.get("tasks", ())
    return {"results": [{"name": t["name"], "verdict": "succeeded", "status": 0, "output": []} for t in tasks]}


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
    run_id: str = RUN_ID,
    ask: Ask = all_well,
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
        run_id: of the run; names of batch jobs are made of it, so it must differ where runs share a batch system.
        ask: answers what bodies ask of the run.

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
        run_id=run_id,
        project=project or workspace.root_rundir,
        root_rundir=workspace.root_rundir,
        environ=os.environ,
        notice=_ignored,
        ask=ask,
        use=use,
        jobs=jobs,
    )
    runner = await asyncio.to_thread(open_runner, plugin, settings.runner_options(plugin), settings, facts)
    async with runner:
        yield runner


@asynccontextmanager
async def opened_pool(
    workspace: Workspace, *, environ: Mapping[str, str], project: str, run_id: str = RUN_ID, ask: Ask = all_well
) -> AsyncIterator[Runner]:
    """Open a pool of worker processes on this host, as a run without a daemon hosts one; see `opened`."""
    settings = load_settings(environ, project, CliOptions())
    os.makedirs(workspace.root_rundir, exist_ok=True)
    facts = RunFacts(
        run_id=run_id,
        project=project,
        root_rundir=workspace.root_rundir,
        environ=os.environ,
        notice=_ignored,
        ask=ask,
        use=DaemonUse.NEVER,
    )
    async with pooled_runner(local_dialect(), settings, facts) as runner:
        yield runner


def _ignored(text: str) -> None:
    """Tell nobody: a test looks at results."""
