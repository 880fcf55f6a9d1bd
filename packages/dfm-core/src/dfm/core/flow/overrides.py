"""Parameters set on the command line: `-D name=value`, `-D pkg.param=value`, `-D task.param=value`, `-P`.

What a dotted name means is only known when the flow is loaded; until then an override is kept by its whole name. An
override that met nothing is an error, never silence. `-D` wins over `-P`.
"""

import json
from collections.abc import Iterable, Mapping

from msgspec import Struct, field

from dfm.api.errors import UsageError


class Overrides(Struct):
    """What the command line sets, and which of it has met something.

    Attributes:
        names: `-D` by whole name, and `-P` package parameters.
        tasks: `-P` task parameters: task name to parameter to value.
        from_files: names of `names` that `-P` sets.
        aliases: what the root package calls others: name of a package to its aliases.
        used: names of `names` that were met, and `task.param` of `tasks`.
        tasks_replaced: `--override`: task name to the task in its place.
    """

    names: dict[str, object] = field(default_factory=dict)
    tasks: dict[str, dict[str, object]] = field(default_factory=dict)
    from_files: set[str] = field(default_factory=set)
    aliases: dict[str, list[str]] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    tasks_replaced: dict[str, str] = field(default_factory=dict)

    def option(self, name: str) -> str:
        """Return the option that sets a value of `names`, for a person."""
        return f"-P {name}" if name in self.from_files else f"-D {name}"

    def name_package(self, package: str, alias: str) -> bool:
        """Let a package be named by an alias too; return whether some name may mean it by that."""
        self.aliases.setdefault(package, []).append(alias)
        return any(name.startswith(f"{alias}.") for name in self.names)

    def of_package(self, package: str, parameter: str, *, is_root: bool) -> tuple[str, object] | None:
        """Return the name and value set for a package parameter, or None."""
        owners = (package, *self.aliases.get(package, ()))
        for name in (*(f"{owner}.{parameter}" for owner in owners), *((parameter,) if is_root else ())):
            if name in self.names:
                self.used.add(name)
                return name, self.names[name]
        return None


def parse_overrides(
    definitions: Iterable[str], parameter_files: Iterable[str], replacements: Iterable[str] = ()
) -> Overrides:
    """Read the values of `-D`, `-P` and `--override`.

    Args:
        definitions: `name=value` each; text is brought to the parameter's declared type later.
        parameter_files: paths of JSON files, or JSON objects themselves:
            `{"package": {name: value}, "tasks": {task: {name: value}}}`.
        replacements: `task=other` each.

    Raises:
        UsageError: one of them is malformed; nothing is guessed.
    """
    overrides = Overrides()
    for source in parameter_files:
        _add_parameters(overrides, _read_parameters(source), source)
    for definition in definitions:
        name, separator, value = definition.partition("=")
        name = name.strip()
        if not separator:
            raise UsageError(f"-D {definition!r} has no `=`", hint="write -D name=value")
        if not name or not all(name.split(".")):
            raise UsageError(
                f"-D {definition!r} names no parameter",
                hint="write -D name=value or -D task.name=value",
            )
        overrides.names[name] = value
        overrides.from_files.discard(name)
    for replacement in replacements:
        task, separator, other = replacement.partition("=")
        if not separator or not task.strip() or not other.strip():
            raise UsageError(f"--override {replacement!r} names no two tasks", hint="write --override task=other")
        overrides.tasks_replaced[task.strip()] = other.strip()
    return overrides


def _read_parameters(source: str) -> object:
    if source.lstrip().startswith("{"):
        text, shown = source, "the JSON of -P"
    else:
        try:
            with open(source, encoding="utf-8") as file:
                text, shown = file.read(), source
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise UsageError(f"-P cannot read {source!r}: {reason}") from None
    try:
        return json.loads(text)
    except ValueError as error:
        raise UsageError(f"{shown} is not JSON: {error}") from None


def _add_parameters(overrides: Overrides, value: object, source: str) -> None:
    if not isinstance(value, Mapping):
        raise UsageError(f"-P {source!r} is not a JSON object")
    unknown = sorted(value.keys() - {"package", "tasks"})
    if unknown:
        raise UsageError(f"-P has the unknown key {unknown[0]!r}", hint="its keys are `package` and `tasks`")
    package, tasks = value.get("package", {}), value.get("tasks", {})
    if not isinstance(package, Mapping) or not isinstance(tasks, Mapping):
        raise UsageError("`package` and `tasks` of -P are JSON objects")
    overrides.names.update(package)
    overrides.from_files.update(package)
    for task, parameters in tasks.items():
        if not isinstance(parameters, Mapping):
            raise UsageError(f"the parameters of task {task!r} in -P are not a JSON object")
        overrides.tasks.setdefault(task, {}).update(parameters)
