"""A flow as bytes, and back: a pickle in pieces.

A pickle remembers every object that it has met, for another may refer to it; of a large flow that takes more room than
the flow. So the tasks come in pieces of a few thousand. Each is a pickle that begins with what the first one remembers:
all that tasks share, which is packages, types, files and the tasks that others inherit from.
"""

import dataclasses
import enum
import io
import itertools
import pickle
from collections.abc import Iterator, Mapping

import msgspec
from msgspec.structs import replace

from dfm.core.flow.model import Flow, Package, Task
from dfm.core.flow.source import SourceFile

_OUR_CLASSES = ("dfm.core.flow.", "dfm.core.expr.", "dfm.api.")
_LENGTH_BYTES = 8
PIECE = 2_000
"""Tasks in a piece, or as many as are inherited from where that is more: each piece begins with those."""


def to_parts(flow: Flow, used: set[str]) -> Iterator[bytes]:
    """Yield what `pieces_of` takes apart when it is put together.

    Args:
        flow: any.
        used: overrides of the command line that it has met.

    Raises:
        PicklingError: the flow holds what cannot be stored.
        RecursionError: it is nested too deep.
    """
    for piece in _pieces(flow, used):
        yield len(piece).to_bytes(_LENGTH_BYTES)
        yield piece


def pieces_of(content: memoryview) -> list[bytes]:
    """Return the pieces of what `to_parts` made, the last one first."""
    pieces = []
    start = 0
    while start < len(content):
        begin = start + _LENGTH_BYTES
        start = begin + int.from_bytes(content[start:begin])
        pieces.append(bytes(content[begin:start]))
    return pieces[::-1]


def from_pieces(pieces: list[bytes]) -> tuple[Flow, set[str]]:
    """Return a flow and the overrides that it has met.

    Args:
        pieces: as `pieces_of` returns them; they are taken out, so that each goes when it is read. Whoever could have
            changed them can have other classes of the model made.

    Raises:
        UnpicklingError: they are made of other classes than those of the model.
    """
    first = _Unpickler(io.BytesIO(pieces.pop()))
    common, used, *_ = first.load()
    tasks: dict[str, Task] = {}
    own: dict[str, dict[str, Task]] = {name: {} for name in common.packages}
    while pieces:
        for home, some in _continued(first, pieces.pop()).load():
            tasks.update(some)
            if home is not None:
                own[home].update(some)
    packages: dict[str, Package] = {n: replace(p, tasks=own[n]) for n, p in common.packages.items()}
    return replace(common, root=packages[common.root.name], packages=packages, tasks=tasks), used


def _pieces(flow: Flow, used: set[str]) -> Iterator[bytes]:
    packages = [replace(package, tasks={}) for package in flow.packages.values()]
    root = next(package for package in packages if package.name == flow.root.name)
    common = replace(flow, root=root, packages={package.name: package for package in packages}, tasks={})
    inherited = _inherited(flow)
    file = io.BytesIO()
    first = pickle.Pickler(file, pickle.HIGHEST_PROTOCOL)
    first.dump((common, used, inherited, _files(flow)))
    yield file.getvalue()
    homes = {name: package.name for package in flow.packages.values() for name in package.tasks}
    names = iter(flow.tasks)
    while some := list(itertools.islice(names, max(PIECE, len(inherited)))):
        file = io.BytesIO()
        pickler = pickle.Pickler(file, pickle.HIGHEST_PROTOCOL)
        pickler.memo = first.memo
        pickler.dump([(home, {n: flow.tasks[n] for n in own}) for home, own in itertools.groupby(some, homes.get)])
        yield file.getvalue()


def _continued(first: "_Unpickler", piece: bytes) -> "_Unpickler":
    """Return what reads a piece, remembering all that the first one does.

    To be given a memory does not tell it how many objects that is, and it counts on from there; to meet as many does.
    """
    counted = b"".join((pickle.NONE, pickle.MEMOIZE * len(first.memo.copy()), pickle.STOP))
    unpickler = _Unpickler(io.BytesIO(b"".join((counted, piece))))
    unpickler.load()
    unpickler.memo = first.memo
    return unpickler


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        """Return a class of the model; nothing else is ever called."""
        if module.startswith(_OUR_CLASSES):
            found = super().find_class(module, name)
            if isinstance(found, type) and (_is_made_of_fields(found) or issubclass(found, enum.Enum)):
                return found
        if (module, name) in (("builtins", "set"), ("builtins", "frozenset"), ("copyreg", "__newobj__")):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} is no class of the model")


def _is_made_of_fields(kind: type) -> bool:
    return issubclass(kind, msgspec.Struct) or dataclasses.is_dataclass(kind)


def _inherited(flow: Flow) -> list[Task]:
    """Return the tasks that others inherit from, each once."""
    found: dict[str, Task] = {}
    for task in _all_tasks(flow.tasks):
        found.update((name, flow.tasks[name]) for name in task.bases if name not in found and name in flow.tasks)
    return list(found.values())


def _files(flow: Flow) -> list[SourceFile]:
    return list({id(task.at.file): task.at.file for task in _all_tasks(flow.tasks)}.values())


def _all_tasks(tasks: Mapping[str, Task]) -> Iterator[Task]:
    stack = list(tasks.values())
    while stack:
        task = stack.pop()
        stack.extend(task.sub_tasks)
        yield task
