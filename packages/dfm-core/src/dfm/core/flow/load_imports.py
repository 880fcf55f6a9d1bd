"""What a package imports: by name or by path, at once or when something of it is first named.

An import by a known name waits, unless it says something about the package (values, a configuration); an import by path
alone is read at once, for its name stands in the file.
"""

import os
import re
from collections.abc import Callable

from msgspec import Struct

from dfm.core.flow.asked import is_directory, is_file, real_path
from dfm.core.flow.decode import decode_file
from dfm.core.flow.definitions import ImportDefinition
from dfm.core.flow.diagnostics import At, Diagnostics, did_you_mean
from dfm.core.flow.load_parameters import Parameters
from dfm.core.flow.load_tables import Tables
from dfm.core.flow.loaded import LoadedPackage, Place
from dfm.core.flow.locate import flow_below, near_file, read_flow_file
from dfm.core.flow.registry import PackageRegistry

Load = Callable[[str], LoadedPackage | None]
"""Loads the package in the file of a path; None where that is not possible."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*(\.[A-Za-z_][A-Za-z0-9_-]*)*\Z")


class Imports(Struct, frozen=True):
    """Finds what is imported and gives it its names."""

    tables: Tables
    parameters: Parameters
    registry: PackageRegistry
    rootdir: str
    diagnostics: Diagnostics

    def add(self, package: LoadedPackage, item: ImportDefinition, place: Place, load: Load) -> None:
        """Import what an entry of a package names."""
        wanted = None if item.wanted is None else package.expand(item.wanted, self.diagnostics)
        given = None if item.path is None else package.expand(item.path, self.diagnostics)
        if (wanted is None) != (item.wanted is None) or (given is None) != (item.path is None):
            return
        if given is not None:
            path, name = self._import_file(given, place), wanted
        else:
            assert wanted is not None
            path = self.registry.locate(wanted, item.at) if _NAME.match(wanted) else None
            name = wanted if path is not None else None
            if path is None and wanted in self.tables.by_name:
                path, name = self.tables.by_name[wanted].file, wanted
            path = path or self._import_file(wanted, place)
        text = item.path or item.wanted
        assert text is not None
        if path is None:
            self._missing_import(text.node, given or wanted or "", place)
            is_name = wanted is not None and _NAME.match(wanted) is not None
            names = [wanted if is_name else None, _alias(item)]
            self.diagnostics.lost.add_package(package.name, names, None)
            return
        self._import_from(package, item, real_path(path), name, text.node, load)

    def load_named(self, name: str | None, path: str, at: At, load: Load) -> LoadedPackage | None:
        """Load the package in a file; tell it where it is not the one of the name."""
        imported = load(path)
        if imported is not None and name is not None and imported.name != name:
            shown = os.path.relpath(path, self.rootdir)
            self.diagnostics.error("wrong-package", f"{shown} holds package {imported.name!r}, not {name!r}", at)
            return None
        return imported

    def _import_from(
        self, package: LoadedPackage, item: ImportDefinition, path: str, name: str | None, at: At, load: Load
    ) -> None:
        """Import the package in the file `path`, at once or, where its name is known, when it is needed."""
        if path in self.tables.loading:
            cycle = [*self.tables.loading[self.tables.loading.index(path) :], path]
            shown = " -> ".join(os.path.relpath(p, self.rootdir) for p in cycle)
            self.diagnostics.error("import-cycle", f"the imports go round in a circle: {shown}", at)
            if item.alias is not None:
                self.diagnostics.lost.add_package(package.name, [item.alias.value], None)
            return
        has_settings = bool(item.assignments) or item.config is not None
        known = self.tables.by_path.get(path)
        if name is None or (has_settings and known is None):
            settings = self.parameters.settings_of(item, package) if has_settings else None
            if name is None:
                name = known.name if known is not None else _peeked_name(path)
            if name is not None and settings is not None:
                self.parameters.agree(name, settings, item, self.tables.by_name.get(name))
            imported = self.load_named(name, path, at, load)
            if imported is None:
                self.diagnostics.lost.add_package(package.name, [name, _alias(item)], path)
                return
            name = imported.name
        elif has_settings:
            self.parameters.agree(name, self.parameters.settings_of(item, package), item, self.tables.by_name.get(name))
        if has_settings and known is not None:
            self.parameters.settle(known, report=True)
        if name not in self.tables.by_name:
            self.tables.waiting.setdefault(name, (path, at))
        self._name_import(package, item, name)

    def _name_import(self, package: LoadedPackage, item: ImportDefinition, name: str) -> None:
        scope = self.tables.scope(name)
        package.imports.setdefault(name, item)
        package.scope.imports.setdefault(name, scope)
        if item.alias is None:
            return
        alias = item.alias.value
        other = package.scope.imports.get(alias) or self.tables.by_name.get(alias, package).scope
        if alias in package.scope.imports or alias in self.tables.by_name:
            if other is not scope:
                first = package.imports.get(other.package)
                where = "" if first is None else f" (imported at {first.at.location})"
                self.diagnostics.error(
                    "ambiguous-alias",
                    f"{alias!r} names both package {other.package!r}{where} and package {name!r}",
                    item.alias.node,
                )
            return
        package.scope.imports[alias] = scope
        if package.is_root and self.parameters.overrides.name_package(name, alias) and name in self.tables.by_name:
            self.parameters.settle(self.tables.by_name[name], report=True)

    def _missing_import(self, at: At, wanted: str, place: Place) -> None:
        hint = near_file(os.path.join(place.srcdir, wanted)) or did_you_mean(wanted, self.registry.names)
        reason = self.registry.why_not(wanted) if _NAME.match(wanted) else None
        message = f"there is no package {wanted!r}, and no flow file of this path"
        self.diagnostics.error("missing-import", message, at, hint=reason or hint)

    def _import_file(self, wanted: str, place: Place) -> str | None:
        for base in (place.srcdir, self.rootdir):
            path = real_path(os.path.join(base, wanted))
            if is_file(path):
                return path
            if is_directory(path):
                return flow_below(path)
        return None


def _alias(item: ImportDefinition) -> str | None:
    return None if item.alias is None else item.alias.value


def _peeked_name(path: str) -> str | None:
    """Return the name of the package in a file that is about to be loaded, where it can be seen."""
    definition_node = read_flow_file(path, Diagnostics())
    definition = None if definition_node is None else decode_file(definition_node, Diagnostics())
    return None if definition is None else definition.name or None
