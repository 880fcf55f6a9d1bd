"""`dfm show`: tasks and packages of a flow, for people and as JSON."""

import json
import os
from typing import TYPE_CHECKING

import click

from dfm.core.cli.options import flow_options
from dfm.core.compose import FlowOptions, load
from dfm.core.flow.model import Flow, Package, Task
from dfm.core.graph.select import select

if TYPE_CHECKING:
    from collections.abc import Iterable


@click.group(name="show", invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Show the tasks and packages of a flow. Nothing is run."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@command.command(name="tasks")
@flow_options
@click.option(
    "--all",
    "is_all",
    is_flag=True,
    help="Tasks of imported packages and of the standard library too.",
)
@click.option("--json", "is_json", is_flag=True, help="Print one JSON object.")
def tasks(
    *,
    flow: FlowOptions,
    is_all: bool,
    is_json: bool,
) -> None:
    """List tasks with their scope and description."""
    loaded = load(flow, os.environ).flow
    found: Iterable[Task] = loaded.tasks.values() if is_all else loaded.root.tasks.values()
    rows = [_row(task) for task in found]
    if is_json:
        _print_json("tasks", rows)
        return
    width = max((len(str(row["name"])) for row in rows), default=0)
    for row in rows:
        scope = ",".join(_words(row["scope"]))
        print(f"{row['name']:<{width}}  {scope:<8} {row['desc']}".rstrip())


@command.command(name="task")
@click.argument("name")
@flow_options
@click.option("--json", "is_json", is_flag=True, help="Print one JSON object.")
def task(
    *,
    name: str,
    flow: FlowOptions,
    is_json: bool,
) -> None:
    """Show one task: what it needs, its parameters, where it stands."""
    loaded = load(flow, os.environ).flow
    found = loaded.tasks[select(loaded, name).task]
    detail = _detail(found)
    if is_json:
        _print_json("task", [detail])
        return
    for key, value in detail.items():
        if key == "params":
            continue
        shown = ", ".join(_words(value)) if isinstance(value, list) else value
        print(f"{key + ':':<12} {shown}".rstrip())
    print("params:")
    for item in found.assignments:
        value = "" if item.node is None else json.dumps(_plain(item.node))
        kind = f": {item.type}" if item.type else ""
        print(f"  {item.name}{kind} = {value}  {item.doc}".rstrip())


@command.command(name="packages")
@flow_options
@click.option("--json", "is_json", is_flag=True, help="Print one JSON object.")
def packages(
    *,
    flow: FlowOptions,
    is_json: bool,
) -> None:
    """List the packages the flow reaches."""
    loaded = load(flow, os.environ).flow
    rows = [_package(item, loaded) for item in loaded.packages.values()]
    if is_json:
        _print_json("packages", rows)
        return
    width = max(len(str(row["name"])) for row in rows)
    for row in rows:
        print(f"{row['name']:<{width}}  {row['tasks']:>4} tasks  {row['file']}")


def _row(found: Task) -> dict[str, object]:
    return {
        "name": found.name,
        "package": found.package.package,
        "scope": sorted(found.visibility),
        "desc": found.desc,
    }


def _detail(found: Task) -> dict[str, object]:
    return {
        **_row(found),
        "doc": found.doc,
        "file": str(found.location),
        "uses": list(found.bases),
        "needs": [need.target or need.sibling or "" for need in found.needs],
        "body": [sub.name for sub in found.body],
        "matrix": [] if found.matrix is None else list(found.matrix.axes),
        "shell": "" if found.script is None else found.script.shell,
        "tools": list(found.tools),
        "params": {
            item.name: {
                "type": str(item.type) if item.type else None,
                "value": None if item.node is None else _plain(item.node),
                "doc": item.doc,
            }
            for item in found.assignments
        },
    }


def _package(item: Package, flow: Flow) -> dict[str, object]:
    return {
        "name": item.name,
        "root": item is flow.root,
        "desc": item.desc,
        "file": item.file,
        "tasks": len(item.tasks),
    }


def _plain(node: object) -> object:
    from dfm.core.flow.source import Node, to_plain

    assert isinstance(node, Node)
    return to_plain(node)


def _print_json(what: str, rows: list[dict[str, object]]) -> None:
    print(json.dumps({"schema": f"dfm-show-{what}/1", "results": rows, "count": len(rows)}, indent=2))


def _words(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else [str(value)]
