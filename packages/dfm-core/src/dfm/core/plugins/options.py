"""Options of a runner: text from `--runner-opt` held against the dataclass the runner declares."""

import dataclasses
from collections.abc import Iterable
from typing import Any, get_args, get_type_hints

from dfm.api.errors import UsageError
from dfm.api.runner import RunnerPlugin
from dfm.core.suggest import did_you_mean


def split_options(options: Iterable[str]) -> dict[str, str]:
    """Split `key=value` at the first `=`.

    Raises:
        UsageError: one has no `=` or no key.
    """
    found: dict[str, str] = {}
    for option in options:
        key, separator, value = option.partition("=")
        if not separator or not key:
            raise UsageError(f"--runner-opt {option!r} is not key=value", hint="write --runner-opt key=value")
        found[key] = value
    return found


def decode_options(plugin: RunnerPlugin, given: dict[str, str]) -> Any:  # noqa: ANN401  (the plugin's own dataclass)
    """Return the runner's options with what was given on the command line.

    Raises:
        UsageError: the runner has no such option, or the text is not of its type.
    """
    names = [item.name for item in dataclasses.fields(plugin.options)]
    kinds = get_type_hints(plugin.options)
    values = {}
    for key, text in given.items():
        if key not in names:
            raise UsageError(
                f"runner {plugin.name} has no option {key!r} (set by --runner-opt)",
                hint=did_you_mean(key, names) or f"it has: {', '.join(sorted(names)) or 'none'}",
            )
        values[key] = _converted(key, text, kinds[key])
    return plugin.options(**values)


def _converted(key: str, text: str, kind: object) -> object:
    plain = next((part for part in get_args(kind) if part is not type(None)), kind)
    try:
        if plain is bool:
            return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[text.lower()]
        if plain in (int, float):
            return plain(text)
    except (ValueError, KeyError):
        raise UsageError(f"--runner-opt {key}={text!r} is not a {getattr(plain, '__name__', plain)}") from None
    return text
