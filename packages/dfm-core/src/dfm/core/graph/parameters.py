"""The parameters of one node: every statement about them applied, evaluated on demand, brought to their types."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NoReturn

from dfm.core.flow.diagnostics import Diagnostics
from dfm.core.flow.model import Assignment, ListOperation, PackageScope, ParameterType
from dfm.core.flow.source import Mapping as MappingNode
from dfm.core.flow.source import Node, Scalar
from dfm.core.flow.source import Sequence as SequenceNode
from dfm.core.flow.values import Deferred, StillWaiting, ValueFault, coerce, evaluate, is_deferred

if TYPE_CHECKING:
    from dfm.core.expr.evaluate import Scope


class Parameters(Mapping[str, object]):
    """Evaluates the parameters of one node, each once and only when asked for.

    Args:
        assignments: base first.
        overrides: values from the command line, with what set each.
    """

    def __init__(
        self,
        assignments: Sequence[Assignment],
        overrides: Mapping[str, tuple[object, str]],
        diagnostics: Diagnostics,
    ) -> None:
        self._statements: dict[str, list[Assignment]] = {}
        for assignment in assignments:
            self._statements.setdefault(assignment.name, []).append(assignment)
        self._overrides = overrides
        self._diagnostics = diagnostics
        self._values: dict[str, object] = {}
        self._active: set[str] = set()
        self.scope: Callable[[PackageScope], Scope] | None = None

    def __iter__(self) -> Iterator[str]:
        """Yield the names of all parameters, in the order in which they were first named."""
        return iter(self._statements)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._statements)

    def __getitem__(self, name: str) -> object:
        """Return the value of one parameter.

        Raises:
            KeyError: there is none of this name, or it is being evaluated.
            StillWaiting: it waits for the task's inputs.
            ValueFault: it cannot be evaluated; the diagnostics have it.
        """
        value = self._known(name)
        if isinstance(value, Deferred):
            raise StillWaiting
        return value

    def _known(self, name: str) -> object:
        if name in self._values:
            return self._values[name]
        if name not in self._statements or name in self._active:
            raise KeyError(name)
        self._active.add(name)
        try:
            value = self._values[name] = self._evaluate(name)
        finally:
            self._active.discard(name)
        return value

    def all(self) -> dict[str, object]:
        """Return every parameter that can be evaluated; the diagnostics have the others."""
        result = {}
        for name in self._statements:
            try:
                result[name] = self._known(name)
            except ValueFault:
                continue
        return result

    def _evaluate(self, name: str) -> object:
        statements = self._statements[name]
        kind = next((s.type for s in reversed(statements) if s.type is not None), None)
        if name in self._overrides:
            value, source = self._overrides[name]
            return self._coerced(value, kind or _kind_of(statements[-1].node), statements[-1], source)
        last_set = max((i for i, s in enumerate(statements) if s.operation is ListOperation.SET), default=-1)
        while last_set > 0 and statements[last_set].node is None:
            last_set -= 1
        effective = statements[max(last_set, 0) :]
        value = self._one(effective[0], kind)
        for statement in effective[1:]:
            if statement.operation is not ListOperation.SET:
                value = self._joined(value, statement, kind)
        return value

    def _one(self, statement: Assignment, kind: ParameterType | None) -> object:
        if statement.node is None:
            return None if kind is None else kind.empty
        if is_deferred(statement.node, statement.scope):
            return Deferred(statement.node, statement.scope, kind)
        if statement.operation is not ListOperation.SET:
            return self._joined([] if kind is None else kind.empty, statement, kind)
        assert self.scope is not None
        try:
            value = evaluate(statement.node, self.scope(statement.scope), self._diagnostics)
        except StillWaiting:
            return Deferred(statement.node, statement.scope, kind)
        return self._coerced(value, kind, statement, None)

    def _joined(self, value: object, statement: Assignment, kind: ParameterType | None) -> object:
        assert self.scope is not None
        assert statement.node is not None
        if isinstance(value, Deferred) or is_deferred(statement.node, statement.scope):
            self._refuse_waiting(statement)
        try:
            more = evaluate(statement.node, self.scope(statement.scope), self._diagnostics)
        except StillWaiting:
            self._refuse_waiting(statement)
        is_list = isinstance(value, list) and kind in (None, ParameterType.LIST)
        if not (is_list or statement.operation.is_path):
            self._diagnostics.error(
                "wrong-type",
                f"`{statement.operation.value}` needs a list, and parameter {statement.name!r} is none",
                statement.node,
            )
            raise ValueFault(statement.name)
        return statement.operation.applied(value, more)

    def _refuse_waiting(self, statement: Assignment) -> NoReturn:
        self._diagnostics.error(
            "bad-expression",
            f"`{statement.operation.value}` to parameter {statement.name!r} cannot wait for the inputs of the task",
            statement.node,
            hint="write the whole list as one expression: `${{ [...] + ... }}`",
        )
        raise ValueFault(statement.name)

    def _coerced(self, value: object, kind: ParameterType | None, statement: Assignment, source: str | None) -> object:
        try:
            return coerce(value, kind)
        except ValueError as error:
            where = f" (set by {source})" if source else ""
            self._diagnostics.error("wrong-type", f"parameter {statement.name!r}: {error}{where}", statement.node)
            raise ValueFault(str(error)) from None


class LateParameters(Mapping[str, object]):
    """Evaluates those parameters of a node that wait for its inputs, once these are known.

    Args:
        params: all parameters of the node.
    """

    def __init__(self, params: Mapping[str, object], diagnostics: Diagnostics) -> None:
        self._params = dict(params)
        self._diagnostics = diagnostics
        self._active: set[str] = set()
        self.scope: Callable[[PackageScope], Scope] | None = None

    def __iter__(self) -> Iterator[str]:
        """Yield the names of all parameters."""
        return iter(self._params)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._params)

    def __getitem__(self, name: str) -> object:
        """Return the value of one parameter; raises as that of Parameters does, but for what waits."""
        value = self._params[name]
        if not isinstance(value, Deferred):
            return value
        if name in self._active:
            raise KeyError(name)
        self._active.add(name)
        try:
            assert self.scope is not None
            known = coerce(evaluate(value.node, self.scope(value.scope), self._diagnostics), value.type)
        except ValueError as error:
            self._diagnostics.error("wrong-type", f"parameter {name!r}: {error}", value.node)
            raise ValueFault(str(error)) from None
        finally:
            self._active.discard(name)
        self._params[name] = known
        return known

    def all(self) -> dict[str, object]:
        """Return every parameter that can be evaluated; the diagnostics have the others."""
        result = {}
        for name in list(self._params):
            with contextlib.suppress(ValueFault):
                result[name] = self[name]
        return result


def _kind_of(node: Node | None) -> ParameterType | None:
    """Return the type that an undeclared parameter shows by its value; None for text, which fits everything."""
    match node:
        case Scalar(value=bool()):
            return ParameterType.BOOL
        case Scalar(value=int()):
            return ParameterType.INT
        case Scalar(value=float()):
            return ParameterType.FLOAT
        case SequenceNode():
            return ParameterType.LIST
        case MappingNode():
            return ParameterType.MAP
        case _:
            return None
