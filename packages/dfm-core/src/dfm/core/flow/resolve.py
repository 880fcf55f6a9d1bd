"""From definitions to the model, in the order that makes it come out: one step of `resolve_*` after the other.

First everything that is mentioned is read; then definitions change (extensions, feeds); then types and tasks are made
of them, and after these what stands in the place of others. The model is made of what has no fault.
"""

from collections.abc import Mapping

from dfm.core.flow.loaded import LoadedPackage, Place
from dfm.core.flow.model import Flow, Package, Task, Type
from dfm.core.flow.resolve_changes import Replacements, extend
from dfm.core.flow.resolve_mentions import read_all_mentioned
from dfm.core.flow.resolve_names import Names, PackageSource
from dfm.core.flow.resolve_needs import find_fed, refuse_cycles
from dfm.core.flow.resolve_tasks import TaskResolver
from dfm.core.flow.resolve_types import TypeResolver


def resolve_flow(root: LoadedPackage, source: PackageSource, replaced: Mapping[str, str]) -> Flow:
    """Return the model of all packages that the flow reaches.

    In it, the command line's `replaced` tasks have others in their place.

    Raises:
        FlowInvalid: a name leads nowhere, something inherits from itself, or `needs` go round in a circle.
        UsageError: the command line replaces what does not exist.
    """
    diagnostics = source.diagnostics
    names = Names(source)
    read_all_mentioned(names)
    extended = extend(names)
    type_resolver = TypeResolver(names)
    task_resolver = TaskResolver(names, type_resolver, find_fed(names))
    types = {name: type_resolver.type(name) for name in names.types}
    tasks = {name: task for name in names.tasks if (task := task_resolver.task(name)) is not None}
    overrides = Replacements(names, task_resolver, tasks, extended).find(root, replaced)
    source.refuse_import_cycles()
    if not diagnostics.errors:
        refuse_cycles(tasks | overrides, diagnostics)
    diagnostics.raise_if_errors()
    packages = list(source.by_name.values())
    models = {package.name: _model(package, tasks, types, type_resolver) for package in packages}
    diagnostics.raise_if_errors()
    return Flow(
        root=models[root.name],
        packages=models,
        tasks=tasks,
        types=types,
        files=tuple(source.files),
        warnings=tuple(diagnostics.warnings),
        overrides=overrides,
    )


def _model(
    package: LoadedPackage, tasks: Mapping[str, Task], types: Mapping[str, Type], resolver: TypeResolver
) -> Package:
    definition = package.definition
    place = Place(prefix=package.name, srcdir=package.scope.srcdir)
    return Package(
        name=package.name,
        desc=definition.desc,
        doc=definition.doc,
        file=package.file,
        srcdir=package.scope.srcdir,
        scope=package.scope,
        parameters=tuple(item.in_scope(package.scope) for item in definition.assignments),
        tasks={name: tasks[name] for name in package.tasks if name not in package.hidden},
        types={name: types[name] for name in package.types},
        tags=resolver.tags(definition.tags, package, place),
        configs=(*(config.name for config in definition.configs), *package.fragment_configs),
    )
