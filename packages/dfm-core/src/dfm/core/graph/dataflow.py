"""Which items a node takes in, and which it hands on: pure rules over plain items.

The input of a node is what its needs hand on, in their order, each item once. `std.Env` items are always taken in and
never handed on by a task: they reach the tasks that need the one that made them, and no further.
"""

from collections.abc import Iterable, Mapping, Sequence

from dfm.api.items import ENV, Item
from dfm.core.flow.model import Consumes, Passthrough

Patterns = Sequence[Mapping[str, object]]


def gather(handed_on: Iterable[Sequence[Item]]) -> list[Item]:
    """Join what the needs hand on; an item that comes by two ways is taken once."""
    found: dict[tuple[object, object], Item] = {}
    for items in handed_on:
        for item in items:
            found.setdefault((item.get("src"), item.get("seq")), item)
    return list(found.values())


def consumed(items: Sequence[Item], consumes: Consumes | Patterns) -> list[Item]:
    """Return the items the task sees."""
    match consumes:
        case Consumes.ALL:
            return list(items)
        case Consumes.NONE:
            return [item for item in items if item.get("type") == ENV]
        case _:
            return [item for item in items if item.get("type") == ENV or matches_any(item, consumes)]


def handed_on(items: Sequence[Item], seen: Sequence[Item], passthrough: Passthrough | Patterns) -> list[Item]:
    """Return the incoming items that go on to whoever needs this task, before its own."""
    travelling = [item for item in items if item.get("type") != ENV]
    match passthrough:
        case Passthrough.ALL:
            return travelling
        case Passthrough.NONE:
            return []
        case Passthrough.UNUSED:
            used = {id(item) for item in seen}
            return [item for item in travelling if id(item) not in used]
        case _:
            return [item for item in travelling if matches_any(item, passthrough)]


def matches_any(item: Mapping[str, object], patterns: Patterns) -> bool:
    """Whether one pattern matches: every key of it that the item has is equal, and at least one is there."""
    return any(_matches(item, pattern) for pattern in patterns)


def environment(base: Mapping[str, str], items: Iterable[Item]) -> Mapping[str, str]:
    """Return `base` with the changes of the `std.Env` items applied, in their order; itself where there are none."""
    changes = [item for item in items if item.get("type") == ENV]
    if not changes:
        return base
    result = dict(base)
    for item in changes:
        result.update({name: str(value) for name, value in item.get("vals", {}).items()})
        for name, value in item.get("append_path", {}).items():
            result[name] = ":".join(part for part in (result.get(name, ""), str(value)) if part)
        for name, value in item.get("prepend_path", {}).items():
            result[name] = ":".join(part for part in (str(value), result.get(name, "")) if part)
    return result


def _matches(item: Mapping[str, object], pattern: Mapping[str, object]) -> bool:
    compared = [key for key in pattern if key in item]
    return bool(compared) and all(item[key] == pattern[key] for key in compared)
