"""Where nodes run: the two layouts of run directories that DV Flow has.

`legacy`: a directory has the full name of its task. `leaf`: it has the name by which the task is known where it is
declared, and a cell of a matrix is told by its values. No two tasks meet in one directory: where their short names are
the same, those of other packages than the root keep their full names.
"""

import enum
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from dfm.api.errors import UsageError
from dfm.core.expr.functions import to_text
from dfm.core.flow.model import Flow

VARIABLE = "DV_FLOW_RUNDIR_LAYOUT"
_UNSAFE = re.compile(r"[^A-Za-z0-9_.~-]")
_SHORT = re.compile(r"[A-Za-z0-9_.-]{1,60}\Z")


class Layout(enum.StrEnum):
    """One of the two."""

    LEGACY = "legacy"
    LEAF = "leaf"


def layout_from(environ: Mapping[str, str]) -> Layout:
    """Return the layout that the environment asks for.

    Raises:
        UsageError: it is none of the two.
    """
    name = environ.get(VARIABLE) or Layout.LEGACY
    try:
        return Layout(name)
    except ValueError:
        raise UsageError(f"{VARIABLE}={name} is no layout of run directories", hint="it is legacy or leaf") from None


def directory_of(name: str) -> str:
    """Return the name of a directory for a node of this name."""
    return _UNSAFE.sub("_", name)


class LeafNames:
    """The short names of the tasks of one flow."""

    def __init__(self, flow: Flow) -> None:
        self._root = f"{flow.root.name}."
        self._full = flow.tasks.keys()
        self._short = {name: _below(name, package.name) for package in flow.packages.values() for name in package.tasks}
        self._counts = Counter(self._short.values())

    def of_task(self, name: str) -> str:
        """Return the name of the directory of a task of a package."""
        short = self._short.get(name, name)
        is_own = name.startswith(self._root) or self._counts[short] == 1
        return directory_of(short if is_own and short not in self._full else name)

    @staticmethod
    def of_sub_task(name: str, outer: str, outer_directory: str) -> str:
        """Return the name of the directory of a sub-task, or of a copy of a task for a cell of its matrix."""
        short = _below(name, outer)
        if short == name and name.startswith(outer):
            short = outer_directory.rpartition("/")[2] + name[len(outer) :]
        return directory_of(short)


def suffixes(axis: Sequence[object], layout: Layout) -> list[str]:
    """Return what the names of nodes end in for each value of an axis of a matrix: no two the same."""
    if layout is Layout.LEAF:
        texts = [to_text(value) if isinstance(value, str | int | float) else "" for value in axis]
        if all(map(_SHORT.match, texts)) and len(set(texts)) == len(texts):
            return [f"~{text}" for text in texts]
    return [f"_{index}" for index in range(len(axis))]


def _below(name: str, outer: str) -> str:
    return name.removeprefix(f"{outer}.")
