"""`dfm validate`: every fault of a flow, without running anything."""

import json
import os

import click
from msgspec.structs import replace

from dfm.api.errors import ExitCode
from dfm.core.cli.options import flow_options
from dfm.core.flow.diagnostics import Diagnostic, FlowInvalid, render
from dfm.core.graph.check import untaken_items, unused_tasks
from dfm.core.reading import FlowOptions, load, validate


@click.command(name="validate")
@click.argument("file", required=False)
@flow_options
@click.option("--json", "is_json", is_flag=True, help="Print one JSON object.")
def command(
    *,
    file: str | None,
    flow: FlowOptions,
    is_json: bool,
) -> int:
    """Check the flow in FILE (or the one found from here) and everything it reaches. Nothing is run.

    Every fault is told at once: what is not a flow, names that lead nowhere, needs in a circle, values that cannot be
    evaluated. Warnings tell of tasks that nothing uses, and of tasks that consume nothing of what they need produces.

    Exit status 0 when it is valid, warnings or not; 3 when it is not.
    """
    warnings: list[Diagnostic] = []
    errors: list[Diagnostic] = []
    tasks = 0
    try:
        loaded = load(flow if file is None else replace(flow, root=file), os.environ, is_thorough=True)
        tasks = len(loaded.flow.root.tasks)
        warnings += [*loaded.flow.warnings, *unused_tasks(loaded.flow)]
        if tasks:
            warnings += untaken_items(validate(loaded, os.environ))
    except FlowInvalid as invalid:
        errors += invalid.diagnostics
        warnings += invalid.warnings
    if is_json:
        print(
            json.dumps(
                {
                    "schema": "dfm-validate/1",
                    "valid": not errors,
                    "errors": [_shown(item) for item in errors],
                    "warnings": [_shown(item) for item in warnings],
                    "error_count": len(errors),
                    "warning_count": len(warnings),
                }
            )
        )
    else:
        for item in [*warnings, *errors]:
            click.echo(render(item), err=True)
        print(
            f"{_count(len(errors), 'error')}, {_count(len(warnings), 'warning')}"
            if errors or warnings
            else f"valid: {_count(tasks, 'task')}"
        )
    return ExitCode.FLOW_INVALID if errors else ExitCode.OK


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _shown(item: Diagnostic) -> dict[str, object]:
    where = item.location
    return {
        "code": item.code,
        "message": item.message,
        "hint": item.hint,
        "location": None if where is None else {"file": where.file, "line": where.line, "column": where.column},
    }
