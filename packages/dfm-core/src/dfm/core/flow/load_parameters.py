"""Parameters of packages: which there are, and what value each gets.

The command line wins over imports, these over the chosen configuration, and that over the declaration. Imports may not
contradict each other. A parameter whose value needs one that has none yet waits, and is settled again when imports were
read; only then is a fault in it told.
"""

from collections.abc import Mapping

from msgspec import Struct, field

from dfm.core.flow.definitions import AssignmentDefinition, FileDefinition, ImportDefinition
from dfm.core.flow.diagnostics import At, Diagnostics, did_you_mean
from dfm.core.flow.loaded import ImportSettings, LoadedPackage
from dfm.core.flow.overrides import Overrides
from dfm.core.flow.source import KeyMark
from dfm.core.flow.values import ValueFault, coerce, evaluate


class Parameters(Struct):
    """What is said about parameters of packages from outside of them.

    Attributes:
        settings: of imports, by the name of the imported package.
    """

    overrides: Overrides
    diagnostics: Diagnostics
    settings: dict[str, ImportSettings] = field(default_factory=dict)

    def settle(self, package: LoadedPackage, *, report: bool) -> bool:
        """Evaluate the package's parameters; return whether some must wait for the imports."""
        declared = {item.name: item for item in package.definition.assignments}
        assigned = [item for config in package.configs for item in config.assignments]
        settings = self.settings.get(package.name)
        given = {} if settings is None else settings.values
        if not report:
            for item in assigned:
                self._refuse_unknown(package, item.name, item.key)
        for name, (_, key) in given.items():
            self._refuse_unknown(package, name, key)
        statements: dict[str, list[AssignmentDefinition]] = {}
        for item in (*package.definition.assignments, *assigned):
            statements.setdefault(item.name, []).append(item)
        for name in declared:
            package.scope.params.pop(name, None)
        waiting, before = list(declared), len(declared) + 1
        while waiting and len(waiting) < before:
            before = len(waiting)
            waiting = [n for n in waiting if not self._settle_one(package, statements[n], given, Diagnostics())]
        if report:
            waiting = [n for n in waiting if not self._settle_one(package, statements[n], given, self.diagnostics)]
            for name in waiting:
                self.diagnostics.lost.add_parameter(name)
        return bool(waiting)

    def add_declared(self, package: LoadedPackage, fragment: FileDefinition) -> None:
        """Make the parameters that a fragment declares parameters of its package."""
        known = {item.name for item in package.definition.assignments}
        fresh = []
        for item in fragment.assignments:
            if item.name in known:
                self.diagnostics.error(
                    "duplicate-parameter", f"package {package.name!r} has a parameter {item.name!r} already", item.key
                )
            else:
                fresh.append(item)
        if fresh:
            package.definition.assignments = [*package.definition.assignments, *fresh]
            self.settle(package, report=True)

    def settings_of(self, item: ImportDefinition, package: LoadedPackage) -> ImportSettings:
        """Return what an import of `package` says about the package it imports."""
        values: dict[str, tuple[object, KeyMark]] = {}
        for assignment in item.assignments:
            if assignment.node is None:
                continue
            try:
                values[assignment.name] = (evaluate(assignment.node, package.names, self.diagnostics), assignment.key)
            except ValueFault:
                continue
        config = None if item.config is None else package.expand(item.config, self.diagnostics)
        return ImportSettings(values, config, None if item.config is None else item.config.node)

    def agree(self, name: str, settings: ImportSettings, item: ImportDefinition, known: LoadedPackage | None) -> None:
        """Join what several imports say of one package, which was read already where it is `known`."""
        before = self.settings.get(name) or ImportSettings({}, None, None)
        for parameter, (value, key) in settings.values.items():
            other = before.values.get(parameter)
            if other is not None and other[0] != value:
                self.diagnostics.error(
                    "conflicting-imports",
                    f"package {name!r} is imported with {parameter} = {value!r} here"
                    f" and with {other[0]!r} at {other[1].location}",
                    key,
                )
        current = before.config if known is None else known.config_name
        if settings.config is not None and (before.config or known) and current != settings.config:
            self.diagnostics.error(
                "conflicting-imports",
                f"package {name!r} is imported with configuration {settings.config!r} here"
                f" and with {current or 'none'!r} elsewhere",
                settings.config_at or item.at,
            )
        self.settings[name] = ImportSettings(
            {**settings.values, **before.values},
            before.config or settings.config,
            before.config_at or settings.config_at,
        )

    def _settle_one(
        self,
        package: LoadedPackage,
        statements: list[AssignmentDefinition],
        given: Mapping[str, tuple[object, KeyMark]],
        sink: Diagnostics,
    ) -> bool:
        """Evaluate one parameter; return False where another one that it needs has no value yet."""
        name = statements[0].name
        override = self.overrides.of_package(package.name, name, is_root=package.is_root)
        try:
            if override is not None:
                value = override[1]
            elif name in given:
                value = given[name][0]
            else:
                value = self._value(statements, package, sink)
            package.scope.params[name] = coerce(value, statements[0].type)
        except ValueFault:
            return False
        except ValueError as error:
            source = f" (set by {self.overrides.option(override[0])})" if override is not None else ""
            at = given[name][1] if name in given and override is None else statements[-1].key
            self.diagnostics.error("wrong-type", f"parameter {name!r}: {error}{source}", at)
            self.diagnostics.lost.add_parameter(name)
        return True

    def _value(self, statements: list[AssignmentDefinition], package: LoadedPackage, sink: Diagnostics) -> object:
        kind = statements[0].type
        value: object = None if kind is None else kind.empty
        for item in statements:
            if item.node is not None:
                value = item.operation.applied(value, evaluate(item.node, package.names, sink))
        return value

    def _refuse_unknown(self, package: LoadedPackage, name: str, at: At) -> None:
        known = [item.name for item in package.definition.assignments]
        if name not in known:
            hint = did_you_mean(name, known) or f"it has: {', '.join(known) or 'none'}"
            message = f"package {package.name!r} has no parameter {name!r}"
            self.diagnostics.error("unknown-parameter", message, at, hint=hint)
