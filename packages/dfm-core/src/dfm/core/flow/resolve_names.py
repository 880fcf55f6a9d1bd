"""What a name stands for: the tasks and types of all packages by their full names, and the shorter ones for them.

A name is looked for from the inside out: the fragment, the package, the packages it imports by their aliases, as it
stands, and at last in each imported package. Where nothing is found, the package that it may belong to is read, and
then all that the asking package imports; only what nobody can read is unknown. Sub-tasks have no names here: who looks
for one asks its siblings first.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from dfm.core.flow.definitions import TaskDefinition, TypeDefinition
from dfm.core.flow.diagnostics import Diagnostics, did_you_mean, is_suggestion
from dfm.core.flow.loaded import Declared, LoadedPackage, Place
from dfm.core.flow.model import PackageScope, Text
from dfm.core.flow.values import ValueFault, evaluate_text

NEEDS_OF = ".needs"
"""Ends an entry of `needs` that means all that the task needs, not the task itself."""


class PackageSource(Protocol):
    """Where packages come from that nothing has named before."""

    by_name: dict[str, LoadedPackage]
    files: list[str]
    diagnostics: Diagnostics

    @property
    def has_more(self) -> bool:
        """Whether there may be packages that were not read yet."""

    def touch(self, name: str) -> bool:
        """Read the package called so; return whether it was there to be read."""

    def touch_prefix(self, dotted: str) -> bool:
        """Read the package whose name a dotted name begins with; return whether it was there to be read."""

    def touch_imports(self, package: LoadedPackage) -> bool:
        """Read all that a package imports; return whether anything was there to be read."""

    def touch_rest(self) -> bool:
        """Where the reading is thorough, read all imports that nothing has touched; return whether any was read."""

    def refuse_import_cycles(self) -> None:
        """Report imports that go round in a circle."""


class TasksAndTypes:
    """Names of tasks and of types, looked up as one."""

    def __init__(self, tasks: Mapping[str, object], types: Mapping[str, object]) -> None:
        self._parts = (tasks, types)

    def __contains__(self, name: str) -> bool:
        return any(name in part for part in self._parts)

    def __iter__(self) -> Iterator[str]:
        for part in self._parts:
            yield from part


Known = Mapping[str, object] | TasksAndTypes
"""What a name may stand for."""


class Names:
    """The definitions of all packages that were read, by full name.

    Attributes:
        tasks: each with the package whose names its text sees.
        types: each with its package.
        either: both, for what `uses` may name.
        homes: the package that holds a task.
    """

    def __init__(self, source: PackageSource) -> None:
        self.source = source
        self.diagnostics = source.diagnostics
        self.tasks: dict[str, tuple[LoadedPackage, Declared[TaskDefinition]]] = {}
        self.types: dict[str, tuple[LoadedPackage, Declared[TypeDefinition]]] = {}
        self.either = TasksAndTypes(self.tasks, self.types)
        self.homes: dict[str, LoadedPackage] = {}
        self._taken: set[str] = set()
        self.take_in()

    def take_in(self) -> None:
        """Add the tasks and types of packages that were read since the last time."""
        for name, package in self.source.by_name.items():
            if name in self._taken:
                continue
            self._taken.add(name)
            for full, item in package.tasks.items():
                self.tasks[full] = (item.owner or package, item)
                self.homes[full] = package
            for full, kind in package.types.items():
                self.types[full] = (package, kind)

    def add_task(self, package: LoadedPackage, item: Declared[TaskDefinition]) -> None:
        """Add a task that a package writes where it has no name."""
        self.tasks[item.name] = (package, item)
        self.homes[item.name] = package

    def expand(self, text: Text, package: LoadedPackage) -> str | None:
        """Return a name with its `${{ }}` evaluated, or None after telling why it cannot be."""
        if "${{" not in text.value:
            return text.value
        try:
            return evaluate_text(text.value, text.node, package.names, self.diagnostics)
        except ValueFault:
            return None

    def find(self, wanted: str, package: LoadedPackage, place: Place, known: Known) -> str | None:
        """Return the full name of what is called `wanted` at a place of a package; read what may hold it."""
        name = _find_among(known, wanted, package, place)
        if name is not None or not self.source.has_more:
            return name
        is_new = self.source.touch_prefix(_unaliased(wanted, package.scope))
        if not is_new:
            is_new = self.source.touch_imports(package)
        if not is_new:
            return None
        self.take_in()
        return _find_among(known, wanted, package, place)

    def refuse(
        self,
        what: str,
        text: Text,
        package: LoadedPackage,
        place: Place,
        known: Known,
        near: Iterable[str] = (),
        hint: str | None = None,
    ) -> None:
        """Tell that a name stands for nothing, unless what could not be read may define it.

        Args:
            what: it should be, for a person.
            text: the name.
            package: whose text has it.
            place: where it stands.
            known: what it could have meant.
            near: more of that, which only this place knows.
            hint: what to do, where that is known better than by comparing names.
        """
        own = [
            name.removeprefix(f"{prefix}.")
            for prefix in place.prefixes()
            for name in known
            if name.startswith(f"{prefix}.")
        ]
        hint = hint or did_you_mean(text.value, [*near, *own, *known])
        wanted = _unaliased(text.value.removesuffix(NEEDS_OF), package.scope)
        is_near = is_suggestion(hint)
        if self.diagnostics.lost.may_define(wanted, package.name, self.source.by_name, is_near=is_near):
            return
        self.diagnostics.error(
            f"unknown-{what.split(maxsplit=1)[0]}",
            f"there is no {what} {text.value!r}",
            text.node,
            hint=hint,
        )


def _find_among(known: Known, wanted: str, package: LoadedPackage, place: Place) -> str | None:
    for prefix in place.prefixes():
        if f"{prefix}.{wanted}" in known:
            return f"{prefix}.{wanted}"
    for alias, scope in package.scope.imports.items():
        if wanted.startswith(f"{alias}.") and (name := scope.package + wanted[len(alias) :]) in known:
            return name
    if wanted in known:
        return wanted
    for scope in package.scope.imports.values():
        if (name := f"{scope.package}.{wanted}") in known:
            return name
    return None


def _unaliased(wanted: str, scope: PackageScope) -> str:
    for alias, imported in scope.imports.items():
        if wanted.startswith(f"{alias}."):
            return imported.package + wanted[len(alias) :]
    return wanted
