"""What a task asks of the machine it runs on, read from its `std.ResourceTag`.

The values the tag itself begins with (1 core, 1G, an hour) count as unset: only what a task, or a type of its own that
derives from the tag, says is asked for; where nothing is (0 cores), the settings of the project decide.
"""

from collections.abc import Callable, Mapping

from dfm.api.runner import Resources
from dfm.api.units import parse_duration, parse_memory
from dfm.core.flow.diagnostics import Diagnostics
from dfm.core.flow.model import Assignment, ParameterType, Tag, Task
from dfm.core.flow.source import Node as SourceNode
from dfm.core.flow.values import StillWaiting, ValueFault, coerce, evaluate, is_deferred
from dfm.core.graph.names import NodeNames
from dfm.core.graph.node import NOTHING_ASKED

RESOURCE_TAG = "std.ResourceTag"
_STANDARD_LIBRARY = "std"


def resources_of(task: Task, names: NodeNames, diagnostics: Diagnostics) -> Resources:
    """Return what the task's tags ask for; of two that say the same thing, the later one counts."""
    if not task.tags:
        return NOTHING_ASKED
    said: dict[str, object] = {}
    for tag in task.tags:
        if RESOURCE_TAG in (tag.type, *tag.bases):
            said |= _fields(tag, names, diagnostics)
    return Resources(**{"cores": 0, **said}) if said else NOTHING_ASKED  # type: ignore[arg-type]  # each was read as its type


def where_class_is_named(task: Task) -> SourceNode | None:
    """Return the value that names the task's resource class; None where no tag does."""
    found = None
    for tag in task.tags:
        if RESOURCE_TAG in (tag.type, *tag.bases):
            item = _said(tag).get("resource_class")
            found = item.node if item is not None else found
    return found


_WAITS = "what a task asks for is known before it runs, and cannot wait for its inputs"


def _cores(value: object) -> int:
    cores = coerce(value, ParameterType.INT)
    if not isinstance(cores, int) or cores < 1:
        raise ValueError(f"{value!r} is no number of cores")
    return cores


def _word(value: object) -> str | None:
    return str(coerce(value, ParameterType.STR)) or None


def _is_so(value: object) -> bool:
    return coerce(value, ParameterType.BOOL) is True


def _memory(value: object) -> int | None:
    return parse_memory(str(value)) if value not in (None, "") else None


def _seconds(value: object) -> int | None:
    return round(parse_duration(str(value))) if value not in (None, "") else None


_FIELDS: Mapping[str, tuple[str, Callable[[object], object]]] = {
    "cores": ("cores", _cores),
    "memory": ("memory_bytes", _memory),
    "walltime": ("wall_seconds", _seconds),
    "queue": ("queue", _word),
    "resource_class": ("resource_class", _word),
    "may_grow": ("may_grow", _is_so),
}


def _fields(tag: Tag, names: NodeNames, diagnostics: Diagnostics) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, item in _said(tag).items():
        if name not in _FIELDS:
            continue
        field, read = _FIELDS[name]
        try:
            found[field] = read(_value(item, names, diagnostics))
        except ValueFault:
            continue
        except ValueError as error:
            diagnostics.error("bad-resource", f"`{name}` of a task: {error}", item.node)
    return found


def _said(tag: Tag) -> dict[str, Assignment]:
    """Return what the tag says that is not what it begins with, by its name."""
    return {item.name: item for item in tag.fields if item.node is not None and item.scope.package != _STANDARD_LIBRARY}


def _value(item: Assignment, names: NodeNames, diagnostics: Diagnostics) -> object:
    assert item.node is not None
    if is_deferred(item.node, item.scope):
        raise ValueError(_WAITS)
    try:
        return evaluate(item.node, names.seen_from(item.scope), diagnostics)
    except StillWaiting:
        raise ValueError(_WAITS) from None
