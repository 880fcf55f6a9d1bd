"""`dfm graph`: the graph of tasks as text for other programs."""

import json
import os
from pathlib import Path

import click

from dfm.api.errors import InfrastructureError, NothingSelectedError
from dfm.core.cli.options import flow_options
from dfm.core.graph.export import to_dot, to_mapping, to_mermaid
from dfm.core.graph.node import Graph
from dfm.core.reading import FlowOptions, graph_of, load


@click.command(name="graph")
@click.argument("tasks", nargs=-1)
@flow_options
@click.option(
    "-f",
    "--format",
    "form",
    type=click.Choice(["dot", "mermaid", "json"]),
    default="dot",
    show_default=True,
)
@click.option("--json", "is_json", is_flag=True, help="The same as --format json.")
@click.option("--show-params", is_flag=True, help="The parameters of each task with their values.")
@click.option("-o", "--output", metavar="FILE", help="Write to FILE instead of stdout.")
def command(
    *,
    tasks: tuple[str, ...],
    flow: FlowOptions,
    form: str,
    is_json: bool,
    show_params: bool,
    output: str | None,
) -> None:
    """Print the graph of TASKS and all they need; without TASKS, of every task of the root package.

    The sub-tasks of a compound task stand in a cluster. What `control` and `generate` do is settled when their turn
    comes; nothing is run for the graph. In JSON the parameters are always there.
    """
    loaded = load(flow, os.environ)
    names = tasks or tuple(name for name, task in loaded.flow.root.tasks.items() if not task.is_template)
    if not names:
        raise NothingSelectedError(f"package {loaded.flow.root.name!r} has no tasks")
    graph = graph_of(loaded, names, os.environ, None)
    text = _text(graph, "json" if is_json else form, show_params=show_params)
    if output is None:
        print(text, end="")
        return
    try:
        Path(output).write_text(text, encoding="utf-8")
    except OSError as error:
        raise InfrastructureError(f"cannot write {output}: {error.strerror}") from error


def _text(graph: Graph, form: str, *, show_params: bool) -> str:
    match form:
        case "mermaid":
            return to_mermaid(graph, show_params=show_params)
        case "json":
            return json.dumps(to_mapping(graph), indent=2, default=str) + "\n"
        case _:
            return to_dot(graph, show_params=show_params)
