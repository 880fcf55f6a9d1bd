"""The keys of the flow format: one declaration each, read by the decoder and by whoever documents them.

A key that is part of the format but not yet of this version is declared with `is_supported=False`: using it is an error
that says so, never silence.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a mapping in a flow file."""

    name: str
    doc: str
    is_supported: bool = True


def _table(*keys: Key) -> Mapping[str, Key]:
    return {key.name: key for key in keys}


def _later(name: str, doc: str) -> Key:
    return Key(name, doc, is_supported=False)


PACKAGE = _table(
    Key("name", "name of the package, possibly dotted; prefix of its tasks and types"),
    Key("desc", "one line for listings"),
    Key("doc", "longer help"),
    Key("with", "parameters of the package, each a declaration with a type"),
    Key("imports", "other packages, by path"),
    Key("fragments", "files and directories that hold more of this package"),
    Key("tasks", "the tasks"),
    Key("types", "types of data items"),
    Key("configs", "named variations, chosen with -c"),
    _later("overrides", "tasks to put in the place of others, by fully qualified name"),
    Key("type", "accepted for older files, without effect"),
    Key("tags", "words for people and tools"),
    _later("package-map", "files that map package names to flow files"),
    _later("filters", "named filters for expressions"),
    _later("uses", "base package"),
)

FRAGMENT = _table(
    Key("name", "name of the fragment; prefix of its tasks inside the package"),
    Key("desc", "one line for listings"),
    Key("doc", "longer help"),
    Key("imports", "other packages, by path"),
    Key("fragments", "more fragments, relative to this file"),
    Key("tasks", "the tasks"),
    Key("types", "types of data items"),
    _later("configs", "named variations"),
    _later("filters", "named filters for expressions"),
    _later("with", "parameters of the fragment"),
)

TASK = _table(
    Key("name", "the task's name"),
    Key("root", "name of a task that `dfm run` lists"),
    Key("export", "name of a task meant for other packages"),
    Key("local", "name of a task meant for this package only"),
    Key("scope", "root, export, local, or a list of them"),
    Key("uses", "base task or type"),
    Key("needs", "tasks that must end before, and whose items this one receives"),
    Key("feeds", "tasks that shall need this one"),
    Key("with", "parameters: assignments and declarations"),
    Key("consumes", "none, all, or patterns of the items it takes in"),
    Key("passthrough", "none, all, unused, or patterns of the items it hands on"),
    Key("produces", "patterns of the items it makes"),
    Key("run", "script, or reference to a Python function"),
    Key("shell", "what runs the script: bash, sh, csh, pytask and others"),
    Key("pytask", "older spelling of `shell: pytask` with `run`"),
    Key("body", "sub-tasks of a compound task"),
    Key("tasks", "the same as body"),
    Key("rundir", "unique or inherit"),
    Key("iff", "condition under which the task does anything"),
    Key("uptodate", "false: always run"),
    Key("strategy", "matrix: a copy of the body for each combination of values"),
    Key("tags", "words and resource tags"),
    Key("tools", "commands whose identity counts for being up to date"),
    Key("env", "environment variables whose values count for being up to date"),
    Key("desc", "one line for listings"),
    Key("doc", "longer help"),
    _later("override", "name of a task of the base package to replace"),
    _later("cache", "store and reuse results"),
    _later("template", "run text is left to the tasks derived from it"),
    _later("control", "if, match, while, do-while, repeat"),
    _later("max_failures", "how many sub-tasks may fail"),
    _later("on_error", "function that sums up the failures of sub-tasks"),
)

STRATEGY = _table(
    Key("matrix", "axes: name to list of values"),
    Key("body", "sub-tasks, as in the task's own body"),
    _later("generate", "Python that makes sub-tasks"),
    _later("chain", "each sub-task needs the one before"),
)

DECLARATION = _table(
    Key("type", "str, int, float, bool, list or map"),
    Key("value", "the default"),
    Key("append", "list to put behind the inherited one"),
    Key("prepend", "list to put before the inherited one"),
    Key("doc", "help"),
    Key("desc", "help"),
    _later("path-append", "path to put behind the inherited one"),
    _later("path-prepend", "path to put before the inherited one"),
)

TYPE = _table(
    Key("name", "the type's name"),
    Key("uses", "base type"),
    Key("with", "fields, each a declaration with a type"),
    Key("tags", "words for people and tools"),
    Key("desc", "one line for listings"),
    Key("doc", "longer help"),
)

IMPORT = _table(
    Key("from", "path of the flow file or its directory"),
    Key("name", "name the package must have"),
    Key("as", "name by which this package calls it"),
    _later("with", "parameters of the imported package"),
    _later("config", "configuration of the imported package"),
)

CONFIG = _table(
    Key("name", "what -c takes"),
    Key("uses", "configuration this one starts from"),
    Key("with", "values of package parameters"),
    Key("extensions", "parameters and needs added to tasks"),
    Key("desc", "one line for listings"),
    Key("doc", "longer help"),
    _later("overrides", "tasks to put in the place of others"),
    _later("imports", "more packages"),
    _later("fragments", "more fragments"),
    _later("tasks", "more tasks"),
    _later("types", "more types"),
)

EXTENSION = _table(
    Key("task", "the task to extend"),
    Key("with", "parameters to set"),
    Key("needs", "needs to add"),
)


def supported(table: Mapping[str, Key]) -> Iterable[str]:
    """Return the names worth suggesting to a person who mistyped a key of `table`."""
    return (key.name for key in table.values() if key.is_supported)
