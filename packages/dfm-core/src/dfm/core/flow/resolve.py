"""From definitions to the model: names looked up, `uses` merged, cycles found.

A name is looked for from the inside out: the siblings of a sub-task, the fragment, the package, the packages it
imports, and at last as it stands. What a task inherits: parameters, script, needs, consumes, passthrough, produces,
body, `uptodate`, tools and environment; not rundir, iff, strategy, tags and visibility.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from dfm.core.flow.cycles import find_cycle
from dfm.core.flow.decode import (
    AssignmentDefinition,
    ExtensionDefinition,
    FileDefinition,
    TaskDefinition,
    TypeDefinition,
)
from dfm.core.flow.diagnostics import Diagnostics, did_you_mean
from dfm.core.flow.model import (
    Assignment,
    Consumes,
    Flow,
    Matrix,
    Need,
    Package,
    PackageScope,
    Passthrough,
    Patterns,
    Script,
    Task,
    Text,
    Type,
    Visibility,
)
from dfm.core.flow.scopes import PackageNames
from dfm.core.flow.source import Mapping as MappingNode
from dfm.core.flow.source import Node
from dfm.core.flow.values import ValueFault, check_syntax, evaluate_text

T = TypeVar("T")
DEFAULT_SHELL = "bash"
PYTHON_SHELL = "pytask"
BUILTIN_SHELL = "builtin"
_NEEDS_OF = ".needs"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a definition stands: the prefix its name got, and the directory of its file."""

    prefix: str
    srcdir: str
    outer: "Place | None" = None

    def prefixes(self) -> Iterator[str]:
        """Yield the prefixes under which a bare name is looked for, nearest first."""
        place: Place | None = self
        while place is not None:
            yield place.prefix
            place = place.outer


@dataclass(frozen=True, slots=True)
class Declared(Generic[T]):
    """A definition under its fully qualified name."""

    name: str
    definition: T
    place: Place


@dataclass(slots=True)
class LoadedPackage:
    """All that the files of one package say."""

    definition: FileDefinition
    file: str
    scope: PackageScope
    tasks: dict[str, Declared[TaskDefinition]] = field(default_factory=dict)
    types: dict[str, Declared[TypeDefinition]] = field(default_factory=dict)
    extensions: list[ExtensionDefinition] = field(default_factory=list)
    names: PackageNames | None = None


def resolve_flow(
    root: LoadedPackage,
    packages: Sequence[LoadedPackage],
    files: Sequence[str],
    diagnostics: Diagnostics,
) -> Flow:
    """Return the model of all packages.

    Raises:
        FlowInvalid: a name leads nowhere, something inherits from itself, or `needs` go round in a circle.
    """
    resolver = _Resolver(packages, diagnostics)
    resolver.extend(root)
    resolver.feed()
    types = {name: resolver.type(name) for name in resolver.types}
    tasks = {name: task for name in resolver.tasks if (task := resolver.task(name)) is not None}
    if not diagnostics.errors:
        _refuse_cycles(tasks, diagnostics)
    diagnostics.raise_if_errors()
    models = {package.scope.package: _package(package, tasks, types) for package in packages}
    return Flow(
        root=models[root.scope.package],
        packages=models,
        tasks=tasks,
        types=types,
        files=tuple(files),
        warnings=tuple(diagnostics.warnings),
    )


def external_needs(task: Task) -> Iterator[str]:
    """Yield the tasks of packages that must end before the task can: its own needs and those of its sub-tasks."""
    stack = [task]
    while stack:
        current = stack.pop()
        yield from (need.target for need in current.needs if need.target is not None and not need.is_needs_of)
        stack.extend(current.body)


def _package(package: LoadedPackage, tasks: Mapping[str, Task], types: Mapping[str, Type]) -> Package:
    return Package(
        name=package.scope.package,
        desc=package.definition.desc,
        file=package.file,
        srcdir=package.scope.srcdir,
        scope=package.scope,
        parameters=tuple(_assignment(item, package.scope) for item in package.definition.assignments),
        tasks={name: tasks[name] for name in package.tasks},
        types={name: types[name] for name in package.types},
    )


def _refuse_cycles(tasks: Mapping[str, Task], diagnostics: Diagnostics) -> None:
    cycle = find_cycle(tasks, lambda name: external_needs(tasks[name]))
    if cycle is not None:
        path = " -> ".join(cycle)
        diagnostics.error(
            "cycle",
            f"the needs go round in a circle: {path}",
            _need_node(tasks[cycle[0]], cycle[1]),
        )


def _need_node(task: Task, target: str) -> Node | None:
    stack = [task]
    while stack:
        current = stack.pop()
        for need in current.needs:
            if need.target == target:
                return need.text.node
        stack.extend(current.body)
    return None


def _assignment(item: AssignmentDefinition, scope: PackageScope) -> Assignment:
    return Assignment(
        name=item.name,
        type=item.type,
        operation=item.operation,
        node=item.node,
        doc=item.doc,
        scope=scope,
        location=item.key.location,
    )


class _Resolver:
    """Resolves each task and type once; `uses` chains of any length, without recursion."""

    def __init__(self, packages: Sequence[LoadedPackage], diagnostics: Diagnostics) -> None:
        self.diagnostics = diagnostics
        self.tasks = {name: (package, item) for package in packages for name, item in package.tasks.items()}
        self.types = {name: (package, item) for package in packages for name, item in package.types.items()}
        self._done: dict[str, Task] = {}
        self._done_types: dict[str, Type] = {}
        self._fed: dict[str, list[Need]] = {}
        self._bases: dict[str, str | None] = {}
        self._making: set[str] = set()

    def extend(self, root: LoadedPackage) -> None:
        """Apply the extensions of the chosen configuration to the definitions."""
        place = Place(prefix=root.scope.package, srcdir=root.scope.srcdir)
        for extension in root.extensions:
            name = self._find(extension.task.value, root, place, self.tasks)
            if name is None:
                self._unknown("task", extension.task, place, self.tasks)
                continue
            definition = self.tasks[name][1].definition
            definition.assignments = [*definition.assignments, *extension.assignments]
            definition.needs = [*definition.needs, *extension.needs]

    def feed(self) -> None:
        """Turn each `feeds` into a need of the task that is fed."""
        for name, (package, item) in self.tasks.items():
            for text in item.definition.feeds:
                target = self._find(text.value, package, item.place, self.tasks)
                if target is None:
                    self._unknown("task", text, item.place, self.tasks)
                else:
                    self._fed.setdefault(target, []).append(Need(text=text, target=name))

    def task(self, name: str) -> Task | None:
        """Return the task; None while it is being made, which happens to a task that contains itself."""
        for link in reversed(self._chain(name)):
            if link in self._done:
                continue
            package, item = self.tasks[link]
            if link in self._making:
                self.diagnostics.error("uses-cycle", f"task {link!r} contains itself", item.definition.at)
                continue
            self._making.add(link)
            self._done[link] = self._make(item.name, item.definition, item.place, package, self._bases[link])
            self._making.discard(link)
        return self._done.get(name)

    def type(self, name: str) -> Type:
        pending = [name]
        seen = {name}
        while (base := self._type_base(pending[-1])) is not None and base not in self._done_types:
            if base in seen:
                self.diagnostics.error("uses-cycle", f"type {base!r} uses itself", self.types[base][1].definition.at)
                break
            seen.add(base)
            pending.append(base)
        for link in reversed(pending):
            if link not in self._done_types:
                self._done_types[link] = self._make_type(link)
        return self._done_types[name]

    def _type_base(self, name: str) -> str | None:
        package, item = self.types[name]
        uses = item.definition.uses
        return None if uses is None else self._find(uses.value, package, item.place, self.types)

    def _make_type(self, name: str) -> Type:
        package, item = self.types[name]
        definition = item.definition
        base_name = self._type_base(name)
        base = None if base_name is None else self._done_types.get(base_name)
        if definition.uses is not None and base_name is None:
            self._unknown("type", definition.uses, item.place, self.types)
        own = tuple(_assignment(a, package.scope) for a in definition.fields)
        return Type(
            name=name,
            bases=() if base is None else (base.name, *base.bases),
            fields=own if base is None else (*base.fields, *own),
            doc=definition.doc,
            location=definition.at.location,
        )

    def _chain(self, name: str) -> list[str]:
        """Return the task and the tasks it inherits from, as far as they are not resolved yet."""
        chain = [name]
        while True:
            link = chain[-1]
            if link not in self._bases:
                package, item = self.tasks[link]
                self._bases[link] = self._base(item.definition, package, item.place)
            base = self._bases[link]
            if base is None or base in self._done or base not in self.tasks:
                return chain
            if base in chain:
                cycle = " -> ".join([*chain[chain.index(base) :], base])
                definition = self.tasks[link][1].definition
                self.diagnostics.error(
                    "uses-cycle",
                    f"the task uses itself: {cycle}",
                    definition.uses.node if definition.uses else definition.at,
                )
                self._bases[link] = None
                return chain
            chain.append(base)

    def _base(self, definition: TaskDefinition, package: LoadedPackage, place: Place) -> str | None:
        if definition.uses is None:
            return None
        text = self._expand(definition.uses, package)
        if text is None:
            return None
        known = _Either(self.tasks, self.types)
        name = self._find(text, package, place, known)
        if name is None:
            self._unknown("task or type", replace(definition.uses, value=text), place, known)
        return name

    def _make(
        self,
        name: str,
        definition: TaskDefinition,
        place: Place,
        package: LoadedPackage,
        base_name: str | None,
        sibling_names: tuple[frozenset[str], ...] = (),
    ) -> Task:
        base = None if base_name is None else self._done.get(base_name)
        emitted = None
        inherited: tuple[Assignment, ...] = ()
        if base is not None:
            inherited, emitted = base.assignments, base.emits
        elif base_name is not None and base_name in self.types:
            kind = self.type(base_name)
            inherited, emitted = kind.fields, kind.name
        own = tuple(_assignment(item, package.scope) for item in definition.assignments)
        if base_name is not None:
            self._refuse_unknown_parameters(name, inherited, definition.assignments)
        needs = [self._need(text, package, place, sibling_names) for text in definition.needs]
        body = self._body(name, definition, place, package, base, sibling_names)
        self._check_expressions(definition)
        return Task(
            name=name,
            leaf=definition.name,
            package=package.scope,
            location=definition.at.location,
            srcdir=place.srcdir,
            visibility=definition.visibility,
            bases=() if base_name is None else (base_name, *(base.bases if base is not None else ())),
            assignments=(*inherited, *own),
            needs=(
                *(base.needs if base else ()),
                *(n for n in needs if n is not None),
                *self._fed.get(name, ()),
            ),
            script=self._script(definition, place, package, base),
            body=body,
            matrix=self._matrix(definition),
            emits=emitted,
            consumes=_patterns(definition.consumes) or (base.consumes if base else Consumes.ALL),
            passthrough=_patterns(definition.passthrough) or (base.passthrough if base else Passthrough.UNUSED),
            produces=(*(base.produces if base else ()), *definition.produces),
            iff=definition.iff,
            inherits_rundir=definition.inherits_rundir,
            tools=_union(base.tools if base else (), definition.tools),
            environment=_union(base.environment if base else (), definition.environment),
            always_runs=base.always_runs if definition.always_runs is None and base else bool(definition.always_runs),
            tags=tuple(definition.tags),
            desc=definition.desc,
            doc=definition.doc,
        )

    def _body(
        self,
        name: str,
        definition: TaskDefinition,
        place: Place,
        package: LoadedPackage,
        base: Task | None,
        outer: tuple[frozenset[str], ...],
    ) -> tuple[Task, ...]:
        inherited = {} if base is None else {task.leaf: task for task in base.body}
        if not definition.body:
            return tuple(inherited.values())
        leaves: dict[str, TaskDefinition] = {}
        for sub in definition.body:
            if sub.name in leaves:
                self.diagnostics.error("duplicate-task", f"two sub-tasks of {name!r} are named {sub.name!r}", sub.at)
            else:
                leaves[sub.name] = sub
        names = (frozenset(leaves) | frozenset(inherited), *outer)
        made: dict[str, Task] = dict(inherited)
        for leaf in _bases_first(leaves):
            sub = leaves[leaf]
            self._refuse_feeds(sub)
            uses = sub.uses
            base_name: str | None
            if uses is not None and uses.value in made and uses.value != leaf:
                base_name = f"{name}.{uses.value}"
                self._done[f"{name}.{uses.value}"] = made[uses.value]
            else:
                base_name = self._base(sub, package, place)
                if base_name is not None and base_name in self.tasks:
                    self.task(base_name)
            made[leaf] = self._make(f"{name}.{leaf}", sub, place, package, base_name, names)
        ordered = [*inherited, *(leaf for leaf in leaves if leaf not in inherited)]
        return tuple(made[leaf] for leaf in ordered)

    def _refuse_feeds(self, definition: TaskDefinition) -> None:
        for text in definition.feeds:
            self.diagnostics.error(
                "not-supported",
                "`feeds` of a sub-task is not supported by this version of DFM",
                text.node,
            )

    def _need(
        self, text: Text, package: LoadedPackage, place: Place, siblings: tuple[frozenset[str], ...]
    ) -> Need | None:
        value = self._expand(text, package)
        if value is None:
            return None
        for candidate, is_needs_of in ((value, False), (value.removesuffix(_NEEDS_OF), True)):
            if is_needs_of and candidate == value:
                continue
            if any(candidate in names for names in siblings):
                return Need(text=text, sibling=candidate, is_needs_of=is_needs_of)
            target = self._find(candidate, package, place, self.tasks)
            if target is not None:
                self._warn_local(text, target, package)
                return Need(text=text, target=target, is_needs_of=is_needs_of)
        near = [leaf for names in siblings for leaf in names]
        self._unknown("task", replace(text, value=value), place, self.tasks, near)
        return None

    def _warn_local(self, text: Text, target: str, package: LoadedPackage) -> None:
        owner, item = self.tasks[target]
        if owner is not package and Visibility.LOCAL in item.definition.visibility:
            self.diagnostics.warning(
                "local-task",
                f"task {target!r} is local to package {owner.scope.package!r}",
                text.node,
            )

    def _script(
        self, definition: TaskDefinition, place: Place, package: LoadedPackage, base: Task | None
    ) -> Script | None:
        inherited = None if base is None else base.script
        if definition.shell == BUILTIN_SHELL and package.scope.package != "std":
            self.diagnostics.error(
                "bad-value",
                f"the shell {BUILTIN_SHELL!r} is for the standard library",
                definition.at,
            )
        if definition.run is None:
            if inherited is None or definition.shell is None:
                return inherited
            return replace(inherited, shell=definition.shell)
        shell = definition.shell
        if shell is None:
            is_plain = inherited is not None and inherited.shell not in (
                PYTHON_SHELL,
                BUILTIN_SHELL,
            )
            shell = inherited.shell if inherited is not None and is_plain else DEFAULT_SHELL
        return Script(text=definition.run, shell=shell, srcdir=place.srcdir, scope=package.scope)

    def _matrix(self, definition: TaskDefinition) -> Matrix | None:
        if definition.matrix is None:
            return None
        axes = {name: entry.value for name, entry in definition.matrix.entries.items()}
        return Matrix(axes=axes, location=definition.matrix.location)

    def _check_expressions(self, definition: TaskDefinition) -> None:
        nodes = [item.node for item in definition.assignments if item.node is not None]
        nodes += [] if definition.iff is None else [definition.iff]
        nodes += [] if definition.run is None else [definition.run.node]
        nodes += definition.produces
        for node in nodes:
            check_syntax(node, self.diagnostics)

    def _refuse_unknown_parameters(
        self, name: str, inherited: Iterable[Assignment], own: Iterable[AssignmentDefinition]
    ) -> None:
        known = {item.name for item in inherited}
        for item in own:
            if item.name not in known and item.type is None:
                listed = ", ".join(sorted(known)) or "none"
                self.diagnostics.error(
                    "unknown-parameter",
                    f"task {name!r} has no parameter {item.name!r}",
                    item.key,
                    hint=did_you_mean(item.name, known) or f"it has: {listed}",
                )

    def _expand(self, text: Text, package: LoadedPackage) -> str | None:
        if "${{" not in text.value:
            return text.value
        assert package.names is not None
        try:
            return evaluate_text(text.value, text.node, package.names, self.diagnostics)
        except ValueFault:
            return None

    def _find(
        self,
        wanted: str,
        package: LoadedPackage,
        place: Place,
        known: "Mapping[str, object] | _Either",
    ) -> str | None:
        for prefix in place.prefixes():
            if f"{prefix}.{wanted}" in known:
                return f"{prefix}.{wanted}"
        for alias, scope in package.scope.imports.items():
            if wanted.startswith(f"{alias}.") and (name := scope.package + wanted[len(alias) :]) in known:
                return name
        if wanted in known:
            return wanted
        for scope in package.scope.imports.values():
            if (name := f"{scope.package}.{wanted}") in known:
                return name
        return None

    def _unknown(
        self,
        what: str,
        text: Text,
        place: Place,
        known: "Mapping[str, object] | _Either",
        near: Iterable[str] = (),
    ) -> None:
        own = [
            name.removeprefix(f"{prefix}.")
            for prefix in place.prefixes()
            for name in known
            if name.startswith(f"{prefix}.")
        ]
        hint = did_you_mean(text.value, [*near, *own, *known])
        self.diagnostics.error(
            f"unknown-{what.split(maxsplit=1)[0]}",
            f"there is no {what} {text.value!r}",
            text.node,
            hint=hint,
        )


class _Either:
    """Names of tasks and of types, looked up as one."""

    def __init__(self, first: Mapping[str, object], second: Mapping[str, object]) -> None:
        self._parts = (first, second)

    def __contains__(self, name: str) -> bool:
        return any(name in part for part in self._parts)

    def __iter__(self) -> Iterator[str]:
        for part in self._parts:
            yield from part


def _bases_first(leaves: Mapping[str, TaskDefinition]) -> list[str]:
    """Order sub-tasks so that one which `uses` its sibling comes after it; a circle keeps its written order."""
    ordered: dict[str, None] = {}
    for leaf in leaves:
        chain = [leaf]
        while (uses := leaves[chain[-1]].uses) is not None and uses.value in leaves and uses.value not in chain:
            chain.append(uses.value)
        ordered.update(dict.fromkeys(reversed(chain)))
    return list(ordered)


def _patterns(value: T | list[MappingNode] | None) -> T | Patterns | None:
    return Patterns(tuple(value)) if isinstance(value, list) else value


def _union(first: Iterable[str], second: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*first, *second]))
