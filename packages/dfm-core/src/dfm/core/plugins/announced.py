"""What installed distributions announce as entry points, read from their metadata; nothing of theirs is imported.

`importlib.metadata` says the same, but importing it (with email, zipfile, csv, pathlib) and asking it three times was a
tenth of what every command takes to start. Here a distribution is a directory `NAME-VERSION.dist-info`, or `.egg-info`,
in a directory of `sys.path`; of two with one name the first on the path counts, as there. Where distributions may lie
elsewhere, in an archive or wherever a finder of somebody's knows them, it is asked after all.

Source: Python Packaging User Guide, entry points specification, recording installed projects.
"""

import os
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.machinery import PathFinder
from typing import Any

from msgspec import Struct

_DIRECTORY = re.compile(r"(?P<name>[^-]+).*\.(dist|egg)-info\Z")
_OBJECT = re.compile(r"(?P<module>[\w.]+)\s*(:\s*(?P<attribute>[\w.]+))?\s*(\[.*\])?\s*\Z")


class EntryPoint(Struct, frozen=True):
    """A name, and the object that it stands for: a module, or `module:attribute`."""

    name: str
    value: str
    group: str

    def load(self) -> Any:  # noqa: ANN401  (whatever the distribution brings)
        """Import the module and return the object.

        Raises:
            ValueError: the value is none.
        """
        match = _OBJECT.match(self.value)
        if match is None:
            raise ValueError(f"the entry point {self.name} is {self.value!r}, which is no object")
        found = import_module(match["module"])
        for attribute in (match["attribute"] or "").split("."):
            found = getattr(found, attribute) if attribute else found
        return found


class Announcement(Struct, frozen=True):
    """An entry point and the distribution that has it, with its version; empty where its metadata do not say."""

    point: EntryPoint
    distribution: str
    version: str


def announced(*groups: str) -> list[Announcement]:
    """Return the entry points of groups, in the order of `sys.path`."""
    if not all(finder is PathFinder or not hasattr(finder, "find_distributions") for finder in sys.meta_path):
        return _asked(groups)
    seen: set[str] = set()
    found: list[Announcement] = []
    for directory in sys.path:
        try:
            names = os.listdir(directory or ".")
        except NotADirectoryError:
            return _asked(groups)
        except OSError:
            continue
        for name in names:
            match = _DIRECTORY.match(name) if name.endswith("-info") else None
            normalized = "" if match is None else re.sub(r"[-_.]+", "_", match["name"]).lower()
            if match is not None and normalized not in seen:
                seen.add(normalized)
                found += _of_distribution(os.path.join(directory, name), groups)
    return found


def _asked(groups: tuple[str, ...]) -> list[Announcement]:
    from importlib.metadata import entry_points  # noqa: PLC0415  (its import is what is saved)

    return [
        Announcement(
            EntryPoint(point.name, point.value, group),
            "" if point.dist is None else point.dist.name,
            "" if point.dist is None else point.dist.version,
        )
        for group in groups
        for point in entry_points(group=group)
    ]


def _of_distribution(directory: str, groups: tuple[str, ...]) -> list[Announcement]:
    points = [point for point in _points(_text(os.path.join(directory, "entry_points.txt"))) if point.group in groups]
    if not points:
        return []
    metadata = _text(os.path.join(directory, "METADATA")) or _text(os.path.join(directory, "PKG-INFO"))
    head = dict(_fields(metadata))
    return [Announcement(point, head.get("name", ""), head.get("version", "")) for point in points]


def _points(text: str) -> Iterator[EntryPoint]:
    group = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("[") and line.endswith("]"):
            group = line[1:-1].strip()
        elif "=" in line and not line.startswith(("#", ";")):
            name, _, value = line.partition("=")
            yield EntryPoint(name.strip(), value.strip(), group)


def _fields(text: str) -> Iterator[tuple[str, str]]:
    """Yield what the head of a metadata file says, the first of each name last."""
    head = text.partition("\n\n")[0]
    for line in reversed(head.splitlines()):
        name, colon, value = line.partition(":")
        if colon:
            yield name.lower(), value.strip()


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
