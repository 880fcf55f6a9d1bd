"""What loading leaves for resolving: packages with the definitions of all their files, under their full names."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from dfm.core.flow.definitions import (
    ConfigDefinition,
    ExtensionDefinition,
    FileDefinition,
    ImportDefinition,
    OverrideDefinition,
    TaskDefinition,
    TypeDefinition,
)
from dfm.core.flow.diagnostics import Diagnostics
from dfm.core.flow.model import PackageScope, Text
from dfm.core.flow.scopes import PackageNames
from dfm.core.flow.source import KeyMark, Node
from dfm.core.flow.values import ValueFault, evaluate_text

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a definition stands: the prefix its name got, and the directory of its file."""

    prefix: str
    srcdir: str
    outer: "Place | None" = None

    def prefixes(self) -> Iterator[str]:
        """Yield the prefixes under which a bare name is looked for, nearest first."""
        place: Place | None = self
        while place is not None:
            yield place.prefix
            place = place.outer

    def taken_over(self, base: str, package: str) -> "Place":
        """Return the place of the same definition inside a package that `uses` the one called `base`."""
        taken: Place | None = self
        for prefix in reversed(list(self.prefixes())):
            if prefix == base or prefix.startswith(f"{base}."):
                taken = Place(package + prefix[len(base) :], self.srcdir, taken)
        assert taken is not None
        return taken


@dataclass(frozen=True, slots=True)
class Declared(Generic[T]):
    """A definition under its fully qualified name.

    Attributes:
        owner: the package whose names its text sees, where that is not the one that holds it.
    """

    name: str
    definition: T
    place: Place
    owner: "LoadedPackage | None" = None


@dataclass(frozen=True, slots=True)
class ImportSettings:
    """What imports say about the package they import.

    Attributes:
        values: of parameters, with the place that sets each.
        config_at: where the configuration is asked for.
    """

    values: Mapping[str, tuple[object, KeyMark]]
    config: str | None
    config_at: Node | None


@dataclass(slots=True)
class LoadedPackage:
    """All that the files of one package say.

    Attributes:
        extensions: of the chosen configurations, in the order in which they apply.
        extensions_of: by the name of their configuration, chosen or not.
        overrides: the later one of two for the same task wins.
        fragment_configs: by `fragment.config`.
        replacing: tasks that replace another, to be put in its place when everything is read.
        imports: name of the imported package to the entry that first names it.
        config_name: the configuration that was asked for.
        configs: the configurations that apply, those it starts from first.
        base: the package this one `uses`.
        hidden: tasks that were replaced and are kept for those that build on them.
    """

    definition: FileDefinition
    file: str
    scope: PackageScope
    names: PackageNames
    tasks: dict[str, Declared[TaskDefinition]] = field(default_factory=dict)
    types: dict[str, Declared[TypeDefinition]] = field(default_factory=dict)
    extensions: list[ExtensionDefinition] = field(default_factory=list)
    extensions_of: dict[str, Sequence[ExtensionDefinition]] = field(default_factory=dict)
    overrides: list[OverrideDefinition] = field(default_factory=list)
    fragment_configs: dict[str, tuple[ConfigDefinition, Place]] = field(default_factory=dict)
    replacing: list[tuple[TaskDefinition, Place]] = field(default_factory=list)
    imports: dict[str, ImportDefinition] = field(default_factory=dict)
    is_root: bool = False
    config_name: str | None = None
    configs: list[ConfigDefinition] = field(default_factory=list)
    base: "LoadedPackage | None" = None
    hidden: set[str] = field(default_factory=set)

    @property
    def name(self) -> str:
        """The package's name."""
        return self.scope.package

    def expand(self, text: Text, diagnostics: Diagnostics) -> str | None:
        """Return a text of its files with each `${{ }}` evaluated, or None after telling why it cannot be."""
        try:
            return evaluate_text(text.value, text.node, self.names, diagnostics)
        except ValueFault:
            return None
