"""From a root flow file to a Flow: every file it reaches is read, every name resolved, every fault reported at once.

Files are read in the order in which they are named. A package is loaded once, however many import it. Nothing that a
flow names is executed here.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dfm.core.flow.decode import (
    AssignmentDefinition,
    ConfigDefinition,
    FileDefinition,
    ImportDefinition,
    TaskDefinition,
    TypeDefinition,
    decode_file,
)
from dfm.core.flow.diagnostics import Diagnostics, did_you_mean
from dfm.core.flow.locate import FLOW_NAMES, find_in_directory, read_flow_file
from dfm.core.flow.model import Flow, PackageScope, Text
from dfm.core.flow.overrides import Overrides
from dfm.core.flow.resolve import Declared, LoadedPackage, Place, resolve_flow
from dfm.core.flow.scopes import PackageNames
from dfm.core.flow.values import ValueFault, coerce, evaluate, evaluate_text

DEFAULT_CONFIG = "default"
STANDARD_LIBRARY = "std"


def load_flow(
    root_file: str,
    *,
    environ: Mapping[str, str],
    overrides: Overrides | None = None,
    config: str | None = None,
    standard_library: str,
) -> Flow:
    """Load the flow whose root package is in `root_file`.

    Args:
        root_file: absolute path.
        environ: what `${{ env.NAME }}` sees.
        overrides: parameters set on the command line.
        config: configuration of the root package to apply; None applies one named "default" if there is one.
        standard_library: absolute path of the flow file of package `std`.

    Raises:
        FlowInvalid: the flow has faults; the exception holds all of them.
    """
    diagnostics = Diagnostics()
    loader = _Loader(environ, overrides or Overrides(), diagnostics, os.path.dirname(root_file))
    loader.load_package(standard_library)
    root = loader.load_package(root_file, is_root=True, config=config)
    if root is None:
        diagnostics.raise_if_errors()
        raise AssertionError("a package that cannot be loaded leaves a diagnostic")
    return resolve_flow(root, list(loader.packages.values()), loader.files, diagnostics)


@dataclass(slots=True)
class _Loader:
    """Reads files and keeps the packages that came of them, by the path of their flow file."""

    environ: Mapping[str, str]
    overrides: Overrides
    diagnostics: Diagnostics
    rootdir: str
    packages: dict[str, LoadedPackage] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    _loading: list[str] = field(default_factory=list)

    def load_package(self, path: str, *, is_root: bool = False, config: str | None = None) -> LoadedPackage | None:
        path = os.path.realpath(path)
        if path in self.packages:
            return self.packages[path]
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
        scope = PackageScope(definition.name, os.path.dirname(path))
        names = PackageNames(scope, self.environ, self.rootdir, path)
        package = LoadedPackage(definition, path, scope, names=names)
        self._refuse_second_package(package)
        self._loading.append(path)
        chosen = self._configurations(definition, config) if is_root else []
        for item in chosen:
            package.extensions += item.extensions
        waiting = self._settle(definition.assignments, chosen, names, is_root=is_root, report=False)
        self._add_file(package, definition, Place(prefix=definition.name, srcdir=scope.srcdir), names)
        if waiting:
            self._settle(definition.assignments, chosen, names, is_root=is_root, report=True)
        self._loading.pop()
        self.packages[path] = package
        return package

    def _read(self, path: str) -> FileDefinition | None:
        node = read_flow_file(path, self.diagnostics)
        self.files.append(path)
        return None if node is None else decode_file(node, self.diagnostics)

    def _refuse_second_package(self, package: LoadedPackage) -> None:
        for other in self.packages.values():
            if other.definition.name == package.definition.name:
                self.diagnostics.error(
                    "duplicate-package",
                    f"two packages are named {package.definition.name!r}; the other is {other.definition.at.location}",
                    package.definition.at,
                )

    def _configurations(self, definition: FileDefinition, wanted: str | None) -> list[ConfigDefinition]:
        """Return the chosen configuration after those it starts from."""
        by_name = {config.name: config for config in definition.configs}
        if wanted is None and DEFAULT_CONFIG not in by_name:
            return []
        name = wanted or DEFAULT_CONFIG
        if name not in by_name:
            listed = ", ".join(sorted(by_name)) or "none"
            self.diagnostics.error(
                "unknown-config",
                f"package {definition.name!r} has no configuration {name!r}",
                definition.at,
                hint=did_you_mean(name, by_name) or f"it has: {listed}",
            )
            return []
        chain = [by_name[name]]
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

    def _settle(
        self,
        declarations: list[AssignmentDefinition],
        configs: list[ConfigDefinition],
        names: PackageNames,
        *,
        is_root: bool,
        report: bool,
    ) -> bool:
        """Evaluate the package's parameters; return whether some must wait for the imports."""
        scope = names.package
        set_by_config = {a.name: a for config in configs for a in config.assignments}
        for name, assignment in set_by_config.items():
            if report is False and name not in {d.name for d in declarations}:
                self.diagnostics.error(
                    "unknown-parameter",
                    f"package {scope.package!r} has no parameter {name!r}",
                    assignment.key,
                    hint=did_you_mean(name, [d.name for d in declarations]),
                )
        is_waiting = False
        for declaration in declarations:
            given = self.overrides.of_package(scope.package, declaration.name, is_root=is_root)
            sink = self.diagnostics if report else Diagnostics()
            try:
                if given is not None:
                    value = given[1]
                else:
                    source = set_by_config.get(declaration.name, declaration)
                    value = None if source.node is None else evaluate(source.node, names, sink)
                    if source.node is None and declaration.type is not None:
                        value = declaration.type.empty
                scope.params[declaration.name] = coerce(value, declaration.type)
            except ValueFault:
                is_waiting = True
            except ValueError as error:
                source_text = f" (set by -D {given[0]})" if given is not None else ""
                self.diagnostics.error(
                    "wrong-type",
                    f"parameter {declaration.name!r}: {error}{source_text}",
                    declaration.key,
                )
        return is_waiting

    def _add_file(self, package: LoadedPackage, definition: FileDefinition, place: Place, names: PackageNames) -> None:
        for item in definition.imports:
            self._import(package, item, place, names)
        self._add_tasks(package, definition.tasks, place)
        self._add_types(package, definition.types, place)
        for entry in definition.fragments:
            for path in self._fragment_files(entry, place, names):
                self._fragment(package, path, entry, place, names)

    def _fragment(self, package: LoadedPackage, path: str, entry: Text, place: Place, names: PackageNames) -> None:
        if path in self._loading:
            self.diagnostics.error("fragment-cycle", f"the fragment {entry.value!r} includes itself", entry.node)
            return
        definition = self._read(path)
        if definition is None:
            return
        if not definition.is_fragment:
            self.diagnostics.error(
                "not-a-fragment",
                f"{entry.value!r} holds a package, not a fragment",
                entry.node,
                hint="name it under `imports:`",
            )
            return
        prefix = f"{place.prefix}.{definition.name}" if definition.name else place.prefix
        self._loading.append(path)
        self._add_file(
            package,
            definition,
            Place(prefix=prefix, srcdir=os.path.dirname(path), outer=place),
            names,
        )
        self._loading.pop()

    def _fragment_files(self, entry: Text, place: Place, names: PackageNames) -> Iterator[str]:
        relative = self._text(entry, names)
        if relative is None:
            return
        path = os.path.realpath(os.path.join(place.srcdir, relative))
        if os.path.isfile(path):
            yield path
        elif os.path.isdir(path):
            found = sorted(
                os.path.join(base, name) for base, _, files in os.walk(path) for name in FLOW_NAMES if name in files
            )
            if not found:
                self.diagnostics.error("missing-fragment", f"no flow file below {entry.value!r}", entry.node)
            yield from (item for item in found if item not in self.files)
        else:
            self.diagnostics.error(
                "missing-fragment",
                f"there is no file or directory {entry.value!r}",
                entry.node,
                hint=_near_file(path),
            )

    def _import(self, package: LoadedPackage, item: ImportDefinition, place: Place, names: PackageNames) -> None:
        wanted = self._text(item.path, names)
        path = None if wanted is None else self._import_file(wanted, place)
        if wanted is None:
            return
        if path is None:
            hint = (
                _near_file(os.path.join(place.srcdir, wanted))
                or "imports by name are not supported by this version; give a path"
            )
            self.diagnostics.error("missing-import", f"there is no flow file at {wanted!r}", item.path.node, hint=hint)
            return
        if path in self._loading:
            cycle = [*self._loading[self._loading.index(path) :], path]
            shown = " -> ".join(os.path.relpath(p, self.rootdir) for p in cycle)
            self.diagnostics.error("import-cycle", f"the imports go round in a circle: {shown}", item.path.node)
            return
        imported = self.load_package(path)
        if imported is None:
            return
        name = imported.definition.name
        if item.name is not None and item.name != name:
            self.diagnostics.error(
                "wrong-package",
                f"{wanted!r} holds package {name!r}, not {item.name!r}",
                item.path.node,
            )
        package.scope.imports[item.alias or name] = imported.scope
        package.scope.imports.setdefault(name, imported.scope)

    def _import_file(self, wanted: str, place: Place) -> str | None:
        for base in (place.srcdir, self.rootdir):
            path = os.path.realpath(os.path.join(base, wanted))
            if os.path.isfile(path):
                return path
            if os.path.isdir(path):
                return _flow_below(path)
        return None

    def _add_tasks(self, package: LoadedPackage, tasks: list[TaskDefinition], place: Place) -> None:
        for task in tasks:
            name = f"{place.prefix}.{task.name}"
            other = package.tasks.get(name)
            if other is not None:
                self.diagnostics.error(
                    "duplicate-task",
                    f"two tasks are named {name!r}; the first is at {other.definition.at.location}",
                    task.at,
                )
                continue
            package.tasks[name] = Declared(name, task, place)

    def _add_types(self, package: LoadedPackage, types: list[TypeDefinition], place: Place) -> None:
        for kind in types:
            name = f"{place.prefix}.{kind.name}"
            if name in package.types:
                self.diagnostics.error("duplicate-type", f"two types are named {name!r}", kind.at)
                continue
            package.types[name] = Declared(name, kind, place)

    def _text(self, text: Text, names: PackageNames) -> str | None:
        try:
            return evaluate_text(text.value, text.node, names, self.diagnostics)
        except ValueFault:
            return None


def _flow_below(directory: str) -> str | None:
    """Return the flow file of a directory, else the first one below it in order of names."""
    found = find_in_directory(directory)
    if found is not None:
        return found
    for base, directories, _ in os.walk(directory):
        directories.sort()
        found = find_in_directory(base)
        if found is not None:
            return found
    return None


def _near_file(path: str) -> str | None:
    directory = Path(path).parent
    if not directory.is_dir():
        return None
    return did_you_mean(Path(path).name, sorted(item.name for item in directory.iterdir()))
