"""What is inside a compound task: its sub-tasks, in a plain body or in the branches of its control.

A body adds to the one that is inherited: a sub-task of the same leaf name takes the place of the inherited one, new
ones follow. A sub-task that `uses` its sibling is made after it. Control is inherited as a whole; a `body` beside
inherited control is that of its first branch.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from dfm.core.flow.definitions import ControlDefinition, TaskDefinition
from dfm.core.flow.loaded import LoadedPackage, Place
from dfm.core.flow.model import Assignment, Branch, Control, ControlKind, Need, Task
from dfm.core.flow.resolve_names import Names
from dfm.core.flow.resolve_needs import Siblings, find_fed_siblings
from dfm.core.flow.resolve_types import TypeResolver


class Draft(Struct, frozen=True):
    """A task that is about to be made.

    Attributes:
        name: fully qualified.
        package: whose names its text sees.
        base_name: of the task or type it inherits from.
        base: that task; None where it is a type, or cannot be made.
        siblings: sub-tasks that it can name.
        fed: the needs it gets by the `feeds` of its siblings.
    """

    name: str
    definition: TaskDefinition
    package: LoadedPackage
    place: Place
    base_name: str | None
    base: Task | None
    siblings: Siblings = ()
    fed: Sequence[Need] = ()


class SubTaskMaker(Protocol):
    """Makes the tasks of bodies."""

    def find_base(
        self, definition: TaskDefinition, package: LoadedPackage, place: Place
    ) -> tuple[str | None, Task | None]:
        """Return the name of what a task `uses`, where that is not its sibling, and the task of this name."""

    def make(self, draft: Draft) -> Task:
        """Return the task that comes of a definition and its base."""

    def keep(self, name: str, task: Task) -> None:
        """Keep a sub-task that others build on."""


class Bodies(Struct, frozen=True):
    """Makes bodies and control of tasks.

    The maker of their sub-tasks is lent to each call, not kept: it keeps this one, and a circle of objects would hold
    all definitions for good, since nothing collects circles while a flow is read.
    """

    names: Names
    types: TypeResolver

    def control(self, draft: Draft, maker: SubTaskMaker) -> Control | None:
        """Return the task's control with all branches, None where it has none."""
        control = draft.definition.control
        if control is None:
            inherited = None if draft.base is None else draft.base.control
            if inherited is None or not draft.definition.body:
                return inherited
            first, *rest = inherited.branches
            return replace(inherited, branches=(replace(first, body=self.body(draft, maker)), *rest))
        own = self.body(draft, maker)
        self._look_at_body(control, own, draft)
        branches = [
            Branch(condition=case.condition, body=self._sub_tasks(draft, case.body, (), maker))
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
            state=self._state(control, draft),
            init=control.init,
            feedback=control.feedback,
            location=control.at.location,
        )

    def body(self, draft: Draft, maker: SubTaskMaker) -> tuple[Task, ...]:
        """Return the sub-tasks that are in no case of a control, inherited ones first."""
        base = draft.base
        inherited: tuple[Task, ...] = () if base is None else base.body
        if base is not None and base.control is not None and base.control.kind is not ControlKind.MATCH:
            inherited = base.control.branches[0].body
        return self._sub_tasks(draft, draft.definition.body, inherited, maker)

    def _look_at_body(self, control: ControlDefinition, own: Sequence[Task], draft: Draft) -> None:
        """Tell a body that is missing, or is beside the cases."""
        definition, diagnostics = draft.definition, self.names.diagnostics
        if control.kind is not ControlKind.MATCH and not own:
            diagnostics.error("missing-key", f"task {draft.name!r} has a `control` and no `body`", definition.at)
        if control.kind is ControlKind.MATCH and definition.body:
            diagnostics.error(
                "misplaced-key",
                f"task {draft.name!r} has a `body` beside its cases",
                definition.at,
                hint="each case has a body of its own",
            )

    def _state(self, control: ControlDefinition, draft: Draft) -> tuple[Assignment, ...]:
        kind = control.state_type
        if kind is None or kind.value in ("map", "dict", "object"):
            return ()
        name = self.names.find(kind.value, draft.package, draft.place, self.names.types)
        if name is None:
            self.names.refuse("type", kind, draft.package, draft.place, self.names.types)
            return ()
        return self.types.type(name).fields

    def _sub_tasks(
        self, outer: Draft, body: Sequence[TaskDefinition], inherited_body: Sequence[Task], maker: SubTaskMaker
    ) -> tuple[Task, ...]:
        inherited = {task.leaf: task for task in inherited_body}
        if not body:
            return tuple(inherited.values())
        leaves = self._leaves(outer, body)
        fed = find_fed_siblings(leaves)
        siblings = (frozenset(leaves) | frozenset(inherited), *outer.siblings)
        made: dict[str, Task] = dict(inherited)
        for leaf in _bases_first(leaves):
            sub = leaves[leaf]
            uses = sub.uses
            base_name: str | None
            base: Task | None
            if uses is not None and uses.value in made and uses.value != leaf:
                base_name, base = f"{outer.name}.{uses.value}", made[uses.value]
                maker.keep(base_name, base)
            else:
                base_name, base = maker.find_base(sub, outer.package, outer.place)
            name = f"{outer.name}.{leaf}"
            made[leaf] = maker.make(
                Draft(name, sub, outer.package, outer.place, base_name, base, siblings, fed.get(leaf, ()))
            )
        ordered = [*inherited, *(leaf for leaf in leaves if leaf not in inherited)]
        return tuple(made[leaf] for leaf in ordered)

    def _leaves(self, outer: Draft, body: Sequence[TaskDefinition]) -> dict[str, TaskDefinition]:
        leaves: dict[str, TaskDefinition] = {}
        for sub in body:
            if sub.name in leaves:
                message = f"two sub-tasks of {outer.name!r} are named {sub.name!r}"
                self.names.diagnostics.error("duplicate-task", message, sub.at)
            else:
                leaves[sub.name] = sub
        return leaves


def _bases_first(leaves: Mapping[str, TaskDefinition]) -> list[str]:
    """Order sub-tasks so that one which `uses` its sibling comes after it; a circle keeps its written order."""
    ordered: dict[str, None] = {}
    for leaf in leaves:
        chain = [leaf]
        while (uses := leaves[chain[-1]].uses) is not None and uses.value in leaves and uses.value not in chain:
            chain.append(uses.value)
        ordered.update(dict.fromkeys(reversed(chain)))
    return list(ordered)
