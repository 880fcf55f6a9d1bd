"""Tasks, packages, types and tags as JSON-like values: what `dfm show --json` prints, and what its tables are made of.

These values are a promise to programs: a field is added, never renamed, without a new number in the schema's name.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from dfm.core.flow.model import Assignment, Flow, Need, Package, Patterns, Tag, Task, Type
from dfm.core.flow.source import to_plain
from dfm.core.flow.values import Deferred
from dfm.core.graph.export import shown_condition

STANDARD = "std"
TAG = "std.Tag"
DATA_ITEM = "std.DataItem"
Row = dict[str, object]
Values = Mapping[str, object]


def task_row(task: Task) -> Row:
    """Return what a list of tasks says of one."""
    return {
        "name": task.name,
        "short_name": task.name.removeprefix(f"{task.package.package}."),
        "package": task.package.package,
        "scope": sorted(task.visibility),
        "desc": task.desc,
        "doc": task.doc,
        "uses": task.bases[0] if task.bases else None,
        "needs": [need_name(need) for need in task.needs],
        "tags": [tag_value(tag) for tag in task.tags],
        "file": task.location.file,
        "line": task.location.line,
    }


def task_detail(task: Task, values: Values) -> Row:
    """Return all that is known of a task; `values` are its evaluated parameters, as far as they could be evaluated."""
    return {
        **task_row(task),
        "bases": list(task.bases),
        "emits": task.emits,
        "consumes": _rule(task.consumes),
        "passthrough": _rule(task.passthrough),
        "produces": [to_plain(pattern) for pattern in task.produces],
        "rundir": "inherit" if task.inherits_rundir else "unique",
        "iff": None if task.iff is None else to_plain(task.iff),
        "shell": None if task.script is None else task.script.shell,
        "run": None if task.script is None else task.script.text.value,
        "body": [sub.name for sub in task.sub_tasks],
        "matrix": {} if task.matrix is None else {name: to_plain(axis) for name, axis in task.matrix.axes.items()},
        "control": _control(task),
        "generate": None if task.generator is None else task.generator.text.value,
        "template": task.is_template,
        "tools": list(task.tools),
        "env": list(task.environment),
        "always_runs": task.always_runs,
        "params": parameters(task.assignments, values),
    }


def parameters(assignments: Iterable[Assignment], values: Values) -> Row:
    """Return each parameter with its type, its value, its help, and what is written where that is an expression."""
    statements: dict[str, list[Assignment]] = {}
    for item in assignments:
        statements.setdefault(item.name, []).append(item)
    return {name: _parameter(said, values) for name, said in statements.items()}


def _parameter(statements: Sequence[Assignment], values: Values) -> Row:
    name = statements[0].name
    kind = next((item.type for item in reversed(statements) if item.type is not None), None)
    written = next((to_plain(item.node) for item in reversed(statements) if item.node is not None), None)
    value = values.get(name, written if written is not None or kind is None else kind.empty)
    is_deferred = isinstance(value, Deferred)
    value = to_plain(value.node) if isinstance(value, Deferred) else value
    return {
        "type": None if kind is None else str(kind),
        "value": value,
        "written": written if written != value else None,
        "deferred": is_deferred,
        "doc": next((item.doc for item in reversed(statements) if item.doc), ""),
    }


def need_name(need: Need) -> str:
    """Return what a need means: a task, a sibling by its own name, or `X.needs`."""
    name = need.target or need.sibling
    assert name is not None, "what is needed was found when the flow was resolved"
    return f"{name}.needs" if need.is_needs_of else name


def needs_chain(flow: Flow, task: Task, depth: int | None) -> list[Row]:
    """Return what a task needs, and what that needs, each once with the length of the shortest way to it.

    It goes `depth` steps far, None is to the end.
    """
    found: dict[str, Row] = {}
    front = [task]
    level = 0
    while front and (depth is None or level < depth):
        level += 1
        following: list[Task] = []
        for current in front:
            for need in _outer_needs(current):
                row = found.get(need)
                if row is None:
                    row = found[need] = {"name": need, "depth": level, "needed_by": []}
                    if need in flow.tasks:
                        following.append(flow.tasks[need])
                needed_by = row["needed_by"]
                assert isinstance(needed_by, list)
                if current.name not in needed_by[-1:]:
                    needed_by.append(current.name)
        front = following
    return list(found.values())


def _outer_needs(task: Task) -> Iterator[str]:
    """Yield the tasks of packages that a task and its sub-tasks name as needs."""
    stack = [task]
    while stack:
        current = stack.pop()
        yield from (need_name(need) for need in current.needs if need.target is not None)
        stack.extend(current.sub_tasks)


def package_row(package: Package, flow: Flow) -> Row:
    """Return what a list of packages says of one."""
    return {
        "name": package.name,
        "root": package is flow.root,
        "desc": package.desc,
        "doc": package.doc,
        "file": package.file,
        "tasks": len(package.tasks),
        "types": len(package.types),
        "tags": [tag_value(tag) for tag in package.tags],
    }


def package_detail(package: Package, flow: Flow) -> Row:
    """Return all that is known of a package."""
    return {
        **package_row(package, flow),
        "imports": sorted({scope.package for scope in package.scope.imports.values()}),
        "aliases": {alias: scope.package for alias, scope in package.scope.imports.items() if alias != scope.package},
        "configs": list(package.configs),
        "filters": sorted(package.scope.filters),
        "params": parameters(package.parameters, package.scope.params),
        "task_names": list(package.tasks),
        "type_names": list(package.types),
    }


def project_detail(flow: Flow) -> Row:
    """Return the root package with what its tasks are offered for."""
    own = flow.root.tasks.values()
    detail = package_detail(flow.root, flow)
    imports = detail["imports"]
    assert isinstance(imports, list)
    return {
        **detail,
        "root_tasks": [task.name for task in own if "root" in task.visibility],
        "export_tasks": [task.name for task in own if "export" in task.visibility],
        "local_tasks": [task.name for task in own if "local" in task.visibility],
        "packages": sorted(flow.packages),
        "files": list(flow.files),
        "counts": {
            "tasks": len(flow.root.tasks),
            "types": len(flow.root.types),
            "imports": len(imports),
            "packages": len(flow.packages),
        },
    }


def type_row(kind: Type) -> Row:
    """Return what is known of a type."""
    return {
        "name": kind.name,
        "package": package_of(kind.name),
        "desc": kind.desc,
        "doc": kind.doc,
        "uses": kind.bases[0] if kind.bases else None,
        "bases": list(kind.bases),
        "is_tag": is_tag(kind),
        "tags": [tag_value(tag) for tag in kind.tags],
        "params": parameters(kind.fields, {}),
        "file": kind.location.file,
        "line": kind.location.line,
    }


def is_tag(kind: Type) -> bool:
    """Whether the type is one of tags."""
    return TAG in (kind.name, *kind.bases)


def is_data_item(kind: Type) -> bool:
    """Whether the type is one of data items: a type without a base is one too."""
    return not is_tag(kind) and (not kind.bases or DATA_ITEM in (kind.name, *kind.bases))


def tag_value(tag: Tag) -> Row:
    """Return a tag as its type and its fields."""
    fields: Row = {}
    for item in tag.fields:
        default = None if item.type is None else item.type.empty
        if item.node is not None or item.name not in fields:
            fields[item.name] = default if item.node is None else to_plain(item.node)
    return {"type": tag.type, "fields": fields}


def tag_rows(flow: Flow) -> list[Row]:
    """Return each type of tags with what bears it."""
    bearers: dict[str, list[str]] = {}
    for owner, tags in _tagged(flow):
        for tag in tags:
            bearers.setdefault(tag.type, []).append(owner)
    return [
        {**type_row(kind), "used_by": bearers.get(kind.name, []), "usage_count": len(bearers.get(kind.name, []))}
        for kind in flow.types.values()
        if is_tag(kind)
    ]


def _tagged(flow: Flow) -> Iterator[tuple[str, Sequence[Tag]]]:
    yield from ((package.name, package.tags) for package in flow.packages.values())
    yield from ((kind.name, kind.tags) for kind in flow.types.values())
    stack = list(reversed(list(flow.tasks.values())))
    while stack:
        task = stack.pop()
        yield task.name, task.tags
        stack.extend(task.sub_tasks)


def package_of(name: str) -> str:
    """Return all but the last part of a dotted name."""
    return name.rpartition(".")[0]


def _rule(rule: object) -> object:
    if isinstance(rule, Patterns):
        return [to_plain(pattern) for pattern in rule.patterns]
    return getattr(rule, "value", None)


def _control(task: Task) -> Row | None:
    control = task.control
    if control is None:
        return None
    return {
        "type": str(control.kind),
        "condition": None if control.condition is None else shown_condition(control.condition),
        "limit": None if control.limit is None else shown_condition(control.limit),
        "branches": [
            {
                "when": None if branch.condition is None else shown_condition(branch.condition),
                "tasks": [sub.name for sub in branch.body],
            }
            for branch in control.branches
        ],
    }
