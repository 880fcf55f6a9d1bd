"""What a task waits for: the tasks and sub-tasks that `needs` name, those that feed it, and circles of them.

A need names a sub-task of the same compound task, or of one around it, before it names a task of a package; what is
inside a compound task cannot be needed from outside. `feeds` is the same edge, written at its other end.
"""

from collections.abc import Iterator, Mapping

from msgspec.structs import replace

from dfm.core.flow.cycles import find_cycle
from dfm.core.flow.definitions import TaskDefinition
from dfm.core.flow.diagnostics import Diagnostics
from dfm.core.flow.loaded import LoadedPackage, Place
from dfm.core.flow.model import Need, Task, Text, Visibility
from dfm.core.flow.resolve_names import NEEDS_OF, Names
from dfm.core.flow.source import Place as PlaceInFile

Siblings = tuple[frozenset[str], ...]
"""Names of the sub-tasks that a sub-task can name: its own siblings first, then those around."""


def find_need(text: Text, package: LoadedPackage, place: Place, siblings: Siblings, names: Names) -> Need | None:
    """Return the need that one entry of `needs` is, or None after telling that there is no such task."""
    raw = text.value.removesuffix(NEEDS_OF)
    if any(raw in leaves for leaves in siblings):
        return _need_at(text, sibling=raw, is_needs_of=raw != text.value)
    value = names.expand(text, package)
    if value is None:
        return None
    for candidate, is_needs_of in ((value, False), (value.removesuffix(NEEDS_OF), True)):
        if is_needs_of and candidate == value:
            continue
        if any(candidate in leaves for leaves in siblings):
            return _need_at(text, sibling=candidate, is_needs_of=is_needs_of)
        target = names.find(candidate, package, place, names.tasks)
        if target is not None:
            _warn_of_visibility(text, target, place, names)
            return _need_at(text, target=target, is_needs_of=is_needs_of)
    near = [leaf for leaves in siblings for leaf in leaves]
    hint = _hint(value, package, place, names)
    names.refuse("task", replace(text, value=value), package, place, names.tasks, near, hint)
    return None


def find_fed(names: Names) -> dict[str, list[Need]]:
    """Return the needs that tasks get by the `feeds` of others.

    What a sub-task feeds outside its compound task receives all that the compound task hands on.
    """
    fed: dict[str, list[Need]] = {}
    for name, (package, item) in names.tasks.items():
        stack: list[tuple[TaskDefinition, frozenset[str]]] = [(item.definition, frozenset())]
        while stack:
            definition, siblings = stack.pop()
            for body in definition.bodies:
                leaves = frozenset(sub.name for sub in body)
                stack += [(sub, leaves) for sub in body]
            for text in definition.feeds:
                value = names.expand(text, package)
                if value is None or value in siblings:
                    continue
                target = names.find(value, package, item.place, names.tasks)
                if target is None:
                    names.refuse("task", replace(text, value=value), package, item.place, names.tasks)
                elif target != name:
                    fed.setdefault(target, []).append(_need_at(text, target=name))
    return fed


def find_fed_siblings(leaves: Mapping[str, TaskDefinition]) -> dict[str, list[Need]]:
    """Return the needs that sub-tasks get by the `feeds` of their siblings."""
    found: dict[str, list[Need]] = {}
    for leaf, sub in leaves.items():
        for text in sub.feeds:
            if text.value in leaves and text.value != leaf:
                found.setdefault(text.value, []).append(_need_at(text, sibling=leaf))
    return found


def refuse_cycles(tasks: Mapping[str, Task], diagnostics: Diagnostics) -> None:
    """Tell a circle of needs, where there is one."""
    cycle = find_cycle(tasks, lambda name: _external_needs(tasks[name]))
    if cycle is not None:
        path = " -> ".join(cycle)
        diagnostics.error(
            "cycle",
            f"the needs go round in a circle: {path}",
            _need_place(tasks[cycle[0]], cycle[1]),
        )


def _need_at(text: Text, target: str | None = None, sibling: str | None = None, *, is_needs_of: bool = False) -> Need:
    at = text.node
    return Need(at.file, at.line, at.column, at.width, target, sibling, is_needs_of)


def _warn_of_visibility(text: Text, target: str, place: Place, names: Names) -> None:
    home = names.homes[target]
    owner = f"{home.name}."
    if home.name == "std" or any(f"{prefix}.".startswith(owner) for prefix in place.prefixes()):
        return
    visibility = names.tasks[target][1].definition.visibility
    if Visibility.LOCAL in visibility:
        names.diagnostics.warning("local-task", f"task {target!r} is local to package {home.name!r}", text.node)
    elif Visibility.EXPORT not in visibility:
        names.diagnostics.warning(
            "not-exported",
            f"task {target!r} is not exported by package {home.name!r}",
            text.node,
            hint="name it with `export:` there if others shall need it",
        )


def _hint(value: str, package: LoadedPackage, place: Place, names: Names) -> str | None:
    """Return what to do about a need that is not just misspelt."""
    around = value.rpartition(".")[0]
    outer = names.find(around, package, place, names.tasks) if around else None
    if "," in value:
        return f"several tasks are a list: [{', '.join(word.strip() for word in value.split(','))}]"
    if outer is not None and names.tasks[outer][1].definition.body:
        return f"sub-tasks are known inside their compound task only; need {around!r} itself"
    return None


def _external_needs(task: Task) -> Iterator[str]:
    """Yield the tasks of packages that must end before the task can: its own needs and those of its sub-tasks."""
    stack = [task]
    while stack:
        current = stack.pop()
        yield from (need.target for need in current.needs if need.target is not None and not need.is_needs_of)
        stack.extend(current.sub_tasks)


def _need_place(task: Task, target: str) -> PlaceInFile | None:
    stack = [task]
    while stack:
        current = stack.pop()
        for need in current.needs:
            if need.target == target:
                return need.place
        stack.extend(current.sub_tasks)
    return None
