"""Where a package is that is called by its name: package maps, `DV_FLOW_PATH`, installed distributions, in this order.

Of the maps, those of the flow itself come first, then those of the command line, then those of the environment; inside
a list the first one wins. Nothing is parsed before a name is asked for, and no plugin is imported before.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from dfm.api.errors import DfmError
from dfm.core.flow.asked import is_directory, is_file, names_in, real_path
from dfm.core.flow.decode import MapEntry, decode_package_map
from dfm.core.flow.diagnostics import At, Diagnostics
from dfm.core.flow.locate import FLOW_NAMES, find_in_directory, read_flow_file
from dfm.core.flow.source import Mapping as MappingNode
from dfm.core.flow.source import Scalar
from dfm.core.plugins.packages import PluginPackages

PATH_VARIABLE = "DV_FLOW_PATH"
MAP_VARIABLE = "DV_FLOW_PACKAGE_MAP"


@dataclass(slots=True)
class PackageMap:
    """One map file with its lines."""

    file: str
    entries: Sequence[MapEntry]


@dataclass(slots=True)
class PackageRegistry:
    """Finds the flow file of a package by the package's name.

    Attributes:
        maps: the first one that has a name wins.
        directories: of `DV_FLOW_PATH`.
        files: every map that was read.
    """

    diagnostics: Diagnostics
    plugins: PluginPackages
    directories: Sequence[str] = ()
    maps: list[PackageMap] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    _own_maps: int = 0
    _words: set[str] | None = None

    def add_maps(self, files: Iterable[tuple[str, At]], *, is_of_flow: bool) -> None:
        """Read map files, given with the place that names each; those of the flow go before the others."""
        for path, at in files:
            found = self._read(path, at)
            if found is None:
                continue
            self.maps.insert(self._own_maps if is_of_flow else len(self.maps), found)
            self._own_maps += is_of_flow
            self._words = None

    def locate(self, name: str, at: At) -> str | None:
        """Return the flow file of the package; None where nothing knows it. A broken entry is reported at `at`."""
        for package_map in self.maps:
            for entry in package_map.entries:
                if entry.name == name:
                    return self._mapped(package_map, entry)
        for directory in self.directories:
            found = _in_directory(directory, name)
            if found is not None:
                return found
        try:
            return self.plugins.path(name)
        except DfmError as error:
            self.diagnostics.error("broken-plugin", error.message, at, hint=error.hint)
            self.diagnostics.lost.add_package("", [name], None)
            return None

    def why_not(self, name: str) -> str | None:
        """Return what may be the reason that a name is not known: a plugin that cannot be imported."""
        failure = self.plugins.failure(name)
        return None if failure is None else failure.message

    def may_know(self, word: str) -> bool:
        """Whether a package could be known whose name begins with this word."""
        if self._words is None:
            names = [entry.name for package_map in self.maps for entry in package_map.entries]
            names += self.plugins.names
            for directory in self.directories:
                names += names_in(directory)
            self._words = {name.partition(".")[0] for name in names}
        return word in self._words

    @property
    def is_known(self) -> bool:
        """Whether any name can be found here."""
        return bool(self.maps or self.directories or self.plugins.names)

    @property
    def names(self) -> list[str]:
        """The names that are known without looking further, for suggestions."""
        return [*(entry.name for package_map in self.maps for entry in package_map.entries), *self.plugins.names]

    def _read(self, path: str, at: At) -> PackageMap | None:
        if not is_file(path):
            self.diagnostics.error("missing-package-map", f"there is no package map {path!r}", at)
            self.diagnostics.lost.add_map(None)
            return None
        self.files.append(path)
        node = read_flow_file(path, self.diagnostics)
        if node is None:
            self.diagnostics.lost.add_map(path)
            return None
        return PackageMap(path, decode_package_map(node, self.diagnostics))

    def _mapped(self, package_map: PackageMap, entry: MapEntry) -> str | None:
        path = real_path(os.path.join(os.path.dirname(package_map.file), entry.path.value))
        found = find_in_directory(path) if is_directory(path) else path if is_file(path) else None
        if found is None:
            self.diagnostics.error(
                "missing-import",
                f"package {entry.name!r} is mapped to {entry.path.value!r}, and there is no flow file",
                entry.path.node,
            )
            self.diagnostics.lost.add_package("", [entry.name], None)
        return found


def registry_from(
    environ: Mapping[str, str], map_files: Sequence[str], plugins: PluginPackages, diagnostics: Diagnostics
) -> PackageRegistry:
    """Return the registry of this environment and command line, whose `--package-map` gives `map_files`."""
    directories = [part for part in environ.get(PATH_VARIABLE, "").split(os.pathsep) if part]
    registry = PackageRegistry(diagnostics, plugins, directories)
    of_environment = [part for part in environ.get(MAP_VARIABLE, "").split(os.pathsep) if part]
    registry.add_maps([(os.path.abspath(path), None) for path in [*map_files, *of_environment]], is_of_flow=False)
    return registry


def _in_directory(directory: str, name: str) -> str | None:
    for candidate in dict.fromkeys((name, name.replace(".", os.sep))):
        path = os.path.join(directory, candidate)
        found = find_in_directory(path)
        if found is not None:
            return real_path(found)
        for suffix in dict.fromkeys(os.path.splitext(flow)[1] for flow in FLOW_NAMES):
            if is_file(path + suffix):
                return real_path(path + suffix)
    found = find_in_directory(directory)
    return found if found is not None and _package_name(found) == name else None


def _package_name(path: str) -> str | None:
    """Return the name of the package that a file holds; its faults are told when it is loaded."""
    node = read_flow_file(path, Diagnostics())
    package = node.entries.get("package") if isinstance(node, MappingNode) else None
    if package is None or not isinstance(package.value, MappingNode):
        return None
    name = package.value.entries.get("name")
    return name.value.text if name is not None and isinstance(name.value, Scalar) else None
