"""Task packages that installed distributions announce: names without imports, paths by importing one module.

Two groups of entry points are read. `dfm_packages` is ours: an entry point has the name of the package, and its module
implements the hook `dfm_packages`. `dv_flow.mgr` is read so that packages made for DV Flow are found: its modules have
plain functions `dvfm_packages` or `dfm_packages` that return a mapping of names to paths, and the names of the entry
points say little, so that a module is asked when a package is found nowhere else.

A module that cannot be imported harms nobody who does not want its package.
"""

import functools
import os
from collections.abc import Mapping, Sequence

import pluggy
from msgspec import Struct

from dfm.api import hookspecs
from dfm.api.errors import FlowError
from dfm.core.plugins.announced import EntryPoint, announced

FOREIGN_GROUP = "dv_flow.mgr"
_FOREIGN_FUNCTIONS = ("dvfm_packages", "dfm_packages")


class PluginPackageError(FlowError):
    """A task package of an installed distribution cannot be used."""


class PackagePlugin(Struct, frozen=True):
    """One announcement."""

    name: str
    group: str
    distribution: str
    version: str
    entry_point: EntryPoint

    @property
    def shown(self) -> str:
        """How it is named to a person."""
        return f"{self.distribution} {self.version}".strip() or self.entry_point.value


class PluginPackages:
    """The task packages of installed distributions, each module imported once and only when it must be."""

    def __init__(self, plugins: Sequence[PackagePlugin]) -> None:
        self._plugins = plugins
        self._answers: dict[EntryPoint, Mapping[str, str]] = {}
        self._failures: dict[EntryPoint, PluginPackageError] = {}

    @property
    def announced(self) -> Sequence[PackagePlugin]:
        """All announcements, in order."""
        return self._plugins

    @property
    def names(self) -> frozenset[str]:
        """The names that are announced; a foreign one may be that of its distribution's main package only."""
        return frozenset(plugin.name for plugin in self._plugins)

    def path(self, package: str) -> str | None:
        """Return the flow file of the package, None where nobody brings it.

        Raises:
            PluginPackageError: two distributions bring it, or the one that announces it cannot be imported.
        """
        own = [plugin for plugin in self._plugins if plugin.group == hookspecs.PACKAGE_GROUP and plugin.name == package]
        foreign = sorted(
            (plugin for plugin in self._plugins if plugin.group == FOREIGN_GROUP),
            key=lambda plugin: not _is_near(plugin.name, package),
        )
        found: dict[str, PackagePlugin] = {}
        for plugin in own:
            path = self._packages(plugin).get(package)
            if path is None:
                raise PluginPackageError(f"{plugin.shown} announces the package {package!r} and does not bring it")
            found.setdefault(os.path.realpath(path), plugin)
        for plugin in [] if own else foreign:
            path = self._foreign(plugin, package)
            if path is not None:
                found.setdefault(os.path.realpath(path), plugin)
        if len(found) > 1:
            owners = " and ".join(plugin.shown for plugin in found.values())
            raise PluginPackageError(f"two distributions bring the package {package!r}: {owners}")
        return next(iter(found), None)

    def failure(self, package: str) -> PluginPackageError | None:
        """Return why a plugin could not be asked that may have been the one to bring the package."""
        near = [plugin for plugin in self._plugins if _is_near(plugin.name, package)]
        found = [self._failures.get(plugin.entry_point) for plugin in (near or self._plugins)]
        return next((failure for failure in found if failure is not None), None)

    def _foreign(self, plugin: PackagePlugin, package: str) -> str | None:
        """Ask a plugin whose names are only known once it is imported; one that is broken brings nothing."""
        try:
            return self._packages(plugin).get(package)
        except PluginPackageError as error:
            self._failures[plugin.entry_point] = error
            if plugin.name == package:
                raise
            return None

    def _packages(self, plugin: PackagePlugin) -> Mapping[str, str]:
        if plugin.entry_point not in self._answers:
            if plugin.entry_point in self._failures:
                raise self._failures[plugin.entry_point]
            self._answers[plugin.entry_point] = _ask(plugin)
        return self._answers[plugin.entry_point]


@functools.cache
def installed_packages() -> PluginPackages:
    """Return the task packages of what is installed; nothing is imported."""
    found: dict[tuple[str, str, str], PackagePlugin] = {}
    for announcement in announced(hookspecs.PACKAGE_GROUP, FOREIGN_GROUP):
        point = announcement.point
        plugin = PackagePlugin(
            name=point.name,
            group=point.group,
            distribution=announcement.distribution,
            version=announcement.version,
            entry_point=point,
        )
        found.setdefault((point.group, point.name, point.value), plugin)
    return PluginPackages(sorted(found.values(), key=lambda plugin: (plugin.group, plugin.name, plugin.distribution)))


def _is_near(name: str, package: str) -> bool:
    return package == name or package.startswith(f"{name}.")


def _ask(plugin: PackagePlugin) -> Mapping[str, str]:
    what = f"the packages of {plugin.shown} (entry point {plugin.name!r} of {plugin.group})"
    try:
        module = plugin.entry_point.load()
        answers = _hooked(module) if plugin.group == hookspecs.PACKAGE_GROUP else _plain(module)
    except Exception as error:
        raise PluginPackageError(f"{what} cannot be imported: {type(error).__name__}: {error}") from error
    if not all(isinstance(answer, Mapping) for answer in answers):
        raise PluginPackageError(f"{what} are no mapping of names to paths")
    return {str(name): os.fspath(path) for answer in answers for name, path in answer.items()}


def _hooked(module: object) -> list[Mapping[str, str]]:
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.register(module)
    answers: list[Mapping[str, str]] = manager.hook.dfm_packages()
    return answers


def _plain(module: object) -> list[Mapping[str, str]]:
    functions = (getattr(module, name, None) for name in _FOREIGN_FUNCTIONS)
    return [function() for function in functions if callable(function)][:1]
