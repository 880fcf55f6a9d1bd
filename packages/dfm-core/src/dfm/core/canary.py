"""The canary: one small task sent the whole way through a runner, just as a run would send it."""

import asyncio
import os
import tempfile
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from dfm.api.batch import Finding, Standing
from dfm.api.errors import InfrastructureError, RunnerError
from dfm.api.runner import Outcome, RunnerPlugin, ShellBody, TaskRequest
from dfm.core.compose import NOT_FOR_TASKS, chosen_runner, open_runner
from dfm.core.config.load import Settings
from dfm.core.runfacts import DaemonUse, RunFacts

_CANARY_SKEW_SECONDS = 2.0
"""`date` tells whole seconds."""


@dataclass(frozen=True, slots=True)
class CanaryReport:
    """How one small task fared on its way through a runner.

    Attributes:
        total_seconds: from opening the runner to the result, waiting in a queue included.
    """

    host: str
    total_seconds: float
    findings: Sequence[Finding]


def canary(settings: Settings, directory: str) -> CanaryReport:
    """Send one small task through the chosen runner, just as a run would, and take it away again.

    Args:
        settings: which runner, with which options.
        directory: shared with the hosts of the runner; a directory is made in it and removed.

    Raises:
        RunnerError: the runner cannot be used, or the task did not come back well.
        InfrastructureError: nothing can be written in the directory.
    """
    plugin, options = chosen_runner(settings)
    try:
        with tempfile.TemporaryDirectory(prefix=".dfm-canary-", dir=directory) as place:
            return asyncio.run(_canary(settings, plugin, options, place))
    except OSError as error:
        raise InfrastructureError(f"cannot write in {directory}: {error.strerror}") from error


async def _canary(settings: Settings, plugin: RunnerPlugin, options: object, place: str) -> CanaryReport:
    run_id = uuid.uuid4().hex
    request = TaskRequest(
        run_id=run_id,
        task="canary",
        attempt=1,
        rundir=place,
        srcdir=place,
        root_pkgdir=place,
        root_rundir=place,
        artefact="canary",
        body=ShellBody("date +%s > clock", "sh"),
        params={},
        inputs=(),
        memento=None,
        env={name: value for name, value in os.environ.items() if name not in NOT_FOR_TASKS},
    )
    notices: list[str] = []
    facts = RunFacts(
        run_id=run_id,
        project=place,
        root_rundir=place,
        environ=request.env,
        notice=notices.append,
        use=DaemonUse.NEVER,
        jobs=1,
    )
    started, started_at = time.monotonic(), time.time_ns()
    async with open_runner(plugin, options, settings, facts) as runner:
        result = await runner.run(request)
    seconds = time.monotonic() - started
    if result.outcome is not Outcome.SUCCEEDED:
        raise RunnerError(f"the canary came back as {result.outcome}: {result.cause}", hint="; ".join(notices) or None)
    return CanaryReport(result.host, seconds, _canary_findings(os.path.join(place, "clock"), started_at))


def _canary_findings(path: str, started_at: int) -> list[Finding]:
    """Tell whether what the task wrote is seen here, and whether its host's clock is ours."""
    try:
        with open(path, encoding="utf-8") as file:
            clock = int(file.read())
    except (OSError, ValueError):
        hint = "the project must lie in a directory that all hosts share; NFS may need `actimeo=0` or `noac`"
        return [Finding(standing=Standing.ERROR, text="what the task wrote cannot be seen here", hint=hint)]
    skew = max(started_at / 1e9 - 1 - clock, clock - time.time_ns() / 1e9, 0.0)
    if skew < _CANARY_SKEW_SECONDS:
        return [Finding(standing=Standing.OK, text="what it wrote is seen here, and the clocks agree")]
    hint = "have both hosts take their time from one NTP server"
    return [Finding(standing=Standing.WARNING, text=f"the clock of its host differs by {skew:.0f} s", hint=hint)]
