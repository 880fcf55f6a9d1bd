"""Functions and filters: `f(x)`, `x.f()` and `x | f` are the same call.

None of them touches anything outside its arguments. A wrong argument is a ValueError or TypeError whose text is the
message.
"""

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from posixpath import basename, dirname

MAX_ITEMS = 1_000_000
"""Items a function may make; more is a slip of the pen."""

Function = Callable[..., object]


def kind_of(value: object) -> str:
    """Return the name of a value's type, as a person writes it."""
    match value:
        case None:
            return "null"
        case bool():
            return "bool"
        case int():
            return "int"
        case float():
            return "float"
        case str():
            return "str"
        case Mapping():
            return "map"
        case _:
            return "list"


def to_text(value: object) -> str:
    """Return a value as text: strings as they are, everything else as compact JSON."""
    return value if isinstance(value, str) else to_json(value)


def to_json(value: object) -> str:
    """Return a value as compact JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_plain)


def items_of(value: object, function: str) -> list[object]:
    """Return the items of a list.

    Raises:
        TypeError: it is none.
    """
    if isinstance(value, Sequence) and not isinstance(value, str):
        return list(value)
    raise TypeError(f"{function} needs a list, not {kind_of(value)}")


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence):
        return list(value)
    raise TypeError(f"{value!r} is no value of a flow")


def _text(value: object, function: str) -> str:
    if isinstance(value, str):
        return value
    raise TypeError(f"{function} needs a str, not {kind_of(value)}")


def _length(value: object) -> int:
    if isinstance(value, str | Mapping):
        return len(value)
    return len(items_of(value, "length"))


def _keys(value: object) -> list[object]:
    if isinstance(value, Mapping):
        return list(value)
    return list(range(len(items_of(value, "keys"))))


def _values(value: object) -> list[object]:
    return list(value.values()) if isinstance(value, Mapping) else items_of(value, "values")


def _sort(value: object) -> list[object]:
    items = items_of(value, "sort")
    if all(isinstance(item, str) for item in items) or all(isinstance(item, int | float) for item in items):
        return sorted(items)  # type: ignore[type-var]  # all text or all numbers, as just seen
    return sorted(items, key=to_json)


def _unique(value: object) -> list[object]:
    return list({to_json(item): item for item in items_of(value, "unique")}.values())


def _reverse(value: object) -> object:
    return value[::-1] if isinstance(value, str) else items_of(value, "reverse")[::-1]


def _first(value: object) -> object:
    items = items_of(value, "first")
    if not items:
        raise ValueError("first of an empty list")
    return items[0]


def _last(value: object) -> object:
    items = items_of(value, "last")
    if not items:
        raise ValueError("last of an empty list")
    return items[-1]


def _flatten(value: object, levels: object = 1) -> list[object]:
    count = _whole(levels, "flatten")
    result: list[object] = []
    for item in items_of(value, "flatten"):
        if isinstance(item, Sequence) and not isinstance(item, str):
            result += _flatten(item, count - 1) if count > 1 else list(item)
        else:
            result.append(item)
    return result


def _split(value: object, separator: object = None) -> list[str]:
    return _text(value, "split").split(None if separator is None else _text(separator, "split"))


def _join(value: object, separator: object = " ") -> str:
    return _text(separator, "join").join(to_text(item) for item in items_of(value, "join"))


def _contains(value: object, part: object) -> bool:
    if isinstance(value, str):
        return _text(part, "contains") in value
    return part in value if isinstance(value, Mapping) else part in items_of(value, "contains")


def _to_int(value: object) -> int:
    if isinstance(value, bool | int | float):
        return int(value)
    try:
        return int(_text(value, "int").strip(), 0)
    except ValueError:
        raise ValueError(f"{value!r} is no whole number") from None


def _to_float(value: object) -> float:
    if isinstance(value, bool | int | float):
        return float(value)
    try:
        return float(_text(value, "float"))
    except ValueError:
        raise ValueError(f"{value!r} is no number") from None


def _to_bool(value: object) -> bool:
    if isinstance(value, str):
        return value.strip().lower() not in ("", "0", "false", "no", "off")
    return bool(value)


def _range(*bounds: object) -> list[int]:
    numbers = [_whole(bound, "range") for bound in bounds]
    if not 1 <= len(numbers) <= 3 or (len(numbers) == 3 and numbers[2] == 0):
        raise ValueError("range takes a stop, or a start, a stop and a step that is not 0")
    made = range(*numbers)
    if len(made) > MAX_ITEMS:
        raise ValueError(f"range makes {len(made):,} items; {MAX_ITEMS:,} is the limit")
    return list(made)


def _whole(value: object, function: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise TypeError(f"{function} needs whole numbers, not {kind_of(value)}")


def _numbers(values: Sequence[object], function: str) -> list[object]:
    items = items_of(values[0], function) if len(values) == 1 else list(values)
    if not items:
        raise ValueError(f"{function} of nothing")
    return items


def _least(*values: object) -> object:
    return _sort(_numbers(values, "min"))[0]


def _greatest(*values: object) -> object:
    return _sort(_numbers(values, "max"))[-1]


def _sum(value: object) -> int | float:
    total: int | float = 0
    for item in items_of(value, "sum"):
        if not isinstance(item, int | float):
            raise TypeError(f"sum needs numbers, not {kind_of(item)}")
        total += item
    return total


def _quote(value: object) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return shlex.join(to_text(item) for item in value)
    return shlex.quote(to_text(value))


def _from_json(value: object) -> object:
    try:
        return json.loads(_text(value, "json"))
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from None


def _by_field(field: str) -> Function:
    def pick(value: object, wanted: object) -> list[object]:
        items = items_of(value, f"by_{field}")
        return [item for item in items if isinstance(item, Mapping) and item.get(field) == wanted]

    return pick


def _zip(*lists: object) -> list[object]:
    return [list(row) for row in zip(*(items_of(item, "zip") for item in lists), strict=False)]


FUNCTIONS: Mapping[str, Function] = {
    "length": _length,
    "len": _length,
    "keys": _keys,
    "values": _values,
    "sort": _sort,
    "unique": _unique,
    "reverse": _reverse,
    "first": _first,
    "last": _last,
    "flatten": _flatten,
    "type": kind_of,
    "split": _split,
    "join": _join,
    "upper": lambda value: _text(value, "upper").upper(),
    "lower": lambda value: _text(value, "lower").lower(),
    "strip": lambda value: _text(value, "strip").strip(),
    "replace": lambda value, old, new: _text(value, "replace").replace(_text(old, "replace"), _text(new, "replace")),
    "startswith": lambda value, part: _text(value, "startswith").startswith(_text(part, "startswith")),
    "endswith": lambda value, part: _text(value, "endswith").endswith(_text(part, "endswith")),
    "contains": _contains,
    "basename": lambda value: basename(_text(value, "basename")),
    "dirname": lambda value: dirname(_text(value, "dirname")),
    "str": to_text,
    "int": _to_int,
    "float": _to_float,
    "bool": _to_bool,
    "range": _range,
    "min": _least,
    "max": _greatest,
    "sum": _sum,
    "sh": _quote,
    "json": _from_json,
    "tojson": to_json,
    "by_type": _by_field("type"),
    "by_filetype": _by_field("filetype"),
    "zip": _zip,
}
LAZY = frozenset({"map", "select", "group_by", "default"})
"""Functions whose argument is evaluated for each element, or only when it is needed."""
