"""What the files of a package say: its own, and the fragments that they name.

Everything is entered under its full name, in the order in which it is read: that of a file, then its fragments. A
fragment with a name puts it before what it defines.
"""

import os
from collections.abc import Iterator, Sequence

from msgspec import Struct

from dfm.core.flow.asked import is_directory, is_file, real_path, walk
from dfm.core.flow.definitions import ConfigDefinition, FileDefinition, TaskDefinition, TypeDefinition
from dfm.core.flow.diagnostics import Diagnostics
from dfm.core.flow.filters import add_filters
from dfm.core.flow.load_imports import Imports, Load
from dfm.core.flow.load_parameters import Parameters
from dfm.core.flow.load_tables import Tables
from dfm.core.flow.loaded import Declared, LoadedPackage, Place
from dfm.core.flow.locate import FLOW_NAMES, near_file
from dfm.core.flow.model import Text
from dfm.core.flow.values import ValueFault, evaluate_text


class Files(Struct, frozen=True):
    """Enters what files say into their package."""

    tables: Tables
    parameters: Parameters
    imports: Imports
    diagnostics: Diagnostics

    def add(self, package: LoadedPackage, definition: FileDefinition, place: Place, load: Load) -> None:
        """Enter what a file says; `load` loads the packages it imports."""
        for item in definition.imports:
            self.imports.add(package, item, place, load)
        self._add_tasks(package, definition.tasks, place)
        self._add_types(package, definition.types, place)
        add_filters(package.scope, definition.filters, self.diagnostics)
        package.overrides += definition.overrides
        for entry in definition.fragments:
            for path in self._fragment_files(package, entry, place):
                self._fragment(package, path, entry, place, load)

    def add_config(self, package: LoadedPackage, config: ConfigDefinition, place: Place, load: Load) -> None:
        """Enter what a configuration brings besides values of parameters."""
        package.extensions += config.extensions
        package.overrides += config.overrides
        for item in config.imports:
            self.imports.add(package, item, place, load)
        for entry in config.fragments:
            for path in self._fragment_files(package, entry, place):
                self._fragment(package, path, entry, place, load)
        self._add_tasks(package, config.tasks, place)
        self._add_types(package, config.types, place, is_replacing=True)

    def _fragment(self, package: LoadedPackage, path: str, entry: Text, place: Place, load: Load) -> None:
        if path in self.tables.loading:
            self.diagnostics.error("fragment-cycle", f"the fragment {entry.value!r} includes itself", entry.node)
            return
        definition = self.tables.read(path)
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
        self.parameters.add_declared(package, definition)
        for config in definition.configs:
            self._add_fragment_config(package, config, definition, inner)
        self.tables.loading.append(path)
        self.add(package, definition, inner, load)
        self.tables.loading.pop()

    def _fragment_files(self, package: LoadedPackage, entry: Text, place: Place) -> Iterator[str]:
        relative = package.expand(entry, self.diagnostics)
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
            yield from (item for item in found if item not in self.tables.files)
        else:
            self.diagnostics.error(
                "missing-fragment",
                f"there is no file or directory {entry.value!r}",
                entry.node,
                hint=near_file(path),
            )
            self.diagnostics.lost.add_part(package.name, None)

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

    def _expanded(self, name: str, task: TaskDefinition, package: LoadedPackage) -> str | None:
        if "${{" not in name:
            return name
        try:
            return evaluate_text(name, task.at, package.names, self.diagnostics)
        except ValueFault:
            return None
