"""`dfm why`: reasons. `pending` tells for every unfinished task where it stands, since when, and what it waits for."""

import asyncio
import json
import os

import click

from dfm.api.errors import ExitCode
from dfm.core.cli.options import root_option
from dfm.core.compose import daemon_endpoint
from dfm.core.daemon.client import ask_daemon
from dfm.core.daemon.view import clock
from dfm.core.wire.messages import Ask


@click.group(name="why")
def command() -> None:
    """Tell why things are as they are."""


@command.command()
@click.argument("task", default="")
@root_option
@click.option("--json", "is_json", is_flag=True, help="Print one JSON object.")
def pending(*, task: str, root: str | None, is_json: bool) -> int:
    """Tell where the unfinished tasks of the daemon stand whose names hold TASK; without it, all of them."""
    endpoint = daemon_endpoint(root, os.environ)
    content = asyncio.run(ask_daemon(endpoint, Ask(verb="why", task=task)))
    if is_json:
        print(json.dumps({"schema": "dfm-why-pending/1", **content}, indent=1))
        return ExitCode.OK
    rows = content["tasks"]
    assert isinstance(rows, list)
    if not rows:
        print("no unfinished task" + (f" is named like {task!r}" if task else ""))
    for row in rows:
        where = f" on {row['host']}" if row["host"] else ""
        print(f"{row['task']}  {row['state']}{where} for {clock(row['since_seconds'])}")
        print(f"  {row['reason']}")
        print(f"  looked at again in {row['checked_again_in_seconds']:.0f} s at the latest")
    return ExitCode.OK
