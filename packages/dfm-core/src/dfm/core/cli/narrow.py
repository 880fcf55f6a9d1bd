"""Which rows of a list a person asked for: by words, by a pattern, by tags, by what tasks produce."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from dfm.api.errors import UsageError
from dfm.core.cli.describe import Row
from dfm.core.flow.model import Flow, Package, Tag, Task
from dfm.core.suggest import did_you_mean

_SEARCHED = ("name", "desc", "doc")


def by_text(rows: Iterable[Row], searched: Iterable[str], patterns: Iterable[str]) -> list[Row]:
    """Return the rows with all texts in their name or help, in any case, and with matches of all regular expressions.

    Raises:
        UsageError: the regular expression is none.
    """
    found = list(rows)
    for search in searched:
        wanted = search.lower()
        found = [row for row in found if any(wanted in text.lower() for text in _texts(row))]
    for pattern in patterns:
        try:
            expression = re.compile(pattern)
        except re.error as error:
            raise UsageError(f"--regex {pattern!r} is not a regular expression: {error}") from None
        found = [row for row in found if any(expression.search(text) for text in _texts(row))]
    return found


def _texts(row: Row) -> list[str]:
    return [str(row.get(key, "")) for key in _SEARCHED]


def tag_filter(flow: Flow, wanted: Sequence[str]) -> Callable[[Sequence[Tag]], bool]:
    """Return what says whether tags hold all that is wanted: `TYPE`, or `TYPE:field=value`.

    Raises:
        UsageError: a type is unknown, or the words are malformed.
    """
    tests = [_tag_test(flow, text) for text in wanted]
    return lambda tags: all(any(test(tag) for tag in tags) for test in tests)


def _tag_test(flow: Flow, text: str) -> Callable[[Tag], bool]:
    name, separator, condition = text.partition(":")
    field, equals, value = condition.partition("=")
    if separator and not equals:
        raise UsageError(f"--tag {text!r} has no `=`", hint="write --tag TYPE or --tag TYPE:field=value")
    kinds = [kind for kind in flow.types if kind == name or kind.endswith(f".{name}")]
    if not kinds:
        known = [*flow.types, *(kind.rpartition(".")[2] for kind in flow.types)]
        raise UsageError(f"there is no tag type {name!r}", hint=did_you_mean(name, known))

    def holds(tag: Tag) -> bool:
        if not any(kind in (tag.type, *tag.bases) for kind in kinds):
            return False
        return not separator or _same(_field(tag, field), value)

    return holds


def _field(tag: Tag, name: str) -> object:
    from dfm.core.cli.describe import tag_value

    fields = tag_value(tag)["fields"]
    assert isinstance(fields, Mapping)
    return fields.get(name)


def _same(value: object, text: str) -> bool:
    shown = str(value).lower() if isinstance(value, bool) else str(value)
    return value is not None and shown == text


def produced_fields(text: str) -> dict[str, str]:
    """Return the fields of `key=value,key=value`.

    Raises:
        UsageError: it is malformed.
    """
    fields: dict[str, str] = {}
    for part in text.split(","):
        key, separator, value = part.partition("=")
        if not separator or not key.strip():
            raise UsageError(f"--produces {text!r} is not KEY=VALUE[,KEY=VALUE]...")
        fields[key.strip()] = value.strip()
    return fields


def produces(patterns: Iterable[Mapping[str, object]], wanted: Mapping[str, str]) -> bool:
    """Whether one of the patterns has all the fields that are wanted."""
    return any(all(_same(pattern.get(key), value) for key, value in wanted.items()) for pattern in patterns)


def known_package(flow: Flow, name: str) -> str:
    """Return the name of a package that exists.

    Raises:
        UsageError: there is none.
    """
    if name not in flow.packages:
        hint = did_you_mean(name, flow.packages) or f"there are: {', '.join(sorted(flow.packages))}"
        raise UsageError(f"there is no package {name!r}", hint=hint)
    return name


def known_packages(flow: Flow, names: Iterable[str]) -> list[Package]:
    """Return the packages with these names, each once.

    Raises:
        UsageError: there is no such package.
    """
    return [flow.packages[known_package(flow, name)] for name in dict.fromkeys(names)]


def sub_task(task: Task, name: str) -> Task:
    """Return the sub-task with a full name.

    Raises:
        UsageError: the task has none of this name.
    """
    stack = list(task.sub_tasks)
    known = []
    while stack:
        current = stack.pop()
        if current.name == name:
            return current
        known.append(current.name)
        stack.extend(current.sub_tasks)
    raise UsageError(f"there is no task {name!r}", hint=did_you_mean(name, known))
