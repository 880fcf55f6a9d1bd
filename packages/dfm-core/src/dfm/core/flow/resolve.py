"""From definitions to the model: names looked up, `uses` merged, cycles found.

A name is looked for from the inside out: the siblings of a sub-task, the fragment, the package, the packages it
imports, and at last as it stands. What a task inherits: parameters, script, needs, consumes, passthrough, produces,
body, `uptodate`, tools and environment; not rundir, iff, strategy, tags and visibility.
"""

import enum
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol, TypeVar

from msgspec.structs import replace

from dfm.api.errors import UsageError
from dfm.core.expr.errors import ExpressionError
from dfm.core.expr.template import parse_template
from dfm.core.flow.cycles import find_cycle
from dfm.core.flow.definitions import (
    AssignmentDefinition,
    CaseDefinition,
    ControlDefinition,
    ExtensionDefinition,
    OverrideDefinition,
    TaskDefinition,
    TypeDefinition,
)
from dfm.core.flow.diagnostics import Diagnostics, did_you_mean, is_suggestion
from dfm.core.flow.loaded import Declared, LoadedPackage, Place
from dfm.core.flow.model import (
    BUILTIN_SHELL,
    DEFAULT_SHELL,
    PYTHON_SHELL,
    Assignment,
    Branch,
    Consumes,
    Control,
    ControlKind,
    Flow,
    ListOperation,
    Matrix,
    Need,
    Package,
    PackageScope,
    ParameterType,
    Passthrough,
    Patterns,
    Script,
    Tag,
    Task,
    Text,
    Type,
    Visibility,
)
from dfm.core.flow.source import Mapping as MappingNode
from dfm.core.flow.source import Node, Scalar, to_plain
from dfm.core.flow.source import Place as PlaceInFile
from dfm.core.flow.source import Sequence as SequenceNode
from dfm.core.flow.values import ValueFault, check_syntax, coerce, evaluate_text

E = TypeVar("E", bound=enum.Enum)
_NEEDS_OF = ".needs"


TAG = "std.Tag"
RESOURCE_TAG = "std.ResourceTag"
"""Its fields are read as amounts when the graph is built."""


class PackageSource(Protocol):
    """Where packages come from that nothing has named before."""

    by_name: dict[str, LoadedPackage]
    files: list[str]
    diagnostics: Diagnostics

    @property
    def has_more(self) -> bool:
        """Whether there may be packages that were not read yet."""

    def touch(self, name: str) -> bool:
        """Read the package called so; return whether it was there to be read."""

    def touch_prefix(self, dotted: str) -> bool:
        """Read the package whose name a dotted name begins with; return whether it was there to be read."""

    def touch_imports(self, package: LoadedPackage) -> bool:
        """Read all that a package imports; return whether anything was there to be read."""

    def touch_rest(self) -> bool:
        """Where the reading is thorough, read all imports that nothing has touched; return whether any was read."""

    def refuse_import_cycles(self) -> None:
        """Report imports that go round in a circle."""


def resolve_flow(root: LoadedPackage, source: PackageSource, replaced: Mapping[str, str]) -> Flow:
    """Return the model of all packages that the flow reaches.

    In it, the command line's `replaced` tasks have others in their place.

    Raises:
        FlowInvalid: a name leads nowhere, something inherits from itself, or `needs` go round in a circle.
        UsageError: the command line replaces what does not exist.
    """
    diagnostics = source.diagnostics
    resolver = _Resolver(source)
    resolver.touch_all()
    resolver.extend()
    resolver.feed()
    types = {name: resolver.type(name) for name in resolver.types}
    tasks = {name: task for name in resolver.tasks if (task := resolver.task(name)) is not None}
    overrides = resolver.overrides(root, tasks, replaced)
    source.refuse_import_cycles()
    if not diagnostics.errors:
        _refuse_cycles(tasks | overrides, diagnostics)
    diagnostics.raise_if_errors()
    packages = list(source.by_name.values())
    models = {package.name: resolver.package(package, tasks, types) for package in packages}
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


def external_needs(task: Task) -> Iterator[str]:
    """Yield the tasks of packages that must end before the task can: its own needs and those of its sub-tasks."""
    stack = [task]
    while stack:
        current = stack.pop()
        yield from (need.target for need in current.needs if need.target is not None and not need.is_needs_of)
        stack.extend(current.sub_tasks)


def _refuse_cycles(tasks: Mapping[str, Task], diagnostics: Diagnostics) -> None:
    cycle = find_cycle(tasks, lambda name: external_needs(tasks[name]))
    if cycle is not None:
        path = " -> ".join(cycle)
        diagnostics.error(
            "cycle",
            f"the needs go round in a circle: {path}",
            _need_place(tasks[cycle[0]], cycle[1]),
        )


def _need_place(task: Task, target: str) -> PlaceInFile | None:
    stack = [task]
    while stack:
        current = stack.pop()
        for need in current.needs:
            if need.target == target:
                return need.place
        stack.extend(current.sub_tasks)
    return None


def _need_at(text: Text, target: str | None = None, sibling: str | None = None, *, is_needs_of: bool = False) -> Need:
    at = text.node
    return Need(at.file, at.line, at.column, at.width, target, sibling, is_needs_of)


def _assignment(item: AssignmentDefinition, scope: PackageScope) -> Assignment:
    return Assignment(
        name=item.name,
        type=item.type,
        operation=item.operation,
        node=item.node,
        doc=item.doc,
        scope=scope,
        at=item.key,
    )


class _Resolver:
    """Resolves each task and type once; `uses` chains of any length, without recursion."""

    def __init__(self, source: PackageSource) -> None:
        self.source = source
        self.diagnostics = source.diagnostics
        self.tasks: dict[str, tuple[LoadedPackage, Declared[TaskDefinition]]] = {}
        self.types: dict[str, tuple[LoadedPackage, Declared[TypeDefinition]]] = {}
        self._homes: dict[str, LoadedPackage] = {}
        self._scanned: set[str] = set()
        self._taken: set[str] = set()
        self._done: dict[str, Task] = {}
        self._done_types: dict[str, Type] = {}
        self._fed: dict[str, list[Need]] = {}
        self._bases: dict[str, str | None] = {}
        self._making: set[str] = set()
        self._lineages: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._extended: set[str] = set()
        self._take_in()

    def touch_all(self) -> None:
        """Read every package that something names, until nothing new is named."""
        while self.source.has_more and self._scanned != set(self.source.by_name):
            for name, package in list(self.source.by_name.items()):
                if name not in self._scanned:
                    self._scanned.add(name)
                    self._scan(package)
            if self._scanned == set(self.source.by_name) and self.source.touch_rest():
                self._take_in()

    def extend(self) -> None:
        """Apply the extensions of the chosen configurations to the definitions."""
        for package in self.source.by_name.values():
            place = Place(prefix=package.name, srcdir=package.scope.srcdir)
            for extension in package.extensions:
                name = self._find(extension.task.value, package, place, self.tasks)
                if name is None:
                    self._unknown("task", extension.task, package, place, self.tasks)
                    continue
                self._extended.add(name)
                self._extend(self.tasks[name][1].definition, extension, package)

    def feed(self) -> None:
        """Turn each `feeds` into a need of the task that is fed.

        What a sub-task feeds outside its compound task receives all that the compound task hands on.
        """
        for name, (package, item) in self.tasks.items():
            stack: list[tuple[TaskDefinition, frozenset[str]]] = [(item.definition, frozenset())]
            while stack:
                definition, siblings = stack.pop()
                for body in _bodies(definition):
                    leaves = frozenset(sub.name for sub in body)
                    stack += [(sub, leaves) for sub in body]
                for text in definition.feeds:
                    value = self._expand(text, package)
                    if value is None or value in siblings:
                        continue
                    target = self._find(value, package, item.place, self.tasks)
                    if target is None:
                        self._unknown("task", replace(text, value=value), package, item.place, self.tasks)
                    elif target != name:
                        self._fed.setdefault(target, []).append(_need_at(text, target=name))

    def overrides(self, root: LoadedPackage, tasks: dict[str, Task], replaced: Mapping[str, str]) -> dict[str, Task]:
        """Return the tasks that stand in the place of others: those of packages, of the root, of the command line."""
        found: dict[str, Task] = {}
        packages = [package for package in self.source.by_name.values() if package is not root]
        for package in [*packages, root]:
            for number, item in enumerate(package.overrides):
                for target, task in self._override(package, item, number, tasks):
                    if target in self._extended:
                        self.diagnostics.warning(
                            "extended-and-overridden",
                            f"task {target!r} is extended and replaced; the extension has no effect",
                            item.target.node,
                        )
                    found[target] = task
        if replaced:
            self.diagnostics.raise_if_errors()
        for wanted, other in replaced.items():
            target, task = self._commanded(root, wanted), tasks[self._commanded(root, other)]
            found[target] = task
        return {
            target: replace(task, name=target, leaf=tasks[target].leaf, visibility=tasks[target].visibility)
            for target, task in found.items()
            if target in tasks
        }

    def package(self, package: LoadedPackage, tasks: Mapping[str, Task], types: Mapping[str, Type]) -> Package:
        """Return the model of one package."""
        definition = package.definition
        place = Place(prefix=package.name, srcdir=package.scope.srcdir)
        return Package(
            name=package.name,
            desc=definition.desc,
            doc=definition.doc,
            file=package.file,
            srcdir=package.scope.srcdir,
            scope=package.scope,
            parameters=tuple(_assignment(item, package.scope) for item in definition.assignments),
            tasks={name: tasks[name] for name in package.tasks if name not in package.hidden},
            types={name: types[name] for name in package.types},
            tags=self._tags(definition.tags, package, place),
            configs=(*(config.name for config in definition.configs), *package.fragment_configs),
        )

    def _take_in(self) -> None:
        """Add the tasks and types of packages that were read since the last time."""
        for name, package in self.source.by_name.items():
            if name in self._taken:
                continue
            self._taken.add(name)
            for full, item in package.tasks.items():
                self.tasks[full] = (item.owner or package, item)
                self._homes[full] = package
            for full, kind in package.types.items():
                self.types[full] = (package, kind)

    def _scan(self, package: LoadedPackage) -> None:
        for item in list(package.tasks.values()):
            stack = [item.definition]
            while stack:
                definition = stack.pop()
                for body in _bodies(definition):
                    stack += body
                self._scan_names(definition, item.owner or package, item.place)
        for kind in package.types.values():
            texts = [] if kind.definition.uses is None else [kind.definition.uses]
            self._scan_texts(texts, package, kind.place, self.types)
        texts = [item.target for item in package.overrides]
        texts += [item.replacement for item in package.overrides if isinstance(item.replacement, Text)]
        texts += [extension.task for extension in package.extensions]
        self._scan_texts(texts, package, Place(package.name, package.scope.srcdir), self.tasks)

    def _scan_names(self, definition: TaskDefinition, package: LoadedPackage, place: Place) -> None:
        if _names_tasks_in_code(definition) and self.source.touch_imports(package):
            self._take_in()
        texts = [*definition.needs, *definition.feeds]
        texts += [] if definition.uses is None else [definition.uses]
        self._scan_texts(texts, package, place, _Either(self.tasks, self.types))
        for node in [*_expressions(definition), *definition.tags]:
            for path in _paths(node):
                if self.source.touch_prefix(path):
                    self._take_in()

    def _scan_texts(
        self, texts: Iterable[Text], package: LoadedPackage, place: Place, known: "Mapping[str, object] | _Either"
    ) -> None:
        for text in texts:
            try:
                value = evaluate_text(text.value, text.node, package.names, Diagnostics())
            except ValueFault:
                continue
            self._find(value.removesuffix(_NEEDS_OF), package, place, known)

    def _extend(self, definition: TaskDefinition, extension: ExtensionDefinition, package: LoadedPackage) -> None:
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
                self._extend(definition, base, package)
        definition.assignments = [*definition.assignments, *extension.assignments]
        definition.needs = [*definition.needs, *extension.needs]

    def _override(
        self, package: LoadedPackage, item: OverrideDefinition, number: int, tasks: dict[str, Task]
    ) -> Iterator[tuple[str, Task]]:
        place = Place(prefix=package.name, srcdir=package.scope.srcdir)
        if item.is_package:
            yield from self._package_override(package, item, tasks)
            return
        target = self._find(item.target.value, package, place, self.tasks)
        if target is None:
            self._unknown("task", item.target, package, place, self.tasks)
            return
        replacement = item.replacement
        if isinstance(replacement, TaskDefinition):
            name = f"{package.name}._override_{number}"
            if replacement.uses is None and replacement.run is None and not replacement.body:
                replacement.uses = Text(target, item.target.node)
            self.tasks[name] = (package, Declared(name, replacement, place))
            self._homes[name] = package
        else:
            found = self._find(replacement.value, package, place, self.tasks)
            if found is None:
                self._unknown("task", replacement, package, place, self.tasks)
                return
            name = found
        task = self.task(name)
        if task is not None:
            yield target, task

    def _package_override(
        self, package: LoadedPackage, item: OverrideDefinition, tasks: dict[str, Task]
    ) -> Iterator[tuple[str, Task]]:
        assert isinstance(item.replacement, Text)
        names = []
        for text in (item.target, item.replacement):
            scope = package.scope.imports.get(text.value)
            name = text.value if scope is None else scope.package
            if name not in self.source.by_name:
                self.source.touch(name)
                self._take_in()
            if name not in self.source.by_name:
                hint = did_you_mean(name, self.source.by_name)
                if not self.diagnostics.lost.may_be_package(name, is_near=is_suggestion(hint)):
                    self.diagnostics.error("unknown-package", f"there is no package {name!r}", text.node, hint=hint)
                return
            names.append(name)
        old, new = names
        for full in self.source.by_name[new].tasks:
            target = old + full.removeprefix(new)
            task = self.task(full)
            if target in self.tasks and task is not None:
                if target not in tasks and (made := self.task(target)) is not None:
                    tasks[target] = made
                yield target, task

    def _commanded(self, root: LoadedPackage, wanted: str) -> str:
        place = Place(prefix=root.name, srcdir=root.scope.srcdir)
        found = self._find(wanted, root, place, self.tasks)
        if found is None or self.task(found) is None:
            known = [name.removeprefix(f"{root.name}.") for name in self.tasks]
            raise UsageError(f"--override: there is no task {wanted!r}", hint=did_you_mean(wanted, known))
        return found

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
            self._unknown("type", definition.uses, package, item.place, self.types)
        own = tuple(_assignment(a, package.scope) for a in definition.fields)
        return Type(
            name=name,
            bases=() if base is None else (base.name, *base.bases),
            fields=own if base is None else (*base.fields, *own),
            desc=definition.desc,
            doc=definition.doc,
            location=definition.at.location,
            tags=self._tags(definition.tags, package, item.place),
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
            self._unknown("task or type", replace(definition.uses, value=text), package, place, known)
        return name

    def _make(
        self,
        name: str,
        definition: TaskDefinition,
        place: Place,
        package: LoadedPackage,
        base_name: str | None,
        sibling_names: tuple[frozenset[str], ...] = (),
        fed: Sequence[Need] = (),
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
        control = self._control(name, definition, place, package, base, sibling_names)
        body = () if control is not None else self._body(name, definition, place, package, base, sibling_names)
        for node in _expressions(definition):
            check_syntax(node, self.diagnostics)
        task = Task(
            name=name,
            leaf=definition.name,
            package=package.scope,
            at=definition.at,
            srcdir=place.srcdir,
            visibility=definition.visibility,
            bases=self._lineage(base_name, base),
            assignments=(*inherited, *own),
            needs=(
                *(base.needs if base else ()),
                *(n for n in needs if n is not None),
                *self._fed.get(name, ()),
                *fed,
            ),
            script=self._script(definition, place, package, base),
            body=body,
            matrix=self._matrix(definition),
            is_chain=definition.is_chain,
            generator=_generator(definition, place, package),
            control=control,
            max_failures=_inherited(definition.max_failures, None if base is None else base.max_failures),
            on_error=_handler(definition, place, package) or (base.on_error if base else None),
            is_template=definition.is_template,
            emits=emitted,
            consumes=_patterns(definition.consumes) or (base.consumes if base else Consumes.ALL),
            passthrough=_patterns(definition.passthrough) or (base.passthrough if base else Passthrough.UNUSED),
            produces=(*(base.produces if base else ()), *definition.produces),
            iff=definition.iff,
            inherits_rundir=definition.inherits_rundir,
            tools=_union(base.tools if base else (), definition.tools),
            environment=_union(base.environment if base else (), definition.environment),
            always_runs=base.always_runs if definition.always_runs is None and base else bool(definition.always_runs),
            uptodate=self._uptodate(definition, place, package, base),
            cache=definition.cache or (base.cache if base else None),
            tags=self._tags(definition.tags, package, place),
            desc=definition.desc,
            doc=definition.doc,
        )
        self._look_for_sub_tasks(task, definition)
        return task

    def _lineage(self, base_name: str | None, base: Task | None) -> tuple[str, ...]:
        """Return the names of what a task inherits from, nearest first; equal ones are one object."""
        if base_name is None:
            return ()
        lineage = (base_name, *(() if base is None else base.bases))
        return self._lineages.setdefault(lineage, lineage)

    def _look_for_sub_tasks(self, task: Task, definition: TaskDefinition) -> None:
        """Tell keys that speak of sub-tasks where there are none."""
        if definition.is_chain and not task.body and task.matrix is None:
            self.diagnostics.error(
                "missing-key", f"the `chain` of {task.name!r} has no sub-tasks", definition.at, hint="give it a `body`"
            )
        if definition.uptodate is not None and task.is_compound:
            self.diagnostics.warning(
                "compound-uptodate",
                f"task {task.name!r} consists of sub-tasks, of which each is judged by itself;"
                " a function in its `uptodate` is never asked",
                definition.uptodate.node,
                hint="give it to the sub-tasks",
            )
        has_key = definition.max_failures is not None or definition.on_error is not None
        if has_key and not task.is_compound:
            self.diagnostics.warning(
                "no-sub-tasks",
                f"task {task.name!r} has no sub-tasks, so that `max_failures` and `on_error` mean nothing",
                definition.at,
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
        inherited: tuple[Task, ...] = () if base is None else base.body
        if base is not None and base.control is not None and base.control.kind is not ControlKind.MATCH:
            inherited = base.control.branches[0].body
        return self._sub_tasks(name, definition.body, inherited, place, package, outer)

    def _sub_tasks(
        self,
        name: str,
        body: Sequence[TaskDefinition],
        inherited_body: Sequence[Task],
        place: Place,
        package: LoadedPackage,
        outer: tuple[frozenset[str], ...],
    ) -> tuple[Task, ...]:
        inherited = {task.leaf: task for task in inherited_body}
        if not body:
            return tuple(inherited.values())
        leaves: dict[str, TaskDefinition] = {}
        for sub in body:
            if sub.name in leaves:
                self.diagnostics.error("duplicate-task", f"two sub-tasks of {name!r} are named {sub.name!r}", sub.at)
            else:
                leaves[sub.name] = sub
        fed = _fed_siblings(leaves)
        names = (frozenset(leaves) | frozenset(inherited), *outer)
        made: dict[str, Task] = dict(inherited)
        for leaf in _bases_first(leaves):
            sub = leaves[leaf]
            uses = sub.uses
            base_name: str | None
            if uses is not None and uses.value in made and uses.value != leaf:
                base_name = f"{name}.{uses.value}"
                self._done[f"{name}.{uses.value}"] = made[uses.value]
            else:
                base_name = self._base(sub, package, place)
                if base_name is not None and base_name in self.tasks:
                    self.task(base_name)
            made[leaf] = self._make(f"{name}.{leaf}", sub, place, package, base_name, names, fed.get(leaf, ()))
        ordered = [*inherited, *(leaf for leaf in leaves if leaf not in inherited)]
        return tuple(made[leaf] for leaf in ordered)

    def _control(
        self,
        name: str,
        definition: TaskDefinition,
        place: Place,
        package: LoadedPackage,
        base: Task | None,
        outer: tuple[frozenset[str], ...],
    ) -> Control | None:
        control = definition.control
        if control is None:
            if base is None or base.control is None or not definition.body:
                return None if base is None else base.control
            first, *rest = base.control.branches
            body = self._body(name, definition, place, package, base, outer)
            return replace(base.control, branches=(replace(first, body=body), *rest))
        own = self._body(name, definition, place, package, base, outer)
        if control.kind is not ControlKind.MATCH and not own:
            self.diagnostics.error("missing-key", f"task {name!r} has a `control` and no `body`", definition.at)
        if control.kind is ControlKind.MATCH and definition.body:
            self.diagnostics.error(
                "misplaced-key",
                f"task {name!r} has a `body` beside its cases",
                definition.at,
                hint="each case has a body of its own",
            )
        branches = [
            Branch(
                condition=case.condition,
                body=self._sub_tasks(name, case.body, (), place, package, outer),
            )
            for case in control.cases
        ]
        if control.kind is not ControlKind.MATCH:
            condition = control.condition if control.kind is ControlKind.IF else None
            branches.insert(0, Branch(condition=condition, body=own))
        return Control(
            kind=control.kind,
            branches=tuple(branches),
            condition=control.condition if control.kind.is_loop else None,
            limit=control.limit,
            state=self._state(control, package, place),
            init=control.init,
            feedback=control.feedback,
            location=control.at.location,
        )

    def _state(self, control: ControlDefinition, package: LoadedPackage, place: Place) -> tuple[Assignment, ...]:
        if control.state_type is None:
            return ()
        if control.state_type.value in ("map", "dict", "object"):
            return ()
        name = self._find(control.state_type.value, package, place, self.types)
        if name is None:
            self._unknown("type", control.state_type, package, place, self.types)
            return ()
        return self.type(name).fields

    def _tags(self, nodes: Iterable[Node], package: LoadedPackage, place: Place) -> tuple[Tag, ...]:
        found = []
        for node in nodes:
            tag = self._tag(node, package, place)
            if tag is not None:
                found.append(tag)
        return tuple(found)

    def _tag(self, node: Node, package: LoadedPackage, place: Place) -> Tag | None:
        fields: Mapping[str, Node] = {}
        if isinstance(node, MappingNode) and len(node.entries) == 1:
            wanted, entry = next(iter(node.entries.items()))
            if isinstance(entry.value, MappingNode):
                fields = {name: item.value for name, item in entry.value.entries.items()}
            elif not (isinstance(entry.value, Scalar) and entry.value.value is None):
                self.diagnostics.error("wrong-type", f"the fields of the tag {wanted!r} are a mapping", entry.value)
        elif isinstance(node, Scalar) and isinstance(node.value, str) and node.value:
            wanted = node.value
        else:
            self.diagnostics.error(
                "wrong-type", "a tag is the name of a type, or a mapping of one such name to fields", node
            )
            return None
        name = self._find(wanted, package, place, self.types)
        if name is None:
            self._unknown("type", Text(wanted, node), package, place, self.types)
            return None
        kind = self.type(name)
        if TAG not in (kind.name, *kind.bases):
            self.diagnostics.error("not-a-tag", f"type {name!r} does not derive from {TAG}", node)
            return None
        known = {field.name: field for field in kind.fields}
        own = []
        for field, value in fields.items():
            if field not in known:
                hint = did_you_mean(field, known) or f"it has: {', '.join(known) or 'none'}"
                self.diagnostics.error("unknown-parameter", f"tag {name!r} has no field {field!r}", value, hint=hint)
                continue
            if RESOURCE_TAG not in (kind.name, *kind.bases):
                self._refuse_wrong_value(f"field {field!r} of the tag", value, known[field].type)
            own.append(
                Assignment(
                    name=field,
                    type=None,
                    operation=ListOperation.SET,
                    node=value,
                    doc="",
                    scope=package.scope,
                    at=value,
                )
            )
        return Tag(type=name, bases=kind.bases, fields=(*kind.fields, *own), location=node.location)

    def _refuse_wrong_value(self, what: str, node: Node, kind: ParameterType | None) -> None:
        """Tell that a value without expressions cannot be of its type; others are only known later."""
        if isinstance(node, Scalar) and "${{" in node.text:
            return
        try:
            coerce(to_plain(node), kind)
        except ValueError as error:
            self.diagnostics.error("wrong-type", f"{what}: {error}", node)

    def _need(
        self, text: Text, package: LoadedPackage, place: Place, siblings: tuple[frozenset[str], ...]
    ) -> Need | None:
        raw = text.value.removesuffix(_NEEDS_OF)
        if any(raw in names for names in siblings):
            return _need_at(text, sibling=raw, is_needs_of=raw != text.value)
        value = self._expand(text, package)
        if value is None:
            return None
        for candidate, is_needs_of in ((value, False), (value.removesuffix(_NEEDS_OF), True)):
            if is_needs_of and candidate == value:
                continue
            if any(candidate in names for names in siblings):
                return _need_at(text, sibling=candidate, is_needs_of=is_needs_of)
            target = self._find(candidate, package, place, self.tasks)
            if target is not None:
                self._warn_local(text, target, place)
                return _need_at(text, target=target, is_needs_of=is_needs_of)
        near = [leaf for names in siblings for leaf in names]
        around = value.rpartition(".")[0]
        outer = self._find(around, package, place, self.tasks) if around else None
        is_inner = outer is not None and self.tasks[outer][1].definition.body
        hint = f"sub-tasks are known inside their compound task only; need {around!r} itself" if is_inner else None
        if "," in value:
            hint = f"several tasks are a list: [{', '.join(word.strip() for word in value.split(','))}]"
        self._unknown("task", replace(text, value=value), package, place, self.tasks, near, hint)
        return None

    def _warn_local(self, text: Text, target: str, place: Place) -> None:
        home = self._homes[target]
        owner = f"{home.name}."
        if home.name == "std" or any(f"{prefix}.".startswith(owner) for prefix in place.prefixes()):
            return
        visibility = self.tasks[target][1].definition.visibility
        if Visibility.LOCAL in visibility:
            self.diagnostics.warning("local-task", f"task {target!r} is local to package {home.name!r}", text.node)
        elif Visibility.EXPORT not in visibility:
            self.diagnostics.warning(
                "not-exported",
                f"task {target!r} is not exported by package {home.name!r}",
                text.node,
                hint="name it with `export:` there if others shall need it",
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

    def _uptodate(
        self, definition: TaskDefinition, place: Place, package: LoadedPackage, base: Task | None
    ) -> Script | None:
        if definition.uptodate is None:
            return base.uptodate if base is not None and definition.always_runs is None else None
        return Script(text=definition.uptodate, shell=PYTHON_SHELL, srcdir=place.srcdir, scope=package.scope)

    def _matrix(self, definition: TaskDefinition) -> Matrix | None:
        if definition.matrix is None:
            return None
        axes = {name: entry.value for name, entry in definition.matrix.entries.items()}
        return Matrix(axes=axes, location=definition.matrix.location)

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
        name = self._known(wanted, package, place, known)
        if name is not None or not self.source.has_more:
            return name
        is_new = self.source.touch_prefix(_unaliased(wanted, package.scope))
        if not is_new:
            is_new = self.source.touch_imports(package)
        if not is_new:
            return None
        self._take_in()
        return self._known(wanted, package, place, known)

    def _known(
        self, wanted: str, package: LoadedPackage, place: Place, known: "Mapping[str, object] | _Either"
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
        package: LoadedPackage,
        place: Place,
        known: "Mapping[str, object] | _Either",
        near: Iterable[str] = (),
        hint: str | None = None,
    ) -> None:
        own = [
            name.removeprefix(f"{prefix}.")
            for prefix in place.prefixes()
            for name in known
            if name.startswith(f"{prefix}.")
        ]
        hint = hint or did_you_mean(text.value, [*near, *own, *known])
        wanted = _unaliased(text.value.removesuffix(_NEEDS_OF), package.scope)
        is_near = is_suggestion(hint)
        if self.diagnostics.lost.may_define(wanted, package.name, self.source.by_name, is_near=is_near):
            return
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


def _names_tasks_in_code(definition: TaskDefinition) -> bool:
    """Whether code of the task may ask for tasks by names that nobody sees while the flow is read."""
    uses = definition.uses
    return (
        definition.generate is not None
        or definition.shell == PYTHON_SHELL
        or (uses is not None and uses.value == "std.RunTasks")
    )


def _bodies(definition: TaskDefinition) -> Iterator[Sequence[TaskDefinition]]:
    """Yield the bodies of a task, one for each branch."""
    yield definition.body
    cases: Sequence[CaseDefinition] = () if definition.control is None else definition.control.cases
    for case in cases:
        yield case.body


def _expressions(definition: TaskDefinition) -> list[Node]:
    """Return the values of a task that may hold expressions and are not evaluated while it is resolved."""
    nodes = [item.node for item in definition.assignments if item.node is not None]
    nodes += [] if definition.iff is None else [definition.iff]
    nodes += [] if definition.run is None else [definition.run.node]
    nodes += definition.produces
    nodes += () if definition.cache is None else definition.cache.hash
    control = definition.control
    if control is not None:
        given = [control.condition, control.limit, control.init, control.feedback]
        given += [case.condition for case in control.cases]
        nodes += [node for node in given if node is not None]
    return nodes


def _paths(node: Node) -> Iterator[str]:
    """Yield the dotted names in the expressions of a value, and the names of its keys where it is a tag."""
    match node:
        case Scalar(value=str() as text):
            if "${{" not in text:
                if "." in text and " " not in text:
                    yield text
                return
            try:
                template = parse_template(text)
            except ExpressionError:
                return
            yield from (path for path in (*template.paths, *template.functions) if "." in path)
        case Scalar():
            return
        case MappingNode():
            for name, entry in node.entries.items():
                if "." in name:
                    yield name
                yield from _paths(entry.value)
        case SequenceNode():
            for item in node.items:
                yield from _paths(item)


def _fed_siblings(leaves: Mapping[str, TaskDefinition]) -> dict[str, list[Need]]:
    """Return the needs that sub-tasks get by the `feeds` of their siblings."""
    found: dict[str, list[Need]] = {}
    for leaf, sub in leaves.items():
        for text in sub.feeds:
            if text.value in leaves and text.value != leaf:
                found.setdefault(text.value, []).append(_need_at(text, sibling=leaf))
    return found


def _generator(definition: TaskDefinition, place: Place, package: LoadedPackage) -> Script | None:
    if definition.generate is None:
        return None
    text, shell = definition.generate
    return Script(text=text, shell=shell, srcdir=place.srcdir, scope=package.scope)


def _handler(definition: TaskDefinition, place: Place, package: LoadedPackage) -> Script | None:
    """Return the function of `on_error`; `module:function` is the same as `module.function`."""
    text = definition.on_error
    if text is None:
        return None
    value = text.value if "::" in text.value else text.value.replace(":", ".")
    return Script(text=replace(text, value=value), shell=PYTHON_SHELL, srcdir=place.srcdir, scope=package.scope)


def _inherited(own: int | None, base: int | None) -> int | None:
    return base if own is None else own


def _unaliased(wanted: str, scope: PackageScope) -> str:
    for alias, imported in scope.imports.items():
        if wanted.startswith(f"{alias}."):
            return imported.package + wanted[len(alias) :]
    return wanted


def _bases_first(leaves: Mapping[str, TaskDefinition]) -> list[str]:
    """Order sub-tasks so that one which `uses` its sibling comes after it; a circle keeps its written order."""
    ordered: dict[str, None] = {}
    for leaf in leaves:
        chain = [leaf]
        while (uses := leaves[chain[-1]].uses) is not None and uses.value in leaves and uses.value not in chain:
            chain.append(uses.value)
        ordered.update(dict.fromkeys(reversed(chain)))
    return list(ordered)


def _patterns(value: E | Sequence[MappingNode] | None) -> E | Patterns | None:
    return value if value is None or isinstance(value, enum.Enum) else Patterns(tuple(value))


def _union(first: Iterable[str], second: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*first, *second]))
