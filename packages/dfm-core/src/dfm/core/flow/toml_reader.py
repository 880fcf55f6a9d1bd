"""TOML to nodes: the values are tomllib's, the places those that a scan of the same text finds.

Dates and times stay text as it is written, which is what they are in YAML here.
"""

import re
import tomllib

from dfm.core.flow.diagnostics import Diagnostics
from dfm.core.flow.source import TOO_DEEP, Mapping, Node, Place, Scalar, SourceFile
from dfm.core.flow.source import Sequence as SequenceNode
from dfm.core.flow.syntax_hints import toml_hint
from dfm.core.flow.toml_places import TooDeep, scan

_WHERE = re.compile(r"(?P<what>.*) \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)\Z", re.DOTALL)


def read_toml(file: SourceFile, diagnostics: Diagnostics) -> Node | None:
    """Return the file's content, or None where it does not parse."""
    file.has_newlines_only = True
    try:
        content = tomllib.loads(file.text)
        node = scan(file)
    except (TooDeep, RecursionError) as error:
        diagnostics.error("too-deep", TOO_DEEP, error.place if isinstance(error, TooDeep) else Place(file, 1, 1))
        return None
    except ValueError as error:  # tomllib's own, or Python's where a number is too long
        message, place = _told(str(error), file)
        hint = toml_hint(message, file.line(place.line), place.column)
        diagnostics.error("toml-syntax", f"not TOML: {message}", place, hint=hint)
        return None
    if not content:
        diagnostics.error("empty-file", "the file is empty", Place(file, 1, 1))
        return None
    _fill(node, content)
    return node


def _told(message: str, file: SourceFile) -> tuple[str, Place]:
    found = _WHERE.match(message)
    if found is None:
        return message, Place(file, 1, 1)
    place = Place(file, int(found["line"]), int(found["column"])) if found["line"] else _end_of(file)
    return found["what"], place


def _end_of(file: SourceFile) -> Place:
    """Return the place of what tomllib calls the end of the document."""
    lines = file.text.rstrip("\n").split("\n")
    return Place(file, len(lines), max(1, len(lines[-1])))


def _fill(node: Node, content: object) -> None:
    """Give the scalars of a scan their values."""
    match node, content:
        case Mapping(), dict():
            for name, inner in content.items():
                _fill(node.entries[name].value, inner)
        case SequenceNode(), list():
            for item, inner in zip(node.items, content, strict=True):
                _fill(item, inner)
        case Scalar(), str():
            node.value = node.text = content
        case Scalar(), bool() | int() | float():
            node.value = content
        case Scalar(), _:
            node.value = node.text
        case _:
            raise AssertionError("the scan and tomllib do not agree")
