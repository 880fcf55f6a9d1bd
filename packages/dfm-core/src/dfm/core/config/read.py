"""A settings file to nodes: what the file system says of it, and its text."""

import os

from dfm.api.errors import SourceLocation
from dfm.core.config.faults import invalid
from dfm.core.config.layers import LayerFile
from dfm.core.config.nodes import Listing, Scalar, Table

MAX_BYTES = 1 << 20


def read_layer(file: LayerFile) -> Table | None:
    """Return the file's table; None where there is no file and none is required.

    Raises:
        ConfigInvalid: it cannot be read, is not YAML, or is not a mapping.
    """
    shown = shown_path(file.path)
    text = _read_text(file, shown)
    if text is None:
        return None
    from dfm.core.config.parse import parse_text  # noqa: PLC0415  (most runs have no settings file, and need no YAML)

    node = parse_text(text, shown)
    match node:
        case Table():
            return node
        case Scalar() if node.is_null:
            return Table(SourceLocation(shown, 1, 1), ())
        case Scalar() | Listing():
            raise invalid(
                f"settings are a mapping, and this is {node.shown_kind}", node.location, "begin it with `runner:`"
            )


def shown_path(path: str) -> str:
    """Return the path as it is told to a person: relative to the current directory where that is shorter."""
    relative = os.path.relpath(path)
    return relative if len(relative) < len(path) else path


def _read_text(file: LayerFile, shown: str) -> str | None:
    start = SourceLocation(shown, 1, 1)
    try:
        with open(file.path, "rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError) as error:
        if file.required_by is None and not os.path.lexists(file.path):
            return None
        named = f", which {file.required_by} names," if file.required_by else ""
        raise invalid(f"the settings file{named} cannot be read: {error.strerror}", start) from None
    except OSError as error:
        raise invalid(f"the settings file cannot be read: {error.strerror}", start) from None
    if len(content) > MAX_BYTES:
        raise invalid(f"the settings file has more than {MAX_BYTES} bytes", start)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        line = before.count(b"\n") + 1
        column = error.start - (before.rfind(b"\n") + 1) + 1
        place = SourceLocation(shown, line, column)
        raise invalid(f"the file is not UTF-8: byte 0x{content[error.start]:02x}", place) from None
