"""How a task is made from its definition and its base.

What it inherits: parameters, script, needs, consumes, passthrough, produces, body, `uptodate`, tools and environment;
not rundir, iff, strategy, tags and visibility. Each task of a package is made once, after the one it `uses`; chains of
any length, without recursion. Sub-tasks are made while their task is, and what these use where it is not made yet.
"""

import enum
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from msgspec.structs import replace

from dfm.core.flow.definitions import AssignmentDefinition, TaskDefinition
from dfm.core.flow.diagnostics import did_you_mean
from dfm.core.flow.loaded import LoadedPackage, Place
from dfm.core.flow.model import (
    BUILTIN_SHELL,
    DEFAULT_SHELL,
    PYTHON_SHELL,
    Assignment,
    Consumes,
    Matrix,
    Need,
    Passthrough,
    Patterns,
    Script,
    Task,
)
from dfm.core.flow.resolve_bodies import Bodies, Draft
from dfm.core.flow.resolve_names import Names
from dfm.core.flow.resolve_needs import find_need
from dfm.core.flow.resolve_types import TypeResolver
from dfm.core.flow.source import Mapping as MappingNode
from dfm.core.flow.values import check_syntax

E = TypeVar("E", bound=enum.Enum)


class TaskResolver:
    """Makes the tasks that are asked for, with what they inherit from."""

    def __init__(self, names: Names, types: TypeResolver, fed: Mapping[str, Sequence[Need]]) -> None:
        self._names = names
        self._diagnostics = names.diagnostics
        self._types = types
        self._fed = fed
        self._bodies = Bodies(names, types)
        self._made: dict[str, Task] = {}
        self._bases: dict[str, str | None] = {}
        self._making: set[str] = set()
        self._lineages: dict[tuple[str, ...], tuple[str, ...]] = {}

    def task(self, name: str) -> Task | None:
        """Return the task; None while it is being made, which happens to a task that contains itself."""
        for link in reversed(self._chain(name)):
            if link in self._made:
                continue
            package, item = self._names.tasks[link]
            if link in self._making:
                self._diagnostics.error("uses-cycle", f"task {link!r} contains itself", item.definition.at)
                continue
            self._making.add(link)
            base_name = self._bases[link]
            base = None if base_name is None else self._made.get(base_name)
            self._made[link] = self.make(Draft(item.name, item.definition, package, item.place, base_name, base))
            self._making.discard(link)
        return self._made.get(name)

    def find_base(
        self, definition: TaskDefinition, package: LoadedPackage, place: Place
    ) -> tuple[str | None, Task | None]:
        """Return the name of what a sub-task `uses`, where that is not its sibling, and the task of this name."""
        name = self._base(definition, package, place)
        if name is None:
            return None, None
        if name in self._names.tasks:
            self.task(name)
        return name, self._made.get(name)

    def keep(self, name: str, task: Task) -> None:
        """Keep a sub-task that others build on."""
        self._made[name] = task

    def make(self, draft: Draft) -> Task:
        """Return the task that comes of a definition and its base."""
        definition, package, place, base = draft.definition, draft.package, draft.place, draft.base
        inherited, emitted = self._inherited(draft)
        own = tuple(item.in_scope(package.scope) for item in definition.assignments)
        if draft.base_name is not None:
            self._refuse_unknown_parameters(draft.name, inherited, definition.assignments)
        needs = [find_need(text, package, place, draft.siblings, self._names) for text in definition.needs]
        control = self._bodies.control(draft, self)
        body = () if control is not None else self._bodies.body(draft, self)
        for node in definition.expressions:
            check_syntax(node, self._diagnostics)
        task = Task(
            name=draft.name,
            leaf=definition.name,
            package=package.scope,
            at=definition.at,
            srcdir=place.srcdir,
            visibility=definition.visibility,
            bases=self._lineage(draft.base_name, base),
            assignments=(*inherited, *own),
            needs=(
                *(base.needs if base else ()),
                *(n for n in needs if n is not None),
                *self._fed.get(draft.name, ()),
                *draft.fed,
            ),
            script=self._script(draft),
            body=body,
            matrix=_matrix(definition),
            is_chain=definition.is_chain,
            generator=_generator(draft),
            control=control,
            max_failures=base.max_failures if definition.max_failures is None and base else definition.max_failures,
            on_error=_handler(draft) or (base.on_error if base else None),
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
            uptodate=_uptodate(draft),
            cache=definition.cache or (base.cache if base else None),
            tags=self._types.tags(definition.tags, package, place),
            desc=definition.desc,
            doc=definition.doc,
        )
        self._look_for_sub_tasks(task, definition)
        return task

    def _chain(self, name: str) -> list[str]:
        """Return the task and the tasks it inherits from, as far as they are not resolved yet."""
        chain = [name]
        while True:
            link = chain[-1]
            if link not in self._bases:
                package, item = self._names.tasks[link]
                self._bases[link] = self._base(item.definition, package, item.place)
            base = self._bases[link]
            if base is None or base in self._made or base not in self._names.tasks:
                return chain
            if base in chain:
                cycle = " -> ".join([*chain[chain.index(base) :], base])
                definition = self._names.tasks[link][1].definition
                self._diagnostics.error(
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
        text = self._names.expand(definition.uses, package)
        if text is None:
            return None
        name = self._names.find(text, package, place, self._names.either)
        if name is None:
            wanted = replace(definition.uses, value=text)
            self._names.refuse("task or type", wanted, package, place, self._names.either)
        return name

    def _inherited(self, draft: Draft) -> tuple[tuple[Assignment, ...], str | None]:
        """Return the parameters that a task has of what it `uses`, and the type of the item it makes."""
        if draft.base is not None:
            return draft.base.assignments, draft.base.emits
        if draft.base_name is not None and draft.base_name in self._names.types:
            kind = self._types.type(draft.base_name)
            return kind.fields, kind.name
        return (), None

    def _lineage(self, base_name: str | None, base: Task | None) -> tuple[str, ...]:
        """Return the names of what a task inherits from, nearest first; equal ones are one object."""
        if base_name is None:
            return ()
        lineage = (base_name, *(() if base is None else base.bases))
        return self._lineages.setdefault(lineage, lineage)

    def _script(self, draft: Draft) -> Script | None:
        definition = draft.definition
        inherited = None if draft.base is None else draft.base.script
        if definition.shell == BUILTIN_SHELL and draft.package.scope.package != "std":
            self._diagnostics.error(
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
        return Script(text=definition.run, shell=shell, srcdir=draft.place.srcdir, scope=draft.package.scope)

    def _refuse_unknown_parameters(
        self, name: str, inherited: Iterable[Assignment], own: Iterable[AssignmentDefinition]
    ) -> None:
        known = {item.name for item in inherited}
        for item in own:
            if item.name not in known and item.type is None:
                listed = ", ".join(sorted(known)) or "none"
                self._diagnostics.error(
                    "unknown-parameter",
                    f"task {name!r} has no parameter {item.name!r}",
                    item.key,
                    hint=did_you_mean(item.name, known) or f"it has: {listed}",
                )

    def _look_for_sub_tasks(self, task: Task, definition: TaskDefinition) -> None:
        """Tell keys that speak of sub-tasks where there are none."""
        if definition.is_chain and not task.body and task.matrix is None:
            self._diagnostics.error(
                "missing-key", f"the `chain` of {task.name!r} has no sub-tasks", definition.at, hint="give it a `body`"
            )
        if definition.uptodate is not None and task.is_compound:
            self._diagnostics.warning(
                "compound-uptodate",
                f"task {task.name!r} consists of sub-tasks, of which each is judged by itself;"
                " a function in its `uptodate` is never asked",
                definition.uptodate.node,
                hint="give it to the sub-tasks",
            )
        has_key = definition.max_failures is not None or definition.on_error is not None
        if has_key and not task.is_compound:
            self._diagnostics.warning(
                "no-sub-tasks",
                f"task {task.name!r} has no sub-tasks, so that `max_failures` and `on_error` mean nothing",
                definition.at,
            )


def _matrix(definition: TaskDefinition) -> Matrix | None:
    if definition.matrix is None:
        return None
    axes = {name: entry.value for name, entry in definition.matrix.entries.items()}
    return Matrix(axes=axes, location=definition.matrix.location)


def _generator(draft: Draft) -> Script | None:
    if draft.definition.generate is None:
        return None
    text, shell = draft.definition.generate
    return Script(text=text, shell=shell, srcdir=draft.place.srcdir, scope=draft.package.scope)


def _handler(draft: Draft) -> Script | None:
    """Return the function of `on_error`; `module:function` is the same as `module.function`."""
    text = draft.definition.on_error
    if text is None:
        return None
    value = text.value if "::" in text.value else text.value.replace(":", ".")
    text = replace(text, value=value)
    return Script(text=text, shell=PYTHON_SHELL, srcdir=draft.place.srcdir, scope=draft.package.scope)


def _uptodate(draft: Draft) -> Script | None:
    definition, base = draft.definition, draft.base
    if definition.uptodate is None:
        return base.uptodate if base is not None and definition.always_runs is None else None
    return Script(text=definition.uptodate, shell=PYTHON_SHELL, srcdir=draft.place.srcdir, scope=draft.package.scope)


def _patterns(value: E | Sequence[MappingNode] | None) -> E | Patterns | None:
    return value if value is None or isinstance(value, enum.Enum) else Patterns(tuple(value))


def _union(first: Iterable[str], second: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*first, *second]))
