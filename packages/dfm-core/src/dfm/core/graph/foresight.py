"""Names in sub-tasks that are not made before their turn comes: what nothing will ever be called is told at once.

Only names are looked at, since no value is known yet; a name with a default may be absent.
"""

from collections.abc import Iterable, Iterator

from dfm.core.expr.errors import ExpressionError
from dfm.core.expr.functions import BINDING, ELEMENT_NAMES
from dfm.core.expr.nodes import Call, Default, Expression, Name, children
from dfm.core.expr.template import parse_template
from dfm.core.flow.diagnostics import Diagnostics, did_you_mean
from dfm.core.flow.model import PackageScope, Task
from dfm.core.flow.source import Mapping as MappingNode
from dfm.core.flow.source import Node, Scalar, inside
from dfm.core.graph.names import RUN_TIME_NAMES, NodeNames

_ALWAYS = frozenset({"this", "params", "matrix", "inputs", "memento"}) | RUN_TIME_NAMES


def refuse_unknown_names(task: Task, names: NodeNames, diagnostics: Diagnostics) -> None:
    """Report the names in the conditions and sub-tasks of an unfolding task that nothing is called.

    Args:
        task: whose sub-tasks are made later.
        names: what its own expressions see.
        diagnostics: told of each such name.
    """
    axes = () if task.matrix is None else task.matrix.axes
    outside = _ALWAYS | set(names.all_names()) | set(axes)
    control = task.control
    if control is not None:
        conditions = [
            control.condition,
            control.limit,
            control.init,
            *(branch.condition for branch in control.branches),
        ]
        for condition in conditions:
            _check(condition, outside, task.package, diagnostics)
    pending = [(sub, outside) for sub in task.sub_tasks]
    while pending:
        sub, around = pending.pop()
        known = around | {item.name for item in sub.assignments} | set(() if sub.matrix is None else sub.matrix.axes)
        for item in sub.assignments:
            _check(item.node, known, item.scope, diagnostics)
        if sub.script is not None:
            _check(sub.script.text.node, known, sub.script.scope, diagnostics)
        _check(sub.iff, known, sub.package, diagnostics)
        pending += [(inner, known) for inner in sub.sub_tasks]


def _check(node: Node | None, known: "frozenset[str] | set[str]", scope: PackageScope, told: Diagnostics) -> None:
    for text in () if node is None else _texts(node):
        for name in _names(text.value):
            if name.name not in known and name.name not in _of_package(scope):
                hint = did_you_mean(name.name, [*known, *scope.params])
                told.error("bad-expression", f"nothing is called {name.name!r} here", inside(text, *name.at), hint=hint)


def _of_package(scope: PackageScope) -> Iterator[str]:
    yield from scope.params
    yield from (name.partition(".")[0] for name in (scope.package, *scope.imports, *scope.loaded))


def _texts(node: Node) -> Iterator[Scalar]:
    match node:
        case Scalar():
            if isinstance(node.value, str) and "${{" in node.value:
                yield node
        case MappingNode():
            for entry in node.entries.values():
                yield from _texts(entry.value)
        case _:
            for item in node.items:
                yield from _texts(item)


def _names(text: object) -> Iterator[Name]:
    try:
        parts = parse_template(str(text)).parts
    except ExpressionError:
        return
    waiting: list[tuple[Expression, bool]] = [(part, False) for part in parts if not isinstance(part, str)]
    while waiting:
        node, is_bound = waiting.pop()
        match node:
            case Name(name):
                if not (is_bound and name in ELEMENT_NAMES):
                    yield node
            case Default():
                continue
            case Call(function="default"):
                waiting += [(child, is_bound) for child in list(children(node))[1:]]
            case _:
                binds = isinstance(node, Call) and node.function in BINDING
                below: Iterable[Expression] = children(node)
                waiting += [(child, is_bound or (binds and number > 0)) for number, child in enumerate(below)]
