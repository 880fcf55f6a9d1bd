"""Functions and filters: `f(x)`, `x.f()` and `x | f` are the same call.

None of them touches anything outside its arguments. A wrong argument is a ValueError or TypeError whose text is the
message.
"""

import json
import math
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from posixpath import basename, dirname, splitext
from posixpath import join as joined

from dfm.core.expr.nodes import INTO

MAX_ITEMS = 1_000_000
"""Items a function may make; more is a slip of the pen."""
MAX_CHARACTERS = 16_000_000
"""Length of the text a function may make."""
MAX_BITS = 3_000
"""Size of the whole numbers an expression may make: about 900 digits, within what Python converts to text."""

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
        case Sequence():
            return "list"
        case _:
            return type(value).__name__


def checked(number: float) -> int | float:
    """Return a number that is neither too large nor infinite.

    Raises:
        ValueError: it is.
    """
    is_fit = number.bit_length() <= MAX_BITS if isinstance(number, int) else math.isfinite(number)
    if not is_fit:
        raise ValueError("the number is too large")
    return number


def are_equal(left: object, right: object) -> bool:
    """Whether two values are equal; true is not 1, as a person reads it."""
    if isinstance(left, tuple) or isinstance(right, tuple):
        left, right = (list(side) if isinstance(side, tuple) else side for side in (left, right))
    return isinstance(left, bool) == isinstance(right, bool) and left == right


def is_true(value: object) -> bool:
    """Whether a value counts as true: text does by what it says, as a command line gives it."""
    return value.strip().lower() not in ("", "false", "no", "off", "0") if isinstance(value, str) else bool(value)


def is_in(part: object, whole: object) -> bool:
    """Whether a list has an item, a map a key, or a text a part.

    Raises:
        TypeError: `whole` can have no such part.
    """
    if isinstance(whole, str):
        return _text(part, "a part of a text") in whole
    if isinstance(whole, Mapping):
        return to_text(part) in whole
    return any(are_equal(part, item) for item in items_of(whole, "contains"))


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
    if isinstance(value, Sequence | Mapping):
        return len(value)
    raise TypeError(f"length needs a list, a map or a str, not {kind_of(value)}")


def _keys(value: object) -> list[object]:
    if isinstance(value, Mapping):
        return list(value)
    return list(range(len(items_of(value, "keys"))))


def _values(value: object) -> list[object]:
    return list(value.values()) if isinstance(value, Mapping) else items_of(value, "values")


def _sort(value: object) -> list[object]:
    return sorted(items_of(value, "sort"), key=_order)


def _order(value: object) -> tuple[int, float, str]:
    """Return a key that sorts all values: null, false, true, numbers, texts, lists, maps, as jq does."""
    match value:
        case None:
            return (0, 0, "")
        case bool():
            return (1, value, "")
        case int() | float():
            return (2, value, "")
        case str():
            return (3, 0, value)
        case _:
            return (5 if isinstance(value, Mapping) else 4, 0, to_json(value))


def _unique(value: object) -> list[object]:
    found: dict[object, object] = {}
    for item in items_of(value, "unique"):
        found.setdefault(_order(item), item)
    return list(found.values())


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
    items = items_of(value, "flatten")
    for _ in range(_whole(levels, "flatten")):
        if not any(_is_list(item) for item in items):
            break
        items = [part for item in items for part in (items_of(item, "flatten") if _is_list(item) else (item,))]
    return items


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _split(value: object, separator: object = None) -> list[str]:
    return _text(value, "split").split(None if separator is None else _text(separator, "split"))


def _join(value: object, separator: object = " ") -> str:
    words = [to_text(item) for item in items_of(value, "join")]
    between = _text(separator, "join")
    _check_length(sum(map(len, words)) + len(between) * len(words), "join")
    return between.join(words)


def _replace(value: object, old: object, new: object) -> str:
    text, before, after = (_text(part, "replace") for part in (value, old, new))
    _check_length(len(text) + text.count(before) * len(after), "replace")
    return text.replace(before, after)


def _check_length(length: int, function: str) -> None:
    if length > MAX_CHARACTERS:
        raise ValueError(f"{function} makes {length:,} characters; {MAX_CHARACTERS:,} is the limit")


def _contains(value: object, part: object) -> bool:
    return is_in(part, value)


def _type(value: object) -> str:
    """Return the name JSON has for a value's type, as jq and the users' documents call it."""
    match value:
        case None | bool():
            return "null" if value is None else "boolean"
        case int() | float():
            return "number"
        case str():
            return "string"
        case Mapping():
            return "object"
        case _:
            return "array"


def _to_int(value: object) -> int:
    if isinstance(value, bool | int | float):
        return int(value)
    text = _text(value, "int").strip()
    try:
        number = int(text, 10 if text.lstrip("+-0").isdecimal() else 0)
    except ValueError:
        raise ValueError(f"{_shown(value)} is no whole number") from None
    return int(checked(number))


def _to_float(value: object) -> float:
    if isinstance(value, bool | int | float):
        return float(value)
    try:
        return float(checked(float(_text(value, "float"))))
    except ValueError:
        raise ValueError(f"{_shown(value)} is no number") from None


def _shown(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


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
    return checked(total)


def _quote(value: object) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return shlex.join(to_text(item) for item in value)
    return shlex.quote(to_text(value))


def _from_json(value: object) -> object:
    text = _text(value, "json")
    try:
        return json.loads(text, parse_constant=_refuse, parse_float=_json_float, parse_int=_json_int)
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from None
    except RecursionError:
        raise ValueError("the JSON is nested too deep") from None


def _refuse(constant: str) -> object:
    raise ValueError(f"{constant} is no number")


def _json_float(written: str) -> float:
    return float(checked(float(written)))


def _json_int(written: str) -> int:
    return int(checked(int(written)))


def _by_field(field: str) -> Function:
    def pick(value: object, wanted: object) -> list[object]:
        items = items_of(value, f"by_{field}")
        return [item for item in items if isinstance(item, Mapping) and item.get(field) == wanted]

    return pick


def _zip(*lists: object) -> list[object]:
    columns = [items_of(item, "zip") for item in lists]
    if min(map(len, columns), default=0) * len(columns) > MAX_ITEMS:
        raise ValueError(f"zip makes more than {MAX_ITEMS:,} items")
    return [list(row) for row in zip(*columns, strict=False)]


def _by_filetype(value: object, wanted: object) -> list[object]:
    """Keep items of a file type; `.sv` means those that hold a file with that extension."""
    kept = _text(wanted, "by_filetype")
    if not kept.startswith("."):
        return _by_field("filetype")(value, wanted)  # type: ignore[return-value]  # a list, by its own signature
    return [item for item in items_of(value, "by_filetype") if any(path.endswith(kept) for path in _files_of(item))]


def _files_of(item: object) -> list[str]:
    """Return the paths an item names: those of a file set below its directory, its `path`, or itself."""
    if isinstance(item, str):
        return [item]
    if not isinstance(item, Mapping):
        return []
    base = item.get("basedir")
    files = [str(name) for name in item.get("files") or ()]
    found = [joined(str(base), name) if base else name for name in files]
    return [*found, str(item["path"])] if "path" in item else found


def _paths(value: object) -> list[str]:
    return [path for item in items_of(value, "paths") for path in _files_of(item)]


def _names_of(value: object, function: str) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [path for item in items_of(value, function) for path in _files_of(item)]


def _basenames(value: object) -> list[str]:
    return [basename(path) for path in _names_of(value, "basenames")]


def _extensions(value: object) -> list[str]:
    return [extension for path in _names_of(value, "extensions") if (extension := splitext(path)[1])]


def _pluck(value: object, field: object) -> list[object]:
    name = _text(field, "pluck")
    return [item[name] for item in items_of(value, "pluck") if isinstance(item, Mapping) and name in item]


def _first_of_type(value: object, wanted: object) -> object:
    found = _by_field("type")(value, wanted)
    assert isinstance(found, list)
    return found[0] if found else None


def _count_by_type(value: object) -> dict[str, int]:
    counts: dict[str, int] = {}
    for item in items_of(value, "count_by_type"):
        if isinstance(item, Mapping):
            name = to_text(item.get("type"))
            counts[name] = counts.get(name, 0) + 1
    return counts


def _test(value: object, pattern: object) -> bool:
    try:
        return re.search(_text(pattern, "test"), _text(value, "test")) is not None
    except re.error as error:
        raise ValueError(f"{pattern!r} is no regular expression: {error}") from None


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
    "type": _type,
    "split": _split,
    "join": _join,
    "upper": lambda value: _text(value, "upper").upper(),
    "lower": lambda value: _text(value, "lower").lower(),
    "strip": lambda value: _text(value, "strip").strip(),
    "replace": _replace,
    "startswith": lambda value, part: _text(value, "startswith").startswith(_text(part, "startswith")),
    "endswith": lambda value, part: _text(value, "endswith").endswith(_text(part, "endswith")),
    "contains": _contains,
    "basename": lambda value: basename(_text(value, "basename")),
    "dirname": lambda value: dirname(_text(value, "dirname")),
    "str": to_text,
    "int": _to_int,
    "float": _to_float,
    "bool": is_true,
    "range": _range,
    "min": _least,
    "max": _greatest,
    "sum": _sum,
    "sh": _quote,
    "json": _from_json,
    "tojson": to_json,
    "by_type": _by_field("type"),
    "by_filetype": _by_filetype,
    "paths": _paths,
    "basenames": _basenames,
    "extensions": _extensions,
    "pluck": _pluck,
    "first_of_type": _first_of_type,
    "count_by_type": _count_by_type,
    "test": _test,
    "zip": _zip,
}
BINDING = frozenset({"map", "select", "group_by", INTO})
"""Functions whose argument is evaluated for each element of the list."""
ELEMENT_NAMES = frozenset({"item", "input"})
"""What that argument calls the element, besides a leading dot."""
LAZY = BINDING | {"default"}
"""Functions whose argument is not evaluated before they are called."""
