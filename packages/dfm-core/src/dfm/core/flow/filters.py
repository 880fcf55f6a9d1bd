"""The filters of packages: which there are, and which a package may use.

A filter is for the package that has it; one that is exported is for every package, one with a scope for those it names.
"""

from collections.abc import Iterable, Iterator

from dfm.api.errors import SourceLocation
from dfm.core.expr.errors import ExpressionError
from dfm.core.expr.template import parse_expression
from dfm.core.flow.definitions import FilterDefinition
from dfm.core.flow.diagnostics import Diagnostics
from dfm.core.flow.model import Filter, PackageScope
from dfm.core.flow.source import inside

SHELL = Filter(  # noqa: S604  (it names a kind of program, and starts none)
    name="shell",
    package="",
    parameters=(),
    expression=None,
    program="",
    shell="shell",
    users=None,
    location=SourceLocation("", 0, 0),
    desc="What a command prints",
)
"""The function that runs a command; it is one more filter with a program, and its value is the command."""


def add_filters(scope: PackageScope, definitions: Iterable[FilterDefinition], diagnostics: Diagnostics) -> None:
    """Give a package its filters; faults in their expressions are reported inside them."""
    for definition in definitions:
        if definition.name in scope.filters:
            diagnostics.error("duplicate-filter", f"two filters are named {definition.name!r}", definition.at)
            continue
        expression = None
        if definition.expression is not None:
            try:
                expression = parse_expression(definition.expression.value)
            except ExpressionError as error:
                at = inside(definition.expression.node, error.offset, error.length)
                diagnostics.error("bad-expression", error.message, at, hint=error.hint)
                continue
        scope.filters[definition.name] = Filter(
            name=definition.name,
            package=scope.package,
            parameters=tuple(definition.parameters),
            expression=expression,
            program=None if definition.program is None else definition.program.value,
            shell=definition.shell,
            users=definition.users,
            location=definition.at.location,
            desc=definition.desc,
            doc=definition.doc,
        )


def find_filter(scope: PackageScope, name: str) -> Filter | None:
    """Return the filter that a package means by a name, `filter` or `package.filter`; None where it has none."""
    owner_name, _, leaf = name.rpartition(".")
    if owner_name:
        owner = scope.imports.get(owner_name) or scope.loaded.get(owner_name)
        return None if owner is None else _usable(owner, leaf, scope)
    if leaf in scope.filters:
        return scope.filters[leaf]
    found = (_usable(owner, leaf, scope) for owner in scope.imports.values())
    return next((item for item in found if item is not None), None)


def usable_filters(scope: PackageScope) -> Iterator[str]:
    """Yield the names by which a package may use filters: its own, and those that the packages it imports share."""
    yield from scope.filters
    for alias, owner in scope.imports.items():
        for name in owner.filters:
            if _usable(owner, name, scope) is not None:
                yield name
                yield f"{alias}.{name}"


def runs_program(scope: PackageScope, names: Iterable[str]) -> bool:
    """Whether one of the functions an expression calls is a filter that runs a program."""
    for name in names:
        found = SHELL if name == SHELL.name else find_filter(scope, name)
        if found is not None and found.program is not None:
            return True
    return False


def _usable(owner: PackageScope, name: str, user: PackageScope) -> Filter | None:
    found = owner.filters.get(name)
    if found is None or owner is user:
        return found
    return found if found.users is None or user.package in found.users else None
