"""`dfm why`: reasons. `pending` tells for every unfinished task where it stands, since when, and what it waits for."""

import asyncio
import json
import os
from typing import TYPE_CHECKING, Any

import click

from dfm.api.errors import ExitCode, RunnerError
from dfm.core.cli.options import root_option
from dfm.core.compose import daemon_endpoint
from dfm.core.daemon.client import ask_daemon, ask_runs
from dfm.core.daemon.view import clock
from dfm.core.wire.messages import Ask

if TYPE_CHECKING:
    from dfm.core.daemon.endpoint import Endpoint


@click.group(name="why")
def command() -> None:
    """Tell why things are as they are."""


@command.command()
@click.argument("task", default="")
@root_option
@click.option("--json", "is_json", is_flag=True, help="Print one JSON object.")
def pending(*, task: str, root: str | None, is_json: bool) -> int:
    """Tell where the unfinished tasks stand whose names hold TASK; without it, all of them.

    Those of the daemon, and of runs on this host that have workers of their own.
    """
    endpoint = daemon_endpoint(root, os.environ)
    rows = asyncio.run(_rows(endpoint, Ask(verb="why", task=task)))
    if is_json:
        print(json.dumps({"schema": "dfm-why-pending/1", "project": endpoint.project, "tasks": rows}, indent=1))
        return ExitCode.OK
    if not rows:
        print("no unfinished task" + (f" is named like {task!r}" if task else ""))
    for row in rows:
        where = f" on {row['host']}" if row["host"] else ""
        print(f"{row['task']}  {row['state']}{where} for {clock(row['since_seconds'])}")
        print(f"  {row['reason']}")
        print(f"  looked at again in {row['checked_again_in_seconds']:.0f} s at the latest")
    return ExitCode.OK


async def _rows(endpoint: "Endpoint", ask: Ask) -> list[dict[str, Any]]:
    """Return the unfinished tasks.

    Raises:
        RunnerError: there is neither a daemon nor a run that could be asked.
    """
    answers = await ask_runs(endpoint.project, ask)
    try:
        answers.append(await ask_daemon(endpoint, ask))
    except RunnerError as error:
        if not answers:
            raise RunnerError(
                f"{error.message}, and no run with workers of its own is under way on this host", hint=error.hint
            ) from error
    rows: list[dict[str, Any]] = []
    for answer in answers:
        found = answer["tasks"]
        assert isinstance(found, list)
        rows += found
    return rows
