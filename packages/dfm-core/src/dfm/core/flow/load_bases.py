"""Packages that start from others: the tasks they take over, and those they put in the place of some.

A replaced task is kept under a hidden name, for the one in its place to build on.
"""

from collections.abc import Callable

from dfm.core.flow.definitions import ImportDefinition, TaskDefinition
from dfm.core.flow.diagnostics import did_you_mean, is_suggestion
from dfm.core.flow.load_tables import Tables
from dfm.core.flow.loaded import Declared, LoadedPackage, Place
from dfm.core.flow.model import Text, Visibility
from dfm.core.flow.registry import PackageRegistry
from dfm.core.flow.source import Place as PlaceInFile
from dfm.core.flow.source import Scalar


def take_base(package: LoadedPackage, tables: Tables, registry: PackageRegistry, touch: Callable[[str], bool]) -> None:
    """Give a package that `uses` another one the tasks of it that it does not have itself.

    Args:
        package: all of whose own files were read.
        tables: with the other package, once it was read.
        registry: whose names may be meant where there is no such package.
        touch: reads the package of a name, where that was not done yet.
    """
    diagnostics = tables.diagnostics
    uses = package.definition.uses
    if uses is None:
        return
    wanted = package.expand(uses, diagnostics)
    if wanted is None:
        return
    scope = package.scope.imports.get(wanted)
    name = wanted if scope is None else scope.package
    touch(name)
    base = tables.by_name.get(name)
    if base is None or base is package:
        hint = did_you_mean(wanted, [*package.scope.imports, *registry.names])
        if not diagnostics.lost.may_be_package(name, is_near=is_suggestion(hint)):
            diagnostics.error("unknown-package", f"there is no package {wanted!r} to start from", uses.node, hint=hint)
        diagnostics.lost.add_base(package.name)
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


def replace_task(package: LoadedPackage, task: TaskDefinition, place: Place, tables: Tables) -> None:
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
        if not tables.diagnostics.lost.may_define(leaf, package.name, tables.by_name, is_near=is_suggestion(hint)):
            message = f"there is no task {target!r} to override"
            tables.diagnostics.error("unknown-task", message, task.override.node, hint=hint)
        return
    if task.uses is None or task.uses.value in (target, leaf):
        task.uses = Text(kept, task.override.node)
    if not task.visibility - {Visibility.PACKAGE}:
        task.visibility = _visibility_of(package, kept)
    alias = f"{place.prefix}.{task.name}"
    package.tasks[own] = Declared(own, task, place)
    if alias not in package.tasks:
        package.tasks[alias] = Declared(
            alias, TaskDefinition(name=task.name, at=task.at, uses=Text(own, _written(own, task.at))), place
        )


def _visibility_of(package: LoadedPackage, name: str) -> frozenset[Visibility]:
    owner = package if name in package.tasks else package.base
    assert owner is not None
    return owner.tasks[name].definition.visibility


def _written(text: str, at: PlaceInFile) -> Scalar:
    """Return a text as if it stood at a place."""
    return Scalar(at.file, at.line, at.column, text, text)
