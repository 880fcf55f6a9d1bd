"""From a root flow file to a Flow: every file it needs is read, every name resolved, every fault reported at once.

Files are read in the order in which they are named. A package is loaded once, however many import it; one that is
imported by its name alone is read when something of it is first named. Nothing that a flow names is executed here.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from dfm.core.flow.asked import is_directory, is_file, real_path, walk
from dfm.core.flow.cycles import find_cycle
from dfm.core.flow.decode import decode_file
from dfm.core.flow.definitions import (
    AssignmentDefinition,
    ConfigDefinition,
    FileDefinition,
    ImportDefinition,
    TaskDefinition,
    TypeDefinition,
)
from dfm.core.flow.diagnostics import At, Diagnostics, did_you_mean, is_suggestion
from dfm.core.flow.filters import add_filters
from dfm.core.flow.loaded import Declared, ImportSettings, LoadedPackage, Place
from dfm.core.flow.locate import FLOW_NAMES, find_in_directory, read_flow_file
from dfm.core.flow.model import Flow, PackageScope, Text, Visibility
from dfm.core.flow.overrides import Overrides
from dfm.core.flow.registry import PackageRegistry, registry_from
from dfm.core.flow.resolve import resolve_flow
from dfm.core.flow.scopes import PackageNames
from dfm.core.flow.source import KeyMark, Scalar
from dfm.core.flow.values import ValueFault, coerce, evaluate, evaluate_text
from dfm.core.plugins.packages import PluginPackages

if TYPE_CHECKING:
    from dfm.core.flow.source import Place as PlaceInFile

DEFAULT_CONFIG = "default"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*(\.[A-Za-z_][A-Za-z0-9_-]*)*\Z")


def load_flow(
    root_file: str,
    *,
    environ: Mapping[str, str],
    overrides: Overrides | None = None,
    config: str | None = None,
    standard_library: str,
    package_maps: Sequence[str] = (),
    plugins: PluginPackages | None = None,
    is_thorough: bool = False,
) -> Flow:
    """Load the flow whose root package is in `root_file`.

    Args:
        root_file: absolute path.
        environ: what `${{ env.NAME }}` sees.
        overrides: parameters and tasks set on the command line.
        config: configuration of the root package to apply; None applies one named "default" if there is one.
        standard_library: absolute path of the flow file of package `std`.
        package_maps: files of `--package-map`.
        plugins: task packages of installed distributions.
        is_thorough: whether imports that nothing touches are read too, so that their faults are found.

    Raises:
        FlowInvalid: the flow has faults; the exception holds all of them.
    """
    diagnostics = Diagnostics()
    overrides = overrides or Overrides()
    registry = registry_from(environ, package_maps, plugins or PluginPackages(()), diagnostics)
    loader = Loader(environ, overrides, diagnostics, registry, os.path.dirname(root_file), root_file, config)
    loader.is_thorough = is_thorough
    loader.load_package(standard_library)
    root = loader.load_package(root_file, is_root=True)
    if root is None:
        diagnostics.raise_if_errors()
        raise AssertionError("a package that cannot be loaded leaves a diagnostic")
    for name in overrides.names:
        loader.touch_prefix(name)
    return resolve_flow(root, loader, overrides.tasks_replaced)


@dataclass(slots=True)
class Loader:
    """Reads files and keeps the packages that came of them."""

    environ: Mapping[str, str]
    overrides: Overrides
    diagnostics: Diagnostics
    registry: PackageRegistry
    rootdir: str
    root_file: str
    config: str | None
    by_name: dict[str, LoadedPackage] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    is_thorough: bool = False
    _by_path: dict[str, LoadedPackage | None] = field(default_factory=dict)
    _scopes: dict[str, PackageScope] = field(default_factory=dict)
    _waiting: dict[str, tuple[str, At]] = field(default_factory=dict)
    _settings: dict[str, ImportSettings] = field(default_factory=dict)
    _loading: list[str] = field(default_factory=list)

    @property
    def has_more(self) -> bool:
        """Whether there may be packages that were not read yet."""
        return bool(self._waiting) or self.registry.is_known

    def touch(self, name: str) -> bool:
        """Read the package called `name` if it is known and was not read yet; return whether that was so."""
        if name in self.by_name:
            return False
        path, at = self._waiting.pop(name, (None, None))
        if path is None and self.registry.may_know(name.partition(".")[0]):
            path = self.registry.locate(name, at)
        if path is None or real_path(path) in self._by_path:
            return False
        is_read = self._load_named(name, path, at) is not None
        if not is_read:
            self.diagnostics.lost.add_package("", [name], path)
        return is_read

    def touch_prefix(self, dotted: str) -> bool:
        """Read the package with the longest name that `dotted` begins with; return whether one was read."""
        words = dotted.split(".")
        return any(self.touch(".".join(words[:count])) for count in range(len(words) - 1, 0, -1))

    def touch_imports(self, package: LoadedPackage) -> bool:
        """Read all that a package imports; return whether anything was read."""
        read = [self.touch(name) for name in list(package.imports)]
        return any(read)

    def touch_rest(self) -> bool:
        """Where the reading is thorough, read all imports that nothing has touched; return whether any was read."""
        is_read = False
        while self.is_thorough and self._waiting:
            is_read |= self.touch(next(iter(self._waiting)))
        return is_read

    def load_package(self, path: str, *, is_root: bool = False) -> LoadedPackage | None:
        path = real_path(path)
        if path in self._by_path:
            return self._by_path[path]
        self._by_path[path] = None
        definition = self._read(path)
        if definition is None:
            return None
        if definition.is_fragment:
            self.diagnostics.error(
                "not-a-package",
                "the file is a fragment, not a package",
                definition.at,
                hint="name it under `fragments:` of its package",
            )
            return None
        if not definition.name:
            return None
        scope = self._scope(definition.name)
        scope.srcdir = os.path.dirname(path)
        names = PackageNames(scope, self.environ, self.rootdir, self.root_file)
        package = LoadedPackage(definition, path, scope, names)
        if self._is_second(package):
            return None
        self._by_path[path] = self.by_name[definition.name] = package
        self._loading.append(path)
        self._fill(package, is_root=is_root)
        self._loading.pop()
        return package

    def refuse_import_cycles(self) -> None:
        """Report a circle of imports that was not met while reading, since its packages were read on demand."""
        cycle = find_cycle(self.by_name, lambda name: [n for n in self.by_name[name].imports if n in self.by_name])
        if cycle is not None and not self.diagnostics.has("import-cycle"):
            item = self.by_name[cycle[0]].imports[cycle[1]]
            self.diagnostics.error("import-cycle", f"the imports go round in a circle: {' -> '.join(cycle)}", item.at)

    def _fill(self, package: LoadedPackage, *, is_root: bool) -> None:
        definition = package.definition
        place = Place(prefix=definition.name, srcdir=package.scope.srcdir)
        self._add_maps(package)
        package.is_root = is_root
        package.configs = self._configurations(package)
        waiting = self._settle(package, report=False)
        self._add_file(package, definition, place)
        if package.config_name is not None and not package.configs:
            package.configs = self._fragment_configuration(package)
            waiting = waiting or bool(package.configs)
        for config in package.configs:
            self._apply(package, config, place)
        if waiting:
            self._settle(package, report=True)
        self._take_base(package)
        for task, where in package.replacing:
            self._replace(package, task, where)

    def _read(self, path: str) -> FileDefinition | None:
        node = read_flow_file(path, self.diagnostics)
        self.files.append(path)
        return None if node is None else decode_file(node, self.diagnostics)

    def _scope(self, name: str) -> PackageScope:
        if name not in self._scopes:
            self._scopes[name] = PackageScope(name, "", loaded=self._scopes)
        return self._scopes[name]

    def _is_second(self, package: LoadedPackage) -> bool:
        other = self.by_name.get(package.name)
        if other is not None:
            self.diagnostics.error(
                "duplicate-package",
                f"two packages are named {package.name!r}; the other is {other.definition.at.location}",
                package.definition.at,
            )
        return other is not None

    def _add_maps(self, package: LoadedPackage) -> None:
        found = []
        for text in package.definition.package_maps:
            path = self._text(text, package)
            if path is not None:
                found.append((os.path.normpath(os.path.join(package.scope.srcdir, path)), text.node))
        self.registry.add_maps(found, is_of_flow=True)

    def _configurations(self, package: LoadedPackage) -> list[ConfigDefinition]:
        """Return the chosen configuration after those it starts from; none where it is that of a fragment."""
        by_name = {config.name: config for config in package.definition.configs}
        package.extensions_of.update({name: config.extensions for name, config in by_name.items()})
        settings = self._settings.get(package.name)
        wanted = self.config if package.is_root or self.config in by_name else None
        wanted = settings.config if settings is not None and settings.config is not None else wanted
        if wanted is None:
            wanted = DEFAULT_CONFIG if DEFAULT_CONFIG in by_name else None
        package.config_name = wanted
        if wanted is None or wanted not in by_name:
            return []
        return self._with_bases(by_name[wanted], by_name)

    def _fragment_configuration(self, package: LoadedPackage) -> list[ConfigDefinition]:
        """Return the chosen configuration where a fragment has it; else report that nothing has it."""
        name = package.config_name
        assert name is not None
        if name in package.fragment_configs:
            config, place = package.fragment_configs[name]
            own = {
                other.name: other for other, where in package.fragment_configs.values() if where.prefix == place.prefix
            }
            return self._with_bases(config, {c.name: c for c in package.definition.configs} | own)
        known = [*(config.name for config in package.definition.configs), *package.fragment_configs]
        hint = did_you_mean(name, known) or f"it has: {', '.join(sorted(known)) or 'none'}"
        if not self.diagnostics.lost.may_be_named(name.rpartition(".")[2], is_near=is_suggestion(hint)):
            message = f"package {package.name!r} has no configuration {name!r}"
            self.diagnostics.error("unknown-config", message, self._config_at(package), hint=hint)
        return []

    def _config_at(self, package: LoadedPackage) -> At:
        """Return what asks for the package's configuration, where an import does."""
        settings = self._settings.get(package.name)
        asking = None if settings is None else settings.config_at
        return package.definition.at if asking is None else asking

    def _with_bases(self, config: ConfigDefinition, by_name: Mapping[str, ConfigDefinition]) -> list[ConfigDefinition]:
        chain = [config]
        while (base := chain[0].uses) is not None:
            if base.value not in by_name or by_name[base.value] in chain:
                problem = "leads back to itself" if base.value in by_name else "does not exist"
                self.diagnostics.error(
                    "unknown-config",
                    f"configuration {base.value!r} {problem}",
                    base.node,
                    hint=did_you_mean(base.value, by_name),
                )
                break
            chain.insert(0, by_name[base.value])
        return chain

    def _apply(self, package: LoadedPackage, config: ConfigDefinition, place: Place) -> None:
        """Add what a configuration brings besides values of parameters."""
        package.extensions += config.extensions
        package.overrides += config.overrides
        for item in config.imports:
            self._import(package, item, place)
        for entry in config.fragments:
            for path in self._fragment_files(package, entry, place):
                self._fragment(package, path, entry, place)
        self._add_tasks(package, config.tasks, place)
        self._add_types(package, config.types, place, is_replacing=True)

    def _settle(self, package: LoadedPackage, *, report: bool) -> bool:
        """Evaluate the package's parameters; return whether some must wait for the imports."""
        declared = {item.name: item for item in package.definition.assignments}
        assigned = [item for config in package.configs for item in config.assignments]
        settings = self._settings.get(package.name)
        given = {} if settings is None else settings.values
        if not report:
            for item in assigned:
                self._refuse_unknown(package, item.name, item.key)
        for name, (_, key) in given.items():
            self._refuse_unknown(package, name, key)
        statements: dict[str, list[AssignmentDefinition]] = {}
        for item in (*package.definition.assignments, *assigned):
            statements.setdefault(item.name, []).append(item)
        for name in declared:
            package.scope.params.pop(name, None)
        waiting, before = list(declared), len(declared) + 1
        while waiting and len(waiting) < before:
            before = len(waiting)
            waiting = [n for n in waiting if not self._settle_one(package, statements[n], given, Diagnostics())]
        if report:
            waiting = [n for n in waiting if not self._settle_one(package, statements[n], given, self.diagnostics)]
            for name in waiting:
                self.diagnostics.lost.add_parameter(name)
        return bool(waiting)

    def _settle_one(
        self,
        package: LoadedPackage,
        statements: list[AssignmentDefinition],
        given: Mapping[str, tuple[object, KeyMark]],
        sink: Diagnostics,
    ) -> bool:
        """Evaluate one parameter; return False where another one that it needs has no value yet."""
        name = statements[0].name
        override = self.overrides.of_package(package.name, name, is_root=package.is_root)
        try:
            if override is not None:
                value = override[1]
            elif name in given:
                value = given[name][0]
            else:
                value = self._value(statements, package, sink)
            package.scope.params[name] = coerce(value, statements[0].type)
        except ValueFault:
            return False
        except ValueError as error:
            source = f" (set by {self.overrides.option(override[0])})" if override is not None else ""
            at = given[name][1] if name in given and override is None else statements[-1].key
            self.diagnostics.error("wrong-type", f"parameter {name!r}: {error}{source}", at)
            self.diagnostics.lost.add_parameter(name)
        return True

    def _value(self, statements: list[AssignmentDefinition], package: LoadedPackage, sink: Diagnostics) -> object:
        kind = statements[0].type
        value: object = None if kind is None else kind.empty
        for item in statements:
            if item.node is not None:
                value = item.operation.applied(value, evaluate(item.node, package.names, sink))
        return value

    def _refuse_unknown(self, package: LoadedPackage, name: str, at: At) -> None:
        known = [item.name for item in package.definition.assignments]
        if name not in known:
            hint = did_you_mean(name, known) or f"it has: {', '.join(known) or 'none'}"
            message = f"package {package.name!r} has no parameter {name!r}"
            self.diagnostics.error("unknown-parameter", message, at, hint=hint)

    def _add_file(self, package: LoadedPackage, definition: FileDefinition, place: Place) -> None:
        for item in definition.imports:
            self._import(package, item, place)
        self._add_tasks(package, definition.tasks, place)
        self._add_types(package, definition.types, place)
        add_filters(package.scope, definition.filters, self.diagnostics)
        package.overrides += definition.overrides
        for entry in definition.fragments:
            for path in self._fragment_files(package, entry, place):
                self._fragment(package, path, entry, place)

    def _fragment(self, package: LoadedPackage, path: str, entry: Text, place: Place) -> None:
        if path in self._loading:
            self.diagnostics.error("fragment-cycle", f"the fragment {entry.value!r} includes itself", entry.node)
            return
        definition = self._read(path)
        if definition is None:
            self.diagnostics.lost.add_part(package.name, path)
            return
        if not definition.is_fragment:
            self.diagnostics.lost.add_part(package.name, path)
            self.diagnostics.error(
                "not-a-fragment",
                f"{entry.value!r} holds a package, not a fragment",
                entry.node,
                hint="name it under `imports:`",
            )
            return
        prefix = f"{place.prefix}.{definition.name}" if definition.name else place.prefix
        inner = Place(prefix=prefix, srcdir=os.path.dirname(path), outer=place)
        self._add_parameters(package, definition)
        for config in definition.configs:
            self._add_fragment_config(package, config, definition, inner)
        self._loading.append(path)
        self._add_file(package, definition, inner)
        self._loading.pop()

    def _add_parameters(self, package: LoadedPackage, fragment: FileDefinition) -> None:
        """Make the parameters that a fragment declares parameters of its package."""
        known = {item.name for item in package.definition.assignments}
        fresh = []
        for item in fragment.assignments:
            if item.name in known:
                self.diagnostics.error(
                    "duplicate-parameter", f"package {package.name!r} has a parameter {item.name!r} already", item.key
                )
            else:
                fresh.append(item)
        if fresh:
            package.definition.assignments = [*package.definition.assignments, *fresh]
            self._settle(package, report=True)

    def _add_fragment_config(
        self, package: LoadedPackage, config: ConfigDefinition, fragment: FileDefinition, place: Place
    ) -> None:
        if not fragment.name:
            self.diagnostics.error(
                "unnamed-fragment",
                f"configuration {config.name!r} cannot be chosen, since its fragment has no name",
                config.at,
                hint="give the fragment a `name`; the configuration is then `<fragment>.<configuration>`",
            )
            return
        name = f"{place.prefix.removeprefix(package.name + '.')}.{config.name}"
        package.fragment_configs[name] = (config, place)
        package.extensions_of[name] = config.extensions

    def _fragment_files(self, package: LoadedPackage, entry: Text, place: Place) -> Iterator[str]:
        relative = self._text(entry, package)
        if relative is None:
            return
        path = real_path(os.path.join(place.srcdir, relative))
        if is_file(path):
            yield path
        elif is_directory(path):
            found = sorted(
                os.path.join(base, name) for base, files in walk(path) for name in FLOW_NAMES if name in files
            )
            if not found:
                self.diagnostics.error("missing-fragment", f"no flow file below {entry.value!r}", entry.node)
                self.diagnostics.lost.add_part(package.name, None)
            yield from (item for item in found if item not in self.files)
        else:
            self.diagnostics.error(
                "missing-fragment",
                f"there is no file or directory {entry.value!r}",
                entry.node,
                hint=_near_file(path),
            )
            self.diagnostics.lost.add_part(package.name, None)

    def _import(self, package: LoadedPackage, item: ImportDefinition, place: Place) -> None:
        wanted = None if item.wanted is None else self._text(item.wanted, package)
        given = None if item.path is None else self._text(item.path, package)
        if (wanted is None) != (item.wanted is None) or (given is None) != (item.path is None):
            return
        if given is not None:
            path, name = self._import_file(given, place), wanted
        else:
            assert wanted is not None
            path = self.registry.locate(wanted, item.at) if _NAME.match(wanted) else None
            name = wanted if path is not None else None
            if path is None and wanted in self.by_name:
                path, name = self.by_name[wanted].file, wanted
            path = path or self._import_file(wanted, place)
        text = item.path or item.wanted
        assert text is not None
        if path is None:
            self._missing_import(text.node, given or wanted or "", place)
            is_name = wanted is not None and _NAME.match(wanted) is not None
            names = [wanted if is_name else None, _alias(item)]
            self.diagnostics.lost.add_package(package.name, names, None)
            return
        self._import_from(package, item, real_path(path), name, text.node)

    def _import_from(self, package: LoadedPackage, item: ImportDefinition, path: str, name: str | None, at: At) -> None:
        """Import the package in the file `path`, at once or, where its name is known, when it is needed."""
        if path in self._loading:
            cycle = [*self._loading[self._loading.index(path) :], path]
            shown = " -> ".join(os.path.relpath(p, self.rootdir) for p in cycle)
            self.diagnostics.error("import-cycle", f"the imports go round in a circle: {shown}", at)
            if item.alias is not None:
                self.diagnostics.lost.add_package(package.name, [item.alias.value], None)
            return
        has_settings = bool(item.assignments) or item.config is not None
        known = self._by_path.get(path)
        if name is None or (has_settings and known is None):
            settings = self._settings_of(item, package) if has_settings else None
            if name is None:
                name = known.name if known is not None else _peeked_name(path)
            if name is not None and settings is not None:
                self._agree(name, settings, item)
            imported = self._load_named(name, path, at)
            if imported is None:
                self.diagnostics.lost.add_package(package.name, [name, _alias(item)], path)
                return
            name = imported.name
        elif has_settings:
            self._agree(name, self._settings_of(item, package), item)
        if has_settings and known is not None:
            self._settle(known, report=True)
        if name not in self.by_name:
            self._waiting.setdefault(name, (path, at))
        self._name_import(package, item, name)

    def _load_named(self, name: str | None, path: str, at: At) -> LoadedPackage | None:
        imported = self.load_package(path)
        if imported is not None and name is not None and imported.name != name:
            shown = os.path.relpath(path, self.rootdir)
            self.diagnostics.error("wrong-package", f"{shown} holds package {imported.name!r}, not {name!r}", at)
            return None
        return imported

    def _name_import(self, package: LoadedPackage, item: ImportDefinition, name: str) -> None:
        scope = self._scope(name)
        package.imports.setdefault(name, item)
        package.scope.imports.setdefault(name, scope)
        if item.alias is None:
            return
        alias = item.alias.value
        other = package.scope.imports.get(alias) or self.by_name.get(alias, package).scope
        if alias in package.scope.imports or alias in self.by_name:
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
        if package.is_root and self.overrides.name_package(name, alias) and name in self.by_name:
            self._settle(self.by_name[name], report=True)

    def _settings_of(self, item: ImportDefinition, package: LoadedPackage) -> ImportSettings:
        values: dict[str, tuple[object, KeyMark]] = {}
        for assignment in item.assignments:
            if assignment.node is None:
                continue
            try:
                values[assignment.name] = (evaluate(assignment.node, package.names, self.diagnostics), assignment.key)
            except ValueFault:
                continue
        config = None if item.config is None else self._text(item.config, package)
        return ImportSettings(values, config, None if item.config is None else item.config.node)

    def _agree(self, name: str, settings: ImportSettings, item: ImportDefinition) -> None:
        """Join what several imports say of one package; they may not contradict each other."""
        before = self._settings.get(name) or ImportSettings({}, None, None)
        for parameter, (value, key) in settings.values.items():
            other = before.values.get(parameter)
            if other is not None and other[0] != value:
                self.diagnostics.error(
                    "conflicting-imports",
                    f"package {name!r} is imported with {parameter} = {value!r} here"
                    f" and with {other[0]!r} at {other[1].location}",
                    key,
                )
        known = self.by_name.get(name)
        current = before.config if known is None else known.config_name
        if settings.config is not None and (before.config or known) and current != settings.config:
            self.diagnostics.error(
                "conflicting-imports",
                f"package {name!r} is imported with configuration {settings.config!r} here"
                f" and with {current or 'none'!r} elsewhere",
                settings.config_at or item.at,
            )
        self._settings[name] = ImportSettings(
            {**settings.values, **before.values},
            before.config or settings.config,
            before.config_at or settings.config_at,
        )

    def _missing_import(self, at: At, wanted: str, place: Place) -> None:
        hint = _near_file(os.path.join(place.srcdir, wanted)) or did_you_mean(wanted, self.registry.names)
        reason = self.registry.why_not(wanted) if _NAME.match(wanted) else None
        message = f"there is no package {wanted!r}, and no flow file of this path"
        self.diagnostics.error("missing-import", message, at, hint=reason or hint)

    def _import_file(self, wanted: str, place: Place) -> str | None:
        for base in (place.srcdir, self.rootdir):
            path = real_path(os.path.join(base, wanted))
            if is_file(path):
                return path
            if is_directory(path):
                return _flow_below(path)
        return None

    def _add_tasks(self, package: LoadedPackage, tasks: Sequence[TaskDefinition], place: Place) -> None:
        for task in tasks:
            if task.override is not None:
                package.replacing.append((task, place))
                continue
            leaf = self._expanded(task.name, task, package)
            if leaf is None:
                continue
            name = f"{place.prefix}.{leaf}"
            task.name = leaf
            other = package.tasks.get(name)
            if other is not None:
                self.diagnostics.error(
                    "duplicate-task",
                    f"two tasks are named {name!r}; the first is at {other.definition.at.location}",
                    task.at,
                    hint="`override:` instead of `name:` replaces a task",
                )
                continue
            package.tasks[name] = Declared(name, task, place)

    def _add_types(
        self, package: LoadedPackage, types: Sequence[TypeDefinition], place: Place, *, is_replacing: bool = False
    ) -> None:
        for kind in types:
            name = f"{place.prefix}.{kind.name}"
            if name in package.types and not is_replacing:
                self.diagnostics.error("duplicate-type", f"two types are named {name!r}", kind.at)
                continue
            package.types[name] = Declared(name, kind, place)

    def _take_base(self, package: LoadedPackage) -> None:
        """Give a package that `uses` another one the tasks of it that it does not have itself."""
        uses = package.definition.uses
        if uses is None:
            return
        wanted = self._text(uses, package)
        if wanted is None:
            return
        scope = package.scope.imports.get(wanted)
        name = wanted if scope is None else scope.package
        self.touch(name)
        base = self.by_name.get(name)
        if base is None or base is package:
            hint = did_you_mean(wanted, [*package.scope.imports, *self.registry.names])
            if not self.diagnostics.lost.may_be_package(name, is_near=is_suggestion(hint)):
                self.diagnostics.error(
                    "unknown-package", f"there is no package {wanted!r} to start from", uses.node, hint=hint
                )
            self.diagnostics.lost.add_base(package.name)
            return
        package.base = base
        package.imports.setdefault(name, ImportDefinition(at=uses.node, wanted=uses))
        package.scope.imports.setdefault(name, base.scope)
        replaced = {task.override.value.rpartition(".")[2] for task, _ in package.replacing if task.override}
        for full, item in base.tasks.items():
            inner = full.removeprefix(f"{name}.")
            own = f"{package.name}.{inner}"
            if own not in package.tasks and inner not in replaced and full not in base.hidden:
                place = item.place.taken_over(name, package.name)
                package.tasks[own] = Declared(own, item.definition, place, item.owner or base)

    def _replace(self, package: LoadedPackage, task: TaskDefinition, place: Place) -> None:
        """Put a task with `override` in the place of the one it names; the old one stays for it to build on."""
        assert task.override is not None
        target = task.override.value
        leaf = target.removeprefix(f"{package.name}.")
        if package.base is not None:
            leaf = leaf.removeprefix(f"{package.base.name}.")
        own = next((n for p in place.prefixes() if (n := f"{p}.{leaf}") in package.tasks), f"{package.name}.{leaf}")
        base_name = None if package.base is None else f"{package.base.name}.{leaf}"
        if own in package.tasks:
            old = package.tasks[own]
            kept = f"{own}~{len(package.hidden)}"
            package.tasks[kept] = Declared(kept, old.definition, old.place, old.owner)
            package.hidden.add(kept)
        elif base_name is not None and package.base is not None and base_name in package.base.tasks:
            kept = base_name
        else:
            known = [name.removeprefix(f"{package.name}.") for name in package.tasks]
            known += [] if package.base is None else [n.partition(".")[2] for n in package.base.tasks]
            hint = did_you_mean(target, known)
            if not self.diagnostics.lost.may_define(leaf, package.name, self.by_name, is_near=is_suggestion(hint)):
                message = f"there is no task {target!r} to override"
                self.diagnostics.error("unknown-task", message, task.override.node, hint=hint)
            return
        if task.uses is None or task.uses.value in (target, leaf):
            task.uses = Text(kept, task.override.node)
        if not task.visibility - {Visibility.PACKAGE}:
            task.visibility = self._visibility_of(package, kept)
        alias = f"{place.prefix}.{task.name}"
        package.tasks[own] = Declared(own, task, place)
        if alias not in package.tasks:
            package.tasks[alias] = Declared(
                alias, TaskDefinition(name=task.name, at=task.at, uses=Text(own, _written(own, task.at))), place
            )

    def _visibility_of(self, package: LoadedPackage, name: str) -> "frozenset[Visibility]":
        owner = package if name in package.tasks else package.base
        assert owner is not None
        return owner.tasks[name].definition.visibility

    def _expanded(self, name: str, task: TaskDefinition, package: LoadedPackage) -> str | None:
        if "${{" not in name:
            return name
        try:
            return evaluate_text(name, task.at, package.names, self.diagnostics)
        except ValueFault:
            return None

    def _text(self, text: Text, package: LoadedPackage) -> str | None:
        try:
            return evaluate_text(text.value, text.node, package.names, self.diagnostics)
        except ValueFault:
            return None


def _alias(item: ImportDefinition) -> str | None:
    return None if item.alias is None else item.alias.value


def _written(text: str, at: "PlaceInFile") -> Scalar:
    """Return a text as if it stood at a place."""
    return Scalar(at.file, at.line, at.column, text, text)


def _peeked_name(path: str) -> str | None:
    """Return the name of the package in a file that is about to be loaded, where it can be seen."""
    definition_node = read_flow_file(path, Diagnostics())
    definition = None if definition_node is None else decode_file(definition_node, Diagnostics())
    return None if definition is None else definition.name or None


def _flow_below(directory: str) -> str | None:
    """Return the flow file of a directory, else the first one below it in order of names."""
    found = find_in_directory(directory)
    if found is not None:
        return found
    for base, _ in walk(directory):
        found = find_in_directory(base)
        if found is not None:
            return found
    return None


def _near_file(path: str) -> str | None:
    directory = Path(path).parent
    if not directory.is_dir():
        return None
    return did_you_mean(Path(path).name, sorted(item.name for item in directory.iterdir()))
