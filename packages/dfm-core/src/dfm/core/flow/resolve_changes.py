"""What packages, configurations and the command line change in tasks of others: extensions and overrides.

Extensions change definitions, before anything is made of them, so that all that builds on a task has them. Overrides
are tasks made like others that stand in the place of their targets: a later package wins over an earlier one, the root
over its imports, the command line over all. A replaced task keeps its name and visibility; what builds on it builds on
the old one.
"""

from collections.abc import Iterator, Mapping

from msgspec import Struct
from msgspec.structs import replace

from dfm.api.errors import UsageError
from dfm.core.flow.definitions import ExtensionDefinition, OverrideDefinition, TaskDefinition
from dfm.core.flow.diagnostics import did_you_mean, is_suggestion
from dfm.core.flow.loaded import Declared, LoadedPackage, Place
from dfm.core.flow.model import Task, Text
from dfm.core.flow.resolve_names import Names
from dfm.core.flow.resolve_tasks import TaskResolver


def extend(names: Names) -> set[str]:
    """Apply the extensions of the chosen configurations to the definitions; return the tasks that have some."""
    extended = set()
    for package in names.source.by_name.values():
        place = Place(prefix=package.name, srcdir=package.scope.srcdir)
        for extension in package.extensions:
            name = names.find(extension.task.value, package, place, names.tasks)
            if name is None:
                names.refuse("task", extension.task, package, place, names.tasks)
                continue
            extended.add(name)
            _extend(names.tasks[name][1].definition, extension, package)
    return extended


def _extend(definition: TaskDefinition, extension: ExtensionDefinition, package: LoadedPackage) -> None:
    uses = extension.uses
    if uses is not None:
        base = next(
            (
                other
                for config, others in package.extensions_of.items()
                for other in others
                if uses.value in (f"{config}.{other.task.value}", config)
            ),
            None,
        )
        if base is None:
            definition.uses = uses
        elif base is not extension:
            _extend(definition, base, package)
    definition.assignments = [*definition.assignments, *extension.assignments]
    definition.needs = [*definition.needs, *extension.needs]


class Replacements(Struct, frozen=True):
    """Finds the tasks that stand in the place of others.

    Attributes:
        tasks: all that were made; those that only a replaced package has are added.
        extended: names of tasks that have extensions.
    """

    names: Names
    resolver: TaskResolver
    tasks: dict[str, Task]
    extended: set[str]

    def find(self, root: LoadedPackage, commanded: Mapping[str, str]) -> dict[str, Task]:
        """Return them by the names of their targets.

        Args:
            root: the package whose word counts most.
            commanded: what the command line puts in the place of what.

        Raises:
            FlowInvalid: the flow has faults, so that nobody knows what the command line means.
            UsageError: the command line replaces what does not exist.
        """
        found: dict[str, Task] = {}
        packages = [package for package in self.names.source.by_name.values() if package is not root]
        for package in [*packages, root]:
            for number, item in enumerate(package.overrides):
                for target, task in self._written(package, item, number):
                    if target in self.extended:
                        self.names.diagnostics.warning(
                            "extended-and-overridden",
                            f"task {target!r} is extended and replaced; the extension has no effect",
                            item.target.node,
                        )
                    found[target] = task
        if commanded:
            self.names.diagnostics.raise_if_errors()
        for wanted, other in commanded.items():
            target, task = self._commanded(root, wanted), self.tasks[self._commanded(root, other)]
            found[target] = task
        return {
            target: replace(task, name=target, leaf=self.tasks[target].leaf, visibility=self.tasks[target].visibility)
            for target, task in found.items()
            if target in self.tasks
        }

    def _written(self, package: LoadedPackage, item: OverrideDefinition, number: int) -> Iterator[tuple[str, Task]]:
        if item.is_package:
            yield from self._of_package(package, item)
            return
        place = Place(prefix=package.name, srcdir=package.scope.srcdir)
        target = self._existing(item.target, package, place)
        if target is None:
            return
        replacement = item.replacement
        if isinstance(replacement, TaskDefinition):
            name = f"{package.name}._override_{number}"
            if replacement.uses is None and replacement.run is None and not replacement.body:
                replacement.uses = Text(target, item.target.node)
            self.names.add_task(package, Declared(name, replacement, place))
        else:
            found = self._existing(replacement, package, place)
            if found is None:
                return
            name = found
        task = self.resolver.task(name)
        if task is not None:
            yield target, task

    def _existing(self, text: Text, package: LoadedPackage, place: Place) -> str | None:
        name = self.names.find(text.value, package, place, self.names.tasks)
        if name is None:
            self.names.refuse("task", text, package, place, self.names.tasks)
        return name

    def _of_package(self, package: LoadedPackage, item: OverrideDefinition) -> Iterator[tuple[str, Task]]:
        assert isinstance(item.replacement, Text)
        pair = []
        by_name, diagnostics = self.names.source.by_name, self.names.diagnostics
        for text in (item.target, item.replacement):
            scope = package.scope.imports.get(text.value)
            name = text.value if scope is None else scope.package
            if name not in by_name:
                self.names.source.touch(name)
                self.names.take_in()
            if name not in by_name:
                hint = did_you_mean(name, by_name)
                if not diagnostics.lost.may_be_package(name, is_near=is_suggestion(hint)):
                    diagnostics.error("unknown-package", f"there is no package {name!r}", text.node, hint=hint)
                return
            pair.append(name)
        old, new = pair
        for full in by_name[new].tasks:
            target = old + full.removeprefix(new)
            task = self.resolver.task(full)
            if target in self.names.tasks and task is not None:
                if target not in self.tasks and (made := self.resolver.task(target)) is not None:
                    self.tasks[target] = made
                yield target, task

    def _commanded(self, root: LoadedPackage, wanted: str) -> str:
        place = Place(prefix=root.name, srcdir=root.scope.srcdir)
        found = self.names.find(wanted, root, place, self.names.tasks)
        if found is None or self.resolver.task(found) is None:
            known = [name.removeprefix(f"{root.name}.") for name in self.names.tasks]
            raise UsageError(f"--override: there is no task {wanted!r}", hint=did_you_mean(wanted, known))
        return found
