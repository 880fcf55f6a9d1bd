"""How a value came about, for a person and as JSON; and all settings as a file that says the same."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence

from dfm.api.options import Unit
from dfm.core.config.layers import Origin
from dfm.core.config.merge import Effective, Role, shown
from dfm.core.config.schema import NUMERIC, Setting

_PLAIN = re.compile(r"([A-Za-z_/.*][\w./@*+-]*|\d+(\.\d+)?[A-Za-z]+[\dA-Za-z]*)\Z")
_NOT_TEXT = re.compile(r"(?i:true|false|yes|no|on|off|null|y|n|\d+e\d+|0x[0-9a-f]+|\.inf|\.nan)\Z")


def as_nested(found: Iterable[Effective]) -> dict[str, object]:
    """Return the settings as a settings file nests them."""
    root: dict[str, object] = {}
    for item in found:
        table = root
        for part in item.path[:-1]:
            inner = table.setdefault(part, {})
            assert isinstance(inner, dict), "a section's name is no setting's name"
            table = inner
        table[item.path[-1]] = item.written
    return root


def as_yaml(found: Sequence[Effective], *, is_with_origin: bool) -> str:
    """Return the settings as the text of a settings file, each with a remark on its origin where wanted."""
    lines: list[tuple[str, str]] = []
    before: tuple[str, ...] = ()
    for item in found:
        shared = _shared(before, item.path[:-1])
        lines += [(f"{'  ' * depth}{item.path[depth]}:", "") for depth in range(shared, len(item.path) - 1)]
        before = item.path[:-1]
        tag = "!replace " if item.setting.is_accumulating and item.value else ""
        text = f"{'  ' * len(before)}{item.path[-1]}: {tag}{_yaml(item.written)}"
        lines.append((text, origins_text(item) if is_with_origin else ""))
    width = min(48, max((len(text) for text, origin in lines if origin), default=0))
    return "\n".join(f"{text:<{width}}  # {origin}" if origin else text for text, origin in lines)


def origins_text(item: Effective) -> str:
    """Return where a value comes from, in one line: one place, or one for each part of a list."""
    if item.cap is not None:
        return f"{item.cap} (!max)"
    joined = [candidate.origin for candidate in item.candidates if candidate.role is Role.JOINED and candidate.written]
    places = "; ".join(str(origin) for origin in joined) if joined else str(item.origin)
    return f"{places} (locked)" if item.lock is not None else places


def as_json(item: Effective) -> dict[str, object]:
    """Return all that is known of a setting."""
    return {
        "key": item.key,
        "value": item.written,
        "why": why(item),
        "origin": _origin_json(item.cap or item.origin),
        "locked_at": None if item.lock is None else _origin_json(item.lock),
        "candidates": [
            {"value": candidate.written, "role": str(candidate.role), **_origin_json(candidate.origin)}
            for candidate in item.candidates
        ],
        "declaration": declaration_json(item.setting),
    }


def declaration_json(setting: Setting) -> dict[str, object]:
    """Return what is declared of a setting."""
    spec = setting.spec
    return {
        "name": setting.name,
        "type": str(setting.kind),
        "unit": None if spec.unit in (None, Unit.ARGV) else str(spec.unit),
        "is_optional": setting.is_optional,
        "default": setting.written(setting.default),
        "merge": "accumulate" if setting.is_accumulating else "replace",
        "choices": list(spec.choices),
        "minimum": spec.minimum,
        "maximum": spec.maximum,
        "aliases": list(spec.aliases),
        "help": spec.doc,
    }


def as_text(item: Effective) -> str:
    """Return how a value came about, in a few lines."""
    setting = item.setting
    facts = [str(setting.kind), setting.merge_rule, f"default {shown(setting.written(setting.default))}"]
    if setting.spec.choices:
        facts.insert(1, f"one of {', '.join(setting.spec.choices)}")
    facts[1:1] = _bounds(setting)
    if setting.spec.aliases:
        facts.append(f"also called {', '.join(setting.spec.aliases)}")
    rows = [
        (str(candidate.role), str(candidate.origin), _amount(candidate.written))
        for candidate in reversed(item.candidates)
    ]
    width = max(len(origin) for _, origin, _ in rows)
    lines = [f"{item.key}: {shown(item.written)}", f"  {setting.spec.doc}", f"  {'; '.join(facts)}"]
    lines += [f"  {role:<6}  {origin:<{width}}  {value}" for role, origin, value in rows]
    return "\n".join([*lines, f"  why: {why(item)}"])


def why(item: Effective) -> str:
    """Return in one sentence why the value is what it is."""
    if item.cap is not None:
        reason = f"{item.origin} asks for more than is allowed by {item.cap}"
    elif item.setting.is_accumulating:
        reason = "the layers are joined, weakest first"
        if any(candidate.role is Role.LOSES for candidate in item.candidates):
            reason += ", from the last !replace on"
    elif len(item.candidates) == 1 or (item.origin.location is None and item.origin.text == "default"):
        reason = "no layer sets it"
    else:
        reason = f"{item.origin} is the nearest that sets it"
    return reason if item.lock is None else f"{reason}; locked by {item.lock}"


def reference(title: str, prefix: str, settings: Sequence[Setting]) -> str:
    """Return a section of the reference in Markdown."""
    lines = [f"## {title}", "", "| key | type | default | |", "|---|---|---|---|"]
    for setting in settings:
        kind = str(setting.kind) + (", or null" if setting.is_optional else "")
        kind = ", ".join([kind, *_bounds(setting)])
        if setting.spec.choices:
            kind += f": {', '.join(setting.spec.choices)}"
        remarks = [setting.spec.doc]
        if setting.is_accumulating:
            remarks.append("layers are joined")
        if setting.spec.aliases:
            remarks.append(f"also `{'`, `'.join(setting.spec.aliases)}`")
        default = _yaml(setting.written(setting.default))
        default = default if len(default) <= _LONG else f"{default[:_LONG]}..."
        lines.append(f"| `{prefix}{setting.name}` | {kind} | `{default}` | {'; '.join(remarks)} |".replace("\n", " "))
    return "\n".join([*lines, ""])


def _bounds(setting: Setting) -> list[str]:
    """Return in words between what a number must be, in base units."""
    bounds = {"at least": setting.spec.minimum, "at most": setting.spec.maximum}
    is_numeric = setting.kind in NUMERIC
    return [f"{word} {bound:.15g}" for word, bound in bounds.items() if bound is not None and is_numeric]


_LONG = 40
"""Characters of a default in the reference; `dfm config show` has it whole."""


def _amount(written: object) -> str:
    return written if isinstance(written, str) and written.startswith("at most ") else shown(written)


def _origin_json(origin: Origin) -> dict[str, object]:
    where = origin.location
    return {
        "layer": origin.layer.shown,
        "source": origin.text if where is None else where.file,
        "line": None if where is None else where.line,
        "column": None if where is None else where.column,
    }


def _shared(first: Sequence[str], second: Sequence[str]) -> int:
    count = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        count += 1
    return count


def _yaml(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case str():
            is_plain = _PLAIN.match(value) and not _NOT_TEXT.match(value) and not value.startswith("*")
            return value if is_plain else json.dumps(value, ensure_ascii=False)
        case Mapping():
            inner = ", ".join(f"{_yaml(str(key))}: {_yaml(item)}" for key, item in value.items())
            return f"{{{inner}}}"
        case list() | tuple():
            return f"[{', '.join(_yaml(item) for item in value)}]"
        case _:
            return str(value)
