"""`dfm show`: what is in a flow, for people and as JSON. Nothing of the flow is run."""

import json
import os
from collections.abc import Callable, Sequence
from typing import TypeVar

import click

from dfm.api.errors import UsageError
from dfm.core.cli import describe, narrow
from dfm.core.cli.describe import Row
from dfm.core.cli.options import flow_options
from dfm.core.cli.table import print_fields, print_table
from dfm.core.flow.diagnostics import FlowInvalid
from dfm.core.flow.model import Flow, Task, Type
from dfm.core.flow.source import to_plain
from dfm.core.graph.node import Node
from dfm.core.graph.select import Selection, select
from dfm.core.reading import FlowOptions, LoadedFlow, graph_of, load

R = TypeVar("R")
_ALL = "all"
_LONGEST_VALUE = 60

_json = click.option("--json", "is_json", is_flag=True, help="Print one JSON object.")
_verbose = click.option("-v", "--verbose", "is_verbose", is_flag=True, help="Tell more.")
_search = click.option(
    "--search",
    multiple=True,
    metavar="TEXT",
    help="Only what has TEXT in its name or help; all of them where it is given more than once.",
)
_regex = click.option(
    "--regex",
    multiple=True,
    metavar="PATTERN",
    help="Only what has a match in its name or help, of all of them where it is given more than once.",
)
_tag = click.option(
    "--tag",
    "wanted_tags",
    multiple=True,
    metavar="TYPE[:FIELD=VALUE]",
    help="Only what bears a tag of this type, with this value; all of them where it is given more than once.",
)


def _options(*options: Callable[..., Callable[..., R]]) -> Callable[[Callable[..., R]], Callable[..., R]]:
    def added(command: Callable[..., R]) -> Callable[..., R]:
        for option in reversed(options):
            command = option(command)
        return command

    return added


_list_options = _options(flow_options, _search, _regex, _tag, _verbose, _json)


@click.group(name="show", invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Show what is in a flow. Nothing is run."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@command.command(name="tasks")
@_list_options
@click.option("--package", "wanted_packages", multiple=True, metavar="NAME", help="Tasks of this package, or of these.")
@click.option("--all", "is_all", is_flag=True, help="Tasks of every package, the standard library included.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice(["root", "export", "local", "package"]),
    help="Tasks of this scope, or of one of these.",
)
@click.option(
    "--produces",
    multiple=True,
    metavar="KEY=VALUE[,...]",
    help="Tasks that say they produce items with these fields, of all the kinds where it is given more than once.",
)
def tasks(
    *,
    flow: FlowOptions,
    search: Sequence[str],
    regex: Sequence[str],
    wanted_tags: Sequence[str],
    wanted_packages: Sequence[str],
    is_all: bool,
    scopes: Sequence[str],
    produces: Sequence[str],
    is_verbose: bool,
    is_json: bool,
) -> None:
    """List tasks with their scope and description: those of the root package, where nothing else is asked for."""
    loaded = load(flow, os.environ)
    found = _tasks_of(loaded.flow, wanted_packages, is_all=is_all)
    if scopes:
        found = [task for task in found if not task.visibility.isdisjoint(scopes)]
    if wanted_tags:
        bears = narrow.tag_filter(loaded.flow, wanted_tags)
        found = [task for task in found if bears(task.tags)]
    if produces:
        wanted = [narrow.produced_fields(text) for text in produces]
        made = _produced(loaded, found)
        found = [task for task in found if all(narrow.produces(made[task.name], fields) for fields in wanted)]
    rows = narrow.by_text([describe.task_row(task) for task in found], search, regex)
    filters: Row = {
        **_said(search=search, regex=regex, package=wanted_packages, scope=scopes, produces=produces),
        "tag": list(wanted_tags),
    }
    if is_json:
        _print_json("tasks", rows, filters)
    elif is_verbose:
        _print_rows(
            ["name", "scope", "desc", "uses", "needs", "place"],
            [[r["name"], r["scope"], r["desc"], r["uses"], r["needs"], f"{r['file']}:{r['line']}"] for r in rows],
        )
    else:
        _print_rows(["name", "scope", "desc"], [[r["name"], r["scope"], r["desc"]] for r in rows])


def _said(**filters: Sequence[str]) -> Row:
    """Return filters as they are told in JSON: nothing, the one text, or a list where there are several."""
    return {name: list(said) if len(said) > 1 else next(iter(said), None) for name, said in filters.items()}


def _tasks_of(flow: Flow, packages: Sequence[str], *, is_all: bool) -> list[Task]:
    if packages:
        return [task for package in narrow.known_packages(flow, packages) for task in package.tasks.values()]
    return list(flow.tasks.values() if is_all else flow.root.tasks.values())


def _produced(loaded: LoadedFlow, found: Sequence[Task]) -> dict[str, list[Row]]:
    """Return what each task says it produces, with the values of its parameters where they can be known."""
    written: dict[str, list[Row]] = {task.name: [to_plain(pattern) for pattern in task.produces] for task in found}
    unknown = [name for name, patterns in written.items() if "${{" in json.dumps(patterns)]
    for name in unknown:
        try:
            graph = graph_of(loaded, [name], os.environ, None)
        except (FlowInvalid, UsageError):
            continue
        written[name] = [dict(pattern) for pattern in graph.nodes[graph.targets[0]].produces] or written[name]
    return written


@command.command(name="task")
@click.argument("name")
@flow_options
@click.option(
    "--needs",
    "depth",
    is_flag=False,
    flag_value=_ALL,
    metavar="[DEPTH]",
    help="Also what it needs, what that needs, and so on, DEPTH steps far.",
)
@_verbose
@_json
def task(*, name: str, flow: FlowOptions, depth: str | None, is_verbose: bool, is_json: bool) -> None:
    """Show the task NAME: its parameters with their values, what it needs, where it stands."""
    if depth is not None and depth != _ALL and not depth.isdecimal():
        raise UsageError(f"--needs {depth!r} is not a number of steps", hint="--needs alone goes to the end")
    steps = None if depth is None or depth == _ALL else int(depth)
    loaded = load(flow, os.environ)
    meant = _meant(loaded.flow, name)
    node = _node(loaded, meant.node or meant.task)
    found = loaded.flow.tasks[meant.task]
    if meant.node is not None:
        found = narrow.sub_task(found, meant.node) if node is None else node.task
    detail = describe.task_detail(found, {} if node is None else node.params)
    if node is not None and node.produces:
        detail["produces"] = [dict(pattern) for pattern in node.produces]
    if depth is not None:
        detail["needs_chain"] = describe.needs_chain(loaded.flow, found, steps)
    if is_json:
        _print_json("task", [detail])
        return
    _print_task(detail, is_verbose=is_verbose)


def _meant(flow: Flow, name: str) -> Selection:
    """Return the task that is meant; a template is shown too, though it cannot be run."""
    for candidate in (name, f"{flow.root.name}.{name}"):
        if candidate in flow.tasks:
            return Selection(candidate)
    return select(flow, name)


def _node(loaded: LoadedFlow, name: str) -> Node | None:
    """Return the task with its values; None where the flow has faults, which are for `dfm validate` to tell."""
    try:
        graph = graph_of(loaded, [name], os.environ, None)
    except (FlowInvalid, UsageError):
        return None
    return graph.nodes[graph.targets[0]]


def _print_task(detail: Row, *, is_verbose: bool) -> None:
    control = detail["control"]
    fields: list[tuple[str, object]] = [
        ("task", detail["name"]),
        ("desc", detail["desc"]),
        ("doc", detail["doc"]),
        ("place", f"{detail['file']}:{detail['line']}"),
        ("scope", detail["scope"]),
        ("uses", detail["bases"] if is_verbose else detail["uses"]),
        ("tags", [_shown_tag(tag) for tag in _list(detail["tags"])]),
        ("needs", detail["needs"]),
        ("consumes", _shown(detail["consumes"])),
        ("passthrough", _shown(detail["passthrough"])),
        ("produces", [_shown(pattern) for pattern in _list(detail["produces"])]),
        ("iff", detail["iff"]),
        ("matrix", [f"{axis}: {_shown(values)}" for axis, values in _mapping(detail["matrix"]).items()]),
        ("control", _shown_control(control) if isinstance(control, dict) else None),
        ("generate", "yes" if detail["generate"] else None),
        ("body", detail["body"]),
        ("shell", detail["shell"]),
        ("rundir", detail["rundir"]),
        ("tools", detail["tools"]),
        ("env", detail["env"]),
    ]
    print_fields(fields if not is_verbose else [*fields, ("run", detail["run"])])
    _print_parameters(_mapping(detail["params"]))
    if "needs_chain" in detail:
        print("\nneeds:")
        rows = _list(detail["needs_chain"])
        for row in rows:
            level, needed_by = row["depth"], row["needed_by"]
            assert isinstance(level, int)
            print(f"{'  ' * level}{row['name']}  (for {_shown_names(needed_by)})")


def _print_parameters(params: Row) -> None:
    if not params:
        return
    print()
    rows = []
    for name, item in params.items():
        said = _mapping(item)
        rows.append([name, said["type"] or "", _cut(_shown(said["value"])), said["doc"]])
    print_table(["param", "type", "value", "doc"], rows)


@command.command(name="packages")
@_list_options
def packages(
    *,
    flow: FlowOptions,
    search: Sequence[str],
    regex: Sequence[str],
    wanted_tags: Sequence[str],
    is_verbose: bool,
    is_json: bool,
) -> None:
    """List the packages that the flow reaches."""
    loaded = load(flow, os.environ).flow
    bears = narrow.tag_filter(loaded, wanted_tags)
    found = [item for item in loaded.packages.values() if bears(item.tags)]
    rows = narrow.by_text([describe.package_row(item, loaded) for item in found], search, regex)
    if is_json:
        _print_json("packages", rows, {**_said(search=search, regex=regex), "tag": list(wanted_tags)})
        return
    head = ["name", "tasks", "types", "desc", *(["file"] if is_verbose else [])]
    _print_rows(head, [[row[key] for key in head] for row in rows])


@command.command(name="package")
@click.argument("name")
@flow_options
@_verbose
@_json
def package(*, name: str, flow: FlowOptions, is_verbose: bool, is_json: bool) -> None:
    """Show the package NAME: its parameters, imports, tasks and types."""
    loaded = load(flow, os.environ).flow
    detail = describe.package_detail(loaded.packages[narrow.known_package(loaded, name)], loaded)
    if is_json:
        _print_json("package", [detail])
        return
    _print_package("package", detail, is_verbose=is_verbose)


@command.command(name="project")
@flow_options
@click.option("--imports", "is_imports", is_flag=True, help="Only the packages that it imports.")
@click.option("--configs", "is_configs", is_flag=True, help="Only its configurations.")
@_verbose
@_json
def project(*, flow: FlowOptions, is_imports: bool, is_configs: bool, is_verbose: bool, is_json: bool) -> None:
    """Show the root package: what it offers, and what it is made of."""
    detail = describe.project_detail(load(flow, os.environ).flow)
    wanted = [*(("imports", "aliases") if is_imports else ()), *(("configs",) if is_configs else ())]
    if wanted:
        detail = {key: detail[key] for key in ("name", *wanted)}
    if is_json:
        _print_json("project", [detail])
    elif wanted:
        print_fields([("project", detail["name"]), *[(key, _told(detail[key])) for key in wanted]])
    else:
        _print_package("project", detail, is_verbose=is_verbose)


def _told(value: object) -> object:
    return [f"{name} = {other}" for name, other in value.items()] if isinstance(value, dict) else value


def _print_package(what: str, detail: Row, *, is_verbose: bool) -> None:
    aliases = _mapping(detail["aliases"])
    fields: list[tuple[str, object]] = [
        (what, detail["name"]),
        ("desc", detail["desc"]),
        ("doc", detail["doc"]),
        ("file", detail["file"]),
        ("tags", [_shown_tag(tag) for tag in _list(detail["tags"])]),
        ("imports", detail["imports"]),
        ("aliases", _told(aliases)),
        ("configs", detail["configs"]),
        ("filters", detail["filters"]),
        ("root tasks", detail.get("root_tasks")),
        ("exports", detail.get("export_tasks")),
        ("locals", detail.get("local_tasks")),
        ("tasks", detail["task_names"]),
        ("types", detail["type_names"]),
    ]
    if is_verbose:
        fields += [("packages", detail.get("packages")), ("files", detail.get("files"))]
    print_fields(fields)
    _print_parameters(_mapping(detail["params"]))


@command.command(name="types")
@_list_options
@click.option("--package", "wanted_packages", multiple=True, metavar="NAME", help="Types of this package, or of these.")
@click.option("--all", "is_all", is_flag=True, help="Types of every package, the standard library included.")
@click.option("--tags-only", is_flag=True, help="Only types of tags.")
@click.option("--data-items-only", is_flag=True, help="Only types of data items.")
def types(
    *,
    flow: FlowOptions,
    search: Sequence[str],
    regex: Sequence[str],
    wanted_tags: Sequence[str],
    wanted_packages: Sequence[str],
    is_all: bool,
    tags_only: bool,
    data_items_only: bool,
    is_verbose: bool,
    is_json: bool,
) -> None:
    """List types with the fields they have: those of the packages that the flow is made of."""
    if tags_only and data_items_only:
        raise UsageError("--tags-only and --data-items-only contradict each other")
    loaded = load(flow, os.environ).flow
    bears = narrow.tag_filter(loaded, wanted_tags)
    found = [kind for kind in _types_of(loaded, wanted_packages, is_all=is_all) if bears(kind.tags)]
    if tags_only:
        found = [kind for kind in found if describe.is_tag(kind)]
    if data_items_only:
        found = [kind for kind in found if describe.is_data_item(kind)]
    rows = narrow.by_text([describe.type_row(kind) for kind in found], search, regex)
    if is_json:
        filters: Row = {
            **_said(search=search, regex=regex, package=wanted_packages),
            "tag": list(wanted_tags),
            "tags_only": tags_only,
            "data_items_only": data_items_only,
        }
        _print_json("types", rows, filters)
        return
    lines = [[row["name"], row["uses"], list(_mapping(row["params"])), row["desc"] or row["doc"]] for row in rows]
    places = [[f"{row['file']}:{row['line']}"] for row in rows]
    head = ["name", "uses", "fields", "desc"]
    if is_verbose:
        head, lines = [*head, "place"], [[*line, *place] for line, place in zip(lines, places, strict=True)]
    _print_rows(head, lines)


def _types_of(flow: Flow, wanted: Sequence[str], *, is_all: bool) -> list[Type]:
    packages = [item for item in flow.packages.values() if is_all or item.name != describe.STANDARD]
    if wanted:
        packages = narrow.known_packages(flow, wanted)
    return [kind for item in packages for kind in item.types.values()]


@command.command(name="tags")
@_options(flow_options, _search, _regex, _verbose, _json)
def tags(*, flow: FlowOptions, search: Sequence[str], regex: Sequence[str], is_verbose: bool, is_json: bool) -> None:
    """List the types of tags, and how many packages, tasks and types bear each."""
    loaded = load(flow, os.environ).flow
    rows = narrow.by_text(describe.tag_rows(loaded), search, regex)
    if is_json:
        _print_json("tags", rows, _said(search=search, regex=regex))
        return
    head = ["name", "used", "fields", "desc", *(["used by"] if is_verbose else [])]
    lines = [
        [row["name"], row["usage_count"], list(_mapping(row["params"])), row["desc"] or row["doc"]] for row in rows
    ]
    used_by = [[row["used_by"]] for row in rows]
    _print_rows(head, [[*line, *by] for line, by in zip(lines, used_by, strict=True)] if is_verbose else lines)


def _print_rows(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    if rows:
        print_table(head, rows)
    else:
        click.echo("nothing is found", err=True)


def _print_json(what: str, rows: Sequence[Row], filters: Row | None = None) -> None:
    answer: Row = {"schema": f"dfm-show-{what}/1"}
    if filters is not None:
        answer["filters"] = filters
    print(json.dumps({**answer, "results": rows, "count": len(rows)}, indent=2, default=str))


def _shown_tag(tag: object) -> str:
    said = _mapping(tag)
    fields = ", ".join(f"{name}={_shown(value)}" for name, value in _mapping(said["fields"]).items())
    return f"{said['type']}({fields})"


def _shown_names(value: object) -> str:
    assert isinstance(value, list)
    return ", ".join(value)


def _shown_control(control: Row) -> str:
    limit = "" if control["limit"] is None else f", at most {control['limit']}"
    return f"{control['type']} {control['condition'] or ''}".rstrip() + limit


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 3]}..."


def _mapping(value: object) -> Row:
    assert isinstance(value, dict)
    return value


def _list(value: object) -> list[Row]:
    assert isinstance(value, list)
    return value
