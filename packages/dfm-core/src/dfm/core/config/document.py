"""Documents made of the declarations: the JSON Schema of a settings file, and the reference page."""

from collections.abc import Mapping

from dfm.core.config.explain import reference
from dfm.core.config.schema import Setting, json_schema, settings_of
from dfm.core.config.sections import CHOICE, CLASS, CLASSES, SECTIONS

_INTRODUCTION = """\
# Settings

Written from the declarations in the code by `python tests/unit/core/config/test_document.py`; a test holds it up to
date. How layers, locks and caps work is told in [configuration](../guides/configuration.md).

Amounts are written with their unit: memory as `512M`, `8G` or `4GiB`, durations as `90m`, `1h30m`, `300s` or `1:30`
(hours:minutes). A command is a list of words, or one text that is split as a shell splits words; no shell sees it.
"""


def file_schema(runners: Mapping[str, tuple[Setting, ...] | None]) -> dict[str, object]:
    """Return the JSON Schema of a settings file.

    Args:
        runners: the options of each runner that may be configured; None where nobody here knows them.
    """
    properties = dict(_properties(json_schema(CHOICE)))
    for name, declaration in SECTIONS.items():
        properties[name] = json_schema(settings_of(declaration))
    properties[CLASSES] = {"type": "object", "additionalProperties": json_schema(CLASS)}
    for name, settings in runners.items():
        properties[name] = {"type": "object"} if settings is None else json_schema(settings)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Settings of DFM",
        "type": "object",
        "additionalProperties": False,
        "properties": {"runner": {"type": "object", "additionalProperties": False, "properties": properties}},
    }


def reference_page(runners: Mapping[str, tuple[Setting, ...]]) -> str:
    """Return the reference of all settings in Markdown."""
    parts = [_INTRODUCTION, reference("runner", "runner.", CHOICE)]
    for name, declaration in SECTIONS.items():
        parts.append(reference(f"runner.{name}", f"runner.{name}.", settings_of(declaration)))
    parts.append(reference(f"runner.{CLASSES}.NAME", "", CLASS))
    parts += [reference(f"runner.{name}", f"runner.{name}.", settings) for name, settings in runners.items()]
    return "\n".join(parts)


def _properties(schema: Mapping[str, object]) -> Mapping[str, object]:
    found = schema["properties"]
    assert isinstance(found, dict)
    return found
