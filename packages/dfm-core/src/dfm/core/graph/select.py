"""Which task a person means by a name on the command line."""

from collections.abc import Iterable, Iterator, Sequence

from msgspec import Struct

from dfm.api.errors import UsageError
from dfm.core.flow.model import Flow, Task
from dfm.core.flow.overrides import Overrides
from dfm.core.suggest import did_you_mean


class Selection(Struct, frozen=True):
    """A task that was asked for; `node` is set where one node inside a compound task is meant."""

    task: str
    node: str | None = None


def listed_tasks(flow: Flow) -> list[Task]:
    """Return the tasks a person is offered: those of scope root, else all of the root package."""
    own = [task for task in flow.root.tasks.values() if not task.is_template]
    return [task for task in own if task.is_root] or own


def select(flow: Flow, name: str) -> Selection:
    """Return what `name` means.

    In this order: the exact name; the name within the root package; the name after an alias of an import; the one task
    whose name ends so, where several do the one of scope root, then the one of the root package; a node inside a
    compound task.

    Raises:
        UsageError: it means nothing, or several things.
    """
    for candidate in _exact(flow, name):
        if candidate in flow.tasks:
            return _runnable(flow, candidate)
    ending = [task for task in flow.tasks.values() if task.name.endswith(f".{name}")]
    for few in (
        ending,
        [t for t in ending if t.is_root],
        [t for t in ending if t.name in flow.root.tasks],
    ):
        if len(few) == 1:
            return _runnable(flow, few[0].name)
    if ending:
        listed = ", ".join(sorted(task.name for task in ending)[:6])
        raise UsageError(f"{name!r} matches several tasks: {listed}", hint="give the full name")
    inner = _inner(flow, name)
    if inner is not None:
        return inner
    raise UsageError(f"there is no task {name!r}", hint=_hint(flow, name))


def _exact(flow: Flow, name: str) -> Iterator[str]:
    """Yield the full names that a name may stand for, nearest first; `alias.task` is that of an imported package."""
    yield name
    yield f"{flow.root.name}.{name}"
    words = name.split(".")
    for count in range(len(words) - 1, 0, -1):
        imported = flow.root.scope.imports.get(".".join(words[:count]))
        if imported is not None:
            yield ".".join([imported.package, *words[count:]])


def _runnable(flow: Flow, name: str) -> Selection:
    if (flow.overrides.get(name) or flow.tasks[name]).is_template:
        raise UsageError(f"task {name!r} is a template, and does not run itself", hint="run a task that uses it")
    return Selection(name)


def override_targets(
    flow: Flow, overrides: Overrides, targets: Iterable[Selection]
) -> dict[str, dict[str, tuple[object, str]]]:
    """Return the task parameters the command line sets: task name to parameter to value and source.

    Raises:
        UsageError: an override meets neither a package parameter nor a parameter of a task.
    """
    if not overrides.names and not overrides.tasks:
        return {}
    known = {task.name: task for task in _all_tasks(flow)}
    asked = [known[target.task] for target in targets if target.task in known]
    found: dict[str, dict[str, tuple[object, str]]] = {}
    for task_name, values in overrides.tasks.items():
        task = _named(flow, known, task_name)
        if task is None:
            raise UsageError(
                f"-P sets parameters of {task_name!r}, and there is no such task",
                hint=_hint(flow, task_name),
            )
        for parameter, value in values.items():
            _set(found, task, parameter, value, f"-P {task_name}.{parameter}")
    for name, value in overrides.names.items():
        owner, _, parameter = name.rpartition(".")
        meant = [t for t in asked if parameter in _parameters(t)] if not owner else [_named(flow, known, owner)]
        tasks = [task for task in meant if task is not None]
        if name in overrides.used and (not tasks or owner):
            continue
        if not tasks:
            raise UsageError(
                f"{overrides.option(name)} sets nothing: {_missing(flow, owner, parameter)}",
                hint=_parameter_hint(flow, asked, owner, parameter),
            )
        for task in tasks:
            _set(found, task, parameter, value, overrides.option(name))
    return found


def _set(
    found: dict[str, dict[str, tuple[object, str]]],
    task: Task,
    parameter: str,
    value: object,
    source: str,
) -> None:
    if parameter not in _parameters(task):
        known = _parameters(task)
        raise UsageError(
            f"{source}: task {task.name!r} has no parameter {parameter!r}",
            hint=did_you_mean(parameter, known) or f"it has: {', '.join(sorted(known)) or 'none'}",
        )
    found.setdefault(task.name, {})[parameter] = (value, source)


def _named(flow: Flow, known: dict[str, Task], name: str) -> Task | None:
    for candidate in _exact(flow, name):
        if candidate in known:
            return known[candidate]
    ending = [task for task in known.values() if task.name.endswith(f".{name}")]
    return ending[0] if len(ending) == 1 else None


def _all_tasks(flow: Flow) -> list[Task]:
    stack = list(flow.tasks.values())
    found = []
    while stack:
        task = stack.pop()
        found.append(task)
        stack.extend(task.sub_tasks)
    return found


def _parameters(task: Task) -> set[str]:
    return {assignment.name for assignment in task.assignments}


def _missing(flow: Flow, owner: str, parameter: str) -> str:
    if owner:
        return f"there is no package or task {owner!r} with a parameter {parameter!r}"
    return f"neither package {flow.root.name!r} nor a requested task has a parameter {parameter!r}"


def _parameter_hint(flow: Flow, asked: Sequence[Task], owner: str, parameter: str) -> str | None:
    if owner:
        names = [f"{p.name}.{name}" for p in flow.packages.values() for name in p.scope.params]
        names += [f"{task.name}.{a.name}" for task in flow.tasks.values() for a in task.assignments]
        return did_you_mean(f"{owner}.{parameter}", names)
    return did_you_mean(
        parameter,
        [*flow.root.scope.params, *(name for task in asked for name in _parameters(task))],
    )


def _inner(flow: Flow, name: str) -> Selection | None:
    """Return the task whose name is the longest prefix of `name` and that has or makes sub-tasks, with the node."""
    for full in _exact(flow, name):
        words = full.split(".")
        for count in range(len(words) - 1, 0, -1):
            task = flow.tasks.get(".".join(words[:count]))
            if task is not None and (task.is_compound or task.may_make_tasks):
                return Selection(task.name, full)
    for task in flow.tasks.values():
        if task.matrix is not None and not task.body and name.rpartition("_")[0] in (task.name, task.leaf):
            return Selection(task.name, f"{task.name}_{name.rpartition('_')[2]}")
    return None


def _hint(flow: Flow, name: str) -> str:
    own = [task.leaf for task in flow.root.tasks.values()]
    near = did_you_mean(name, [*own, *flow.tasks])
    if near is not None:
        return near
    listed = [task.name.removeprefix(f"{flow.root.name}.") for task in listed_tasks(flow)]
    more = f" and {len(listed) - 8} more" if len(listed) > 8 else ""
    return f"there are: {', '.join(listed[:8])}{more}" if listed else "the flow has no tasks"
