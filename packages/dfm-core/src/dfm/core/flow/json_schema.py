"""The JSON Schema of flow files, made from the declarations that the decoder reads with.

Editors use it for completion and checks while typing. It knows what one file can show; names, types of values behind
`${{ }}` and what spans files are for `dfm validate`.
"""

from collections.abc import Mapping

from dfm.core.flow.schema import DEFINITIONS, Definition, Key, one

DIALECT = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, object]


def flow_schema() -> Schema:
    """Return the JSON Schema of a flow file."""
    return {
        "$schema": DIALECT,
        "title": "DFM flow file",
        **_mapping({"package": one("package"), "fragment": one("fragment")}),
        "oneOf": [{"required": ["package"]}, {"required": ["fragment"]}],
        "$defs": _definitions(),
    }


def package_map_schema() -> Schema:
    """Return the JSON Schema of a package map."""
    return {
        "$schema": DIALECT,
        "title": "DFM package map",
        **_mapping({"package-map": one("package-map")}),
        "required": ["package-map"],
        "$defs": _definitions(),
    }


def _definitions() -> Schema:
    return {name: {"description": item.doc, **_definition(item)} for name, item in DEFINITIONS.items()}


def _definition(definition: Definition) -> Schema:
    if definition.table is None:
        return dict(definition.shape or {})
    mapping = _mapping({name: _key(key) for name, key in definition.table.items()})
    rules = [*(_needed(names) for names in definition.one_of), *definition.rules]
    if rules:
        mapping["allOf"] = rules
    return mapping if definition.shape is None else {"anyOf": [dict(definition.shape), mapping]}


def _mapping(properties: Mapping[str, object]) -> Schema:
    return {"type": "object", "properties": dict(properties), "additionalProperties": False}


def _key(key: Key) -> Schema:
    return {"description": key.doc, **key.shape}


def _needed(names: tuple[str, ...]) -> Schema:
    return {"required": [names[0]]} if len(names) == 1 else {"anyOf": [{"required": [name]} for name in names]}
