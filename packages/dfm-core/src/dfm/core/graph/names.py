"""What a name in `${{ }}` means for one node, from the inside out.

Its own parameters; the values of its matrix cell; the parameters of the compound tasks around it; the package that
declares the text; the root package; then what is always there. A parameter that is just being evaluated is skipped, so
that `seed: ${{ seed }}` in a sub-task takes the value of the compound around it.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

from msgspec import Struct
from msgspec.structs import replace

from dfm.core.expr.errors import UnknownNameError
from dfm.core.expr.evaluate import Filter as UsedFilter
from dfm.core.flow.filters import SHELL, find_filter, usable_filters
from dfm.core.flow.model import Filter, PackageScope, Task
from dfm.core.flow.scopes import imported_names
from dfm.core.graph.layout import Layout

RUN_TIME_NAMES = frozenset({"in", "state", "_iter", "_max_iter"})
"""What sub-tasks of a `control` see besides; they are no values of a matrix."""

RunProgram = Callable[[Filter, object, Sequence[object]], object]
"""Runs the program of a filter on a value with its arguments; raises ValueError where it fails."""


_NOTHING: Mapping[str, object] = MappingProxyType({})


class World(Struct, frozen=True, eq=False):
    """What every node of a graph sees.

    Attributes:
        environ: the environment.
        root: the root package.
        root_file: absolute path of its flow file.
        root_rundir: absolute.
        layout: of run directories.
    """

    environ: Mapping[str, str]
    root: PackageScope
    root_file: str
    root_rundir: str
    layout: Layout = Layout.LEGACY


class NodeNames(Struct, eq=False):
    """The names of one node.

    Attributes:
        own: the node's own parameters; one that is just being evaluated is not there.
        cell: values of the matrix cell the node belongs to.
        around: the names of the compound task around it.
        package: whose names the text being evaluated sees.
        name: of the node, or of the compound task that it is the entry of.
        srcdir: of the task's file.
        rundir: relative to the root run directory.
        late: `inputs` and `memento`, once they are known.
        programs: runs the programs of filters; None as long as nothing may run.
    """

    own: Mapping[str, object]
    cell: Mapping[str, object]
    around: "NodeNames | None"
    package: PackageScope
    world: World
    name: str
    srcdir: str
    rundir: str
    late: Mapping[str, object] = _NOTHING
    programs: RunProgram | None = None

    @property
    def root(self) -> PackageScope:
        """The root package."""
        return self.world.root

    @property
    def always(self) -> dict[str, object]:
        """What a node sees whatever the flow says."""
        world = self.world
        return {
            "env": world.environ,
            "name": self.name,
            "root": world.root_file,
            "rootdir": world.root.srcdir,
            "srcdir": self.srcdir,
            "rundir": os.path.join(world.root_rundir, self.rundir).rstrip("/"),
        }

    def seen_from(self, package: PackageScope) -> "NodeNames":
        """Return the same names for a text that stands in a file of `package`."""
        return self if package is self.package else replace(self, package=package)

    def knowing(self, late: Mapping[str, object], programs: RunProgram | None = None) -> "NodeNames":
        """Return the same names with what only a running task knows and may do."""
        return replace(self, late=late, programs=programs)

    def with_own(self, params: Mapping[str, object]) -> "NodeNames":
        """Return the same names with all own parameters known."""
        return replace(self, own=params)

    def filter(self, name: str) -> Filter | None:
        """Return the filter that the package around the text calls so, else the root package."""
        return SHELL if name == SHELL.name else find_filter(self.package, name) or find_filter(self.root, name)

    def filter_names(self) -> Iterator[str]:
        """Yield what the package around the text, and the root package, may call their filters."""
        yield from usable_filters(self.package)
        yield from usable_filters(self.root)

    def run_filter(self, used: UsedFilter, value: object, arguments: Sequence[object]) -> object:
        """Return what a filter's program makes of a value.

        Raises:
            ValueError: it fails, or the node's turn has not come, and nothing may run.
        """
        if self.programs is None:
            raise ValueError(f"{used.name!r} runs a program, and nothing runs before the task does")
        assert isinstance(used, Filter)
        return self.programs(used, value, arguments)

    def lookup(self, name: str) -> object:
        """Return what the name means for this node.

        Raises:
            UnknownNameError: nothing; it carries the names there are.
        """
        layer: NodeNames | None = self
        while layer is not None:
            try:
                return layer.own[name]
            except KeyError:
                pass
            if name in layer.cell:
                return layer.cell[name]
            layer = layer.around
        match name:
            case "this":
                return _Lazy(self._inner_names(), self._inner)
            case "params":
                return self.own
            case "matrix" if (cell := self._cell()) is not None:
                return cell
        return self._outer(name)

    def _outer(self, name: str) -> object:
        for scope in (self.package, self.root):
            if name in scope.params:
                return scope.params[name]
        for scope in (self.package, self.root):
            imported = imported_names(scope, name)
            if imported is not None:
                return imported
        for known in (self.late, self.always):
            if name in known:
                return known[name]
        raise UnknownNameError(name, [*self._inner_names(), *self.package.params, *self.root.params, *self.always])

    def _cell(self) -> Mapping[str, object] | None:
        cell: dict[str, object] = {}
        layer: NodeNames | None = self
        while layer is not None:
            cell = {**{name: value for name, value in layer.cell.items() if name not in RUN_TIME_NAMES}, **cell}
            layer = layer.around
        return cell or None

    def all_names(self) -> Iterator[str]:
        """Yield every name that means something for this node, but for those of packages that it does not import."""
        yield from self._inner_names()
        for scope in (self.package, self.root):
            yield from scope.params
            yield from (name.partition(".")[0] for name in (scope.package, *scope.imports))
        yield from self.always
        yield from self.late

    def _inner_names(self) -> tuple[str, ...]:
        names: dict[str, None] = {}
        layer: NodeNames | None = self
        while layer is not None:
            names.update(dict.fromkeys((*layer.own, *layer.cell)))
            layer = layer.around
        return tuple(names)

    def _inner(self, name: str) -> object:
        layer: NodeNames | None = self
        while layer is not None:
            try:
                return layer.own[name]
            except KeyError:
                if name in layer.cell:
                    return layer.cell[name]
            layer = layer.around
        raise KeyError(name)


class _Lazy(Mapping[str, object]):
    """A mapping whose values are evaluated when they are asked for."""

    def __init__(self, names: tuple[str, ...], value: Callable[[str], object]) -> None:
        self._names = names
        self._value = value

    def __getitem__(self, name: str) -> object:
        return self._value(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class Enclosure(Struct, frozen=True, eq=False, gc=False):
    """What lies around a node: one for all sub-tasks of a cell of a compound task.

    Attributes:
        around: the names of the compound task; None around a task of a package.
        cell: values of the matrix cell.
    """

    world: World
    around: NodeNames | None
    cell: Mapping[str, object]

    def names(self, task: Task, name: str, rundir: str, own: Mapping[str, object]) -> NodeNames:
        """Return what `${{ }}` in a task sees from inside."""
        return NodeNames(own, self.cell, self.around, task.package, self.world, name, task.srcdir, rundir)
