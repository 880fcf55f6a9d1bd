"""Finding and reading flow files.

A flow file that does not parse is never passed over: it is the answer, and its faults are what the person gets;
taking a parent's flow instead would run something else than was meant.
"""

import codecs
import os
import re

from dfm.core.flow.asked import is_directory, is_file, read, walk
from dfm.core.flow.diagnostics import Diagnostics, did_you_mean
from dfm.core.flow.source import Mapping, Node, Place, SourceFile

FLOW_NAMES = ("flow.dv", "flow.yaml", "flow.yml", "flow.toml")
"""Names looked for in a directory, in this order; a file may have any name where it is named itself."""
_SAYS_FRAGMENT = re.compile(r"\bfragment[\"']?\s*[:\]]")
MAX_BYTES = 64 * 1024 * 1024
_CONTROL = frozenset(chr(n) for n in range(32)) - frozenset("\t\n\r\f") | {"\x7f"}


def find_in_directory(directory: str) -> str | None:
    """Return the flow file directly in a directory."""
    for name in FLOW_NAMES:
        path = os.path.join(directory, name)
        if is_file(path):
            return path
    return None


def flow_below(directory: str) -> str | None:
    """Return the flow file of a directory, else the first one below it in order of names."""
    found = find_in_directory(directory)
    if found is not None:
        return found
    for base, _ in walk(directory):
        found = find_in_directory(base)
        if found is not None:
            return found
    return None


def near_file(path: str) -> str | None:
    """Return a hint at a file whose name is nearly that of the path."""
    from pathlib import Path  # noqa: PLC0415  (only a flow with a fault needs it)

    directory = Path(path).parent
    if not directory.is_dir():
        return None
    return did_you_mean(Path(path).name, sorted(item.name for item in directory.iterdir()))


def find_root(start: str) -> str | None:
    """Return the root flow file for a person who stands at `start`, a directory or a flow file.

    The nearest flow file upwards that is no fragment.
    """
    if is_file(start):
        return start
    directory = os.path.abspath(start)
    while True:
        found = find_in_directory(directory)
        if found is not None and not _is_fragment(found):
            return found
        parent = os.path.dirname(directory)
        if parent == directory:
            return None
        directory = parent


def read_flow_file(path: str, diagnostics: Diagnostics) -> Node | None:
    """Read and parse one flow file: TOML by its suffix, else YAML. None where that is not possible."""
    file = read_file(path, diagnostics)
    if file is None:
        return None
    if path.endswith(".toml"):
        from dfm.core.flow.toml_reader import read_toml  # noqa: PLC0415  (few flows are)

        return read_toml(file, diagnostics)
    from dfm.core.flow.yaml_reader import read_yaml  # noqa: PLC0415  (a flow from the cache needs no reader)

    return read_yaml(file, diagnostics)


def read_file(path: str, diagnostics: Diagnostics) -> SourceFile | None:
    """Read one file as UTF-8 text, with or without a byte order mark."""
    empty = SourceFile(os.path.abspath(path), "")
    try:
        if is_directory(path):
            diagnostics.error("unreadable", f"{empty.shown} is a directory", None)
            return None
        if os.path.getsize(path) > MAX_BYTES:  # it is fatal, and faulty flows are not cached
            diagnostics.error(
                "too-large",
                f"the file is larger than {MAX_BYTES // 1024 // 1024} MiB",
                Place(empty, 1, 1),
            )
            return None
        content = read(path)
    except OSError as error:
        diagnostics.error("unreadable", f"cannot read {empty.shown}: {error.strerror}", None)
        return None
    return _decoded(empty.path, content, diagnostics)


def _decoded(path: str, content: bytes, diagnostics: Diagnostics) -> SourceFile | None:
    content = content.removeprefix(b"\xef\xbb\xbf")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8")
        file = SourceFile(path, before)
        place = Place(file, before.count("\n") + 1, len(before) - before.rfind("\n"))
        message = f"the file is not UTF-8: byte 0x{content[error.start]:02x}"
        is_utf_16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        hint = "it looks like UTF-16; save it as UTF-8" if is_utf_16 else "save it as UTF-8"
        diagnostics.error("not-utf-8", message, place, hint=hint)
        return None
    file = SourceFile(path, text)
    bad = next((i for i, c in enumerate(text) if c in _CONTROL), None) if not _CONTROL.isdisjoint(text) else None
    if bad is not None:
        place = Place(file, text.count("\n", 0, bad) + 1, bad - text.rfind("\n", 0, bad))
        diagnostics.error("control-character", f"the file has the control character 0x{ord(text[bad]):02x}", place)
        return None
    return file


def _is_fragment(path: str) -> bool:
    """Whether the file parses and says that it is a fragment; it is parsed only where it could say so."""
    quiet = Diagnostics()
    file = read_file(path, quiet)
    if file is None or not _SAYS_FRAGMENT.search(file.text):
        return False
    node = read_flow_file(path, quiet)
    return isinstance(node, Mapping) and "fragment" in node.entries and "package" not in node.entries
