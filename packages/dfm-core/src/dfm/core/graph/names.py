"""What a name in `${{ }}` means for one node, from the inside out.

Its own parameters; the values of its matrix cell; the parameters of the compound tasks around it; the package that
declares the text; the root package; then what is always there. A parameter that is just being evaluated is skipped, so
that `seed: ${{ seed }}` in a sub-task takes the value of the compound around it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from dfm.core.expr.errors import UnknownNameError
from dfm.core.expr.evaluate import Filter as UsedFilter
from dfm.core.flow.filters import SHELL, find_filter, usable_filters
from dfm.core.flow.model import Filter, PackageScope
from dfm.core.flow.scopes import imported_names

RUN_TIME_NAMES = frozenset({"in", "state", "_iter", "_max_iter"})
"""What sub-tasks of a `control` see besides; they are no values of a matrix."""

RunProgram = Callable[[Filter, object, Sequence[object]], object]
"""Runs the program of a filter on a value with its arguments; raises ValueError where it fails."""


@dataclass(slots=True, eq=False)
class NodeNames:
    """The names of one node.

    Attributes:
        own: evaluates one of the node's own parameters by name; raises KeyError for what it has not, or is evaluating.
        own_names: the parameters the node has.
        cell: values of the matrix cell the node belongs to.
        around: the names of the compound task around it.
        package: whose names the text being evaluated sees.
        always: `name`, `rundir`, `srcdir`, `env` and so on.
        late: `inputs` and `memento`, once they are known.
        programs: runs the programs of filters; None as long as nothing may run.
    """

    own: Callable[[str], object]
    own_names: tuple[str, ...]
    cell: Mapping[str, object]
    around: "NodeNames | None"
    package: PackageScope
    root: PackageScope
    always: Mapping[str, object]
    late: Mapping[str, object] = field(default_factory=dict)
    programs: RunProgram | None = None

    def seen_from(self, package: PackageScope) -> "NodeNames":
        """Return the same names for a text that stands in a file of `package`."""
        return self if package is self.package else replace(self, package=package)

    def knowing(self, late: Mapping[str, object], programs: RunProgram | None = None) -> "NodeNames":
        """Return the same names with what only a running task knows and may do."""
        return replace(self, late=late, programs=programs)

    def with_own(self, params: Mapping[str, object]) -> "NodeNames":
        """Return the same names with all own parameters known."""
        return replace(self, own=params.__getitem__, own_names=tuple(params))

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
                return layer.own(name)
            except KeyError:
                pass
            if name in layer.cell:
                return layer.cell[name]
            layer = layer.around
        match name:
            case "this":
                return _Lazy(self._inner_names(), self._inner)
            case "params":
                return _Lazy(self.own_names, self.own)
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
            names.update(dict.fromkeys((*layer.own_names, *layer.cell)))
            layer = layer.around
        return tuple(names)

    def _inner(self, name: str) -> object:
        layer: NodeNames | None = self
        while layer is not None:
            try:
                return layer.own(name)
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
