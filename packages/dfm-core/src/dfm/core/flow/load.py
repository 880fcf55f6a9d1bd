"""From a root flow file to a Flow: every file it needs is read, every name resolved, every fault reported at once.

Files are read in the order in which they are named. A package is loaded once, however many import it; one that is
imported by its name alone is read when something of it is first named. Nothing that a flow names is executed here.
"""

import os
from collections.abc import Mapping, Sequence

from dfm.core.flow.asked import real_path
from dfm.core.flow.cycles import find_cycle
from dfm.core.flow.diagnostics import Diagnostics
from dfm.core.flow.load_bases import replace_task, take_base
from dfm.core.flow.load_configs import Configurations
from dfm.core.flow.load_files import Files
from dfm.core.flow.load_imports import Imports
from dfm.core.flow.load_parameters import Parameters
from dfm.core.flow.load_tables import Tables
from dfm.core.flow.loaded import LoadedPackage, Place
from dfm.core.flow.model import Flow
from dfm.core.flow.overrides import Overrides
from dfm.core.flow.registry import PackageRegistry, registry_from
from dfm.core.flow.resolve import resolve_flow
from dfm.core.flow.scopes import PackageNames
from dfm.core.plugins.packages import PluginPackages


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
    loader = Loader(environ, overrides, diagnostics, registry, root_file, config, is_thorough=is_thorough)
    loader.load_package(standard_library)
    root = loader.load_package(root_file, is_root=True)
    if root is None:
        diagnostics.raise_if_errors()
        raise AssertionError("a package that cannot be loaded leaves a diagnostic")
    for name in overrides.names:
        loader.touch_prefix(name)
    return resolve_flow(root, loader, overrides.tasks_replaced)


class Loader:
    """Reads packages, those that are named on demand, and keeps what came of them.

    Attributes:
        by_name: the packages, in the order in which they were read.
        files: in the order in which they were read.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        overrides: Overrides,
        diagnostics: Diagnostics,
        registry: PackageRegistry,
        root_file: str,
        config: str | None,
        *,
        is_thorough: bool,
    ) -> None:
        self.diagnostics = diagnostics
        self._environ = environ
        self._registry = registry
        self._root_file, self._rootdir = root_file, os.path.dirname(root_file)
        self._is_thorough = is_thorough
        self._tables = Tables(diagnostics)
        self.by_name, self.files = self._tables.by_name, self._tables.files
        self._parameters = Parameters(overrides, diagnostics)
        self._configurations = Configurations(config, self._parameters.settings, diagnostics)
        self._imports = Imports(self._tables, self._parameters, registry, self._rootdir, diagnostics)
        self._files = Files(self._tables, self._parameters, self._imports, diagnostics)

    @property
    def has_more(self) -> bool:
        """Whether there may be packages that were not read yet."""
        return bool(self._tables.waiting) or self._registry.is_known

    def touch(self, name: str) -> bool:
        """Read the package called `name` if it is known and was not read yet; return whether that was so."""
        if name in self.by_name:
            return False
        path, at = self._tables.waiting.pop(name, (None, None))
        if path is None and self._registry.may_know(name.partition(".")[0]):
            path = self._registry.locate(name, at)
        if path is None or real_path(path) in self._tables.by_path:
            return False
        is_read = self._imports.load_named(name, path, at, self.load_package) is not None
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
        while self._is_thorough and self._tables.waiting:
            is_read |= self.touch(next(iter(self._tables.waiting)))
        return is_read

    def load_package(self, path: str, *, is_root: bool = False) -> LoadedPackage | None:
        """Return the package in a file, read now or before; None where it has none, or a fault."""
        path = real_path(path)
        if path in self._tables.by_path:
            return self._tables.by_path[path]
        self._tables.by_path[path] = None
        definition = self._tables.read(path)
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
        scope = self._tables.scope(definition.name)
        scope.srcdir = os.path.dirname(path)
        names = PackageNames(scope, self._environ, self._rootdir, self._root_file)
        package = LoadedPackage(definition, path, scope, names)
        if self._is_second(package):
            return None
        self._tables.by_path[path] = self.by_name[definition.name] = package
        self._tables.loading.append(path)
        self._fill(package, is_root=is_root)
        self._tables.loading.pop()
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
        package.configs = self._configurations.chosen(package)
        waiting = self._parameters.settle(package, report=False)
        self._files.add(package, definition, place, self.load_package)
        if package.config_name is not None and not package.configs:
            package.configs = self._configurations.chosen_of_fragments(package)
            waiting = waiting or bool(package.configs)
        for config in package.configs:
            self._files.add_config(package, config, place, self.load_package)
        if waiting:
            self._parameters.settle(package, report=True)
        take_base(package, self._tables, self._registry, self.touch)
        for task, where in package.replacing:
            replace_task(package, task, where, self._tables)

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
            path = package.expand(text, self.diagnostics)
            if path is not None:
                found.append((os.path.normpath(os.path.join(package.scope.srcdir, path)), text.node))
        self._registry.add_maps(found, is_of_flow=True)
