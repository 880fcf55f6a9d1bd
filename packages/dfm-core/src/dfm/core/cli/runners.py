"""`dfm runners`: what `--runner` can take here."""

import dataclasses
import json

import click

from dfm.api.errors import DfmError
from dfm.core.plugins.discovery import InstalledRunner, installed_runners, load_runner


@click.command(name="runners")
@click.option("--json", "is_json", is_flag=True, help="Print one JSON object.")
def command(*, is_json: bool) -> None:
    """List the installed runners, the distribution of each, and its options."""
    rows = [_row(runner, installed_runners()) for runner in installed_runners()]
    if is_json:
        print(json.dumps({"schema": "dfm-runners/1", "runners": rows}, indent=2))
        return
    for row in rows:
        print(f"{row['name']:<10} {row['distribution']} {row['version']}: {row['summary'] or row['problem']}")
        options = row["options"]
        assert isinstance(options, list)
        for option in options:
            print(f"    {option['name']}={option['default']}  {option['help']}".rstrip())


def _row(runner: InstalledRunner, known: list[InstalledRunner]) -> dict[str, object]:
    row: dict[str, object] = {
        "name": runner.name,
        "distribution": runner.distribution,
        "version": runner.version,
        "summary": "",
        "state": "ready",
        "problem": None,
        "options": [],
    }
    try:
        plugin = load_runner(runner.name, known)
    except DfmError as error:
        return row | {"state": "broken", "problem": str(error)}
    return row | {
        "summary": plugin.summary,
        "options": [_option(item) for item in dataclasses.fields(plugin.options)],
    }


def _option(item: "dataclasses.Field[object]") -> dict[str, object]:
    default = item.default if item.default is not dataclasses.MISSING else None
    return {"name": item.name, "default": default, "help": item.metadata.get("help", "")}
