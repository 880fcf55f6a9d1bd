"""What definitions mention, looked for before anything is resolved, so that each package that is named is read.

Faults are not told here: whoever resolves a name tells them, once all packages are there. The tables of names must not
grow while what is in them is resolved, one after the other: what may name a task or a type has to be looked for here.
"""

from collections.abc import Iterable, Iterator

from dfm.core.expr.errors import ExpressionError
from dfm.core.expr.template import parse_template
from dfm.core.flow.definitions import TaskDefinition
from dfm.core.flow.diagnostics import Diagnostics
from dfm.core.flow.loaded import LoadedPackage, Place
from dfm.core.flow.model import PYTHON_SHELL, Text
from dfm.core.flow.resolve_names import NEEDS_OF, Known, Names
from dfm.core.flow.source import Mapping as MappingNode
from dfm.core.flow.source import Node, Scalar
from dfm.core.flow.source import Sequence as SequenceNode
from dfm.core.flow.values import ValueFault, evaluate_text


def read_all_mentioned(names: Names) -> None:
    """Read every package that something names, until nothing new is named."""
    source = names.source
    scanned: set[str] = set()
    while source.has_more and scanned != set(source.by_name):
        for name, package in list(source.by_name.items()):
            if name not in scanned:
                scanned.add(name)
                _scan(package, names)
        if scanned == set(source.by_name) and source.touch_rest():
            names.take_in()


def _scan(package: LoadedPackage, names: Names) -> None:
    for item in list(package.tasks.values()):
        stack = [item.definition]
        while stack:
            definition = stack.pop()
            for body in definition.bodies:
                stack += body
            _scan_task(definition, item.owner or package, item.place, names)
    for kind in package.types.values():
        texts = [] if kind.definition.uses is None else [kind.definition.uses]
        _scan_texts(texts, package, kind.place, names, names.types)
        _touch_paths(kind.definition.tags, names)
    _touch_paths(package.definition.tags, names)
    texts = [item.target for item in package.overrides]
    texts += [item.replacement for item in package.overrides if isinstance(item.replacement, Text)]
    texts += [extension.task for extension in package.extensions]
    _scan_texts(texts, package, Place(package.name, package.scope.srcdir), names, names.tasks)


def _scan_task(definition: TaskDefinition, package: LoadedPackage, place: Place, names: Names) -> None:
    if _names_tasks_in_code(definition) and names.source.touch_imports(package):
        names.take_in()
    texts = [*definition.needs, *definition.feeds]
    texts += [] if definition.uses is None else [definition.uses]
    _scan_texts(texts, package, place, names, names.either)
    if definition.control is not None and definition.control.state_type is not None:
        _scan_texts([definition.control.state_type], package, place, names, names.types)
    _touch_paths([*definition.expressions, *definition.tags], names)


def _touch_paths(nodes: Iterable[Node], names: Names) -> None:
    for node in nodes:
        for path in _paths(node):
            if names.source.touch_prefix(path):
                names.take_in()


def _names_tasks_in_code(definition: TaskDefinition) -> bool:
    """Whether code of the task may ask for tasks by names that nobody sees while the flow is read."""
    uses = definition.uses
    return (
        definition.generate is not None
        or definition.shell == PYTHON_SHELL
        or (uses is not None and uses.value == "std.RunTasks")
    )


def _scan_texts(texts: Iterable[Text], package: LoadedPackage, place: Place, names: Names, known: Known) -> None:
    for text in texts:
        try:
            value = evaluate_text(text.value, text.node, package.names, Diagnostics())
        except ValueFault:
            continue
        names.find(value.removesuffix(NEEDS_OF), package, place, known)


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
