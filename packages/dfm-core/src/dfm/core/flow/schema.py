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


PACKAGE = _table(
    Key("name", "name of the package, possibly dotted; prefix of its tasks and types"),
    Key("desc", "one line for listings"),
    Key("doc", "longer help"),
    Key("with", "parameters of the package, each a declaration with a type"),
    Key("imports", "other packages, by name or by path"),
    Key("fragments", "files and directories that hold more of this package"),
    Key("tasks", "the tasks"),
    Key("types", "types of data items"),
    Key("configs", "named variations, chosen with -c"),
    Key("overrides", "tasks to put in the place of others, by fully qualified name"),
    Key("type", "accepted for older files, without effect"),
    Key("tags", "words for people and tools"),
    Key("package-map", "files that map package names to flow files"),
    Key("filters", "named filters for expressions"),
    Key("uses", "base package"),
)

FRAGMENT = _table(
    Key("name", "name of the fragment; prefix of its tasks inside the package"),
    Key("desc", "one line for listings"),
    Key("doc", "longer help"),
    Key("imports", "other packages, by name or by path"),
    Key("fragments", "more fragments, relative to this file"),
    Key("tasks", "the tasks"),
    Key("types", "types of data items"),
    Key("configs", "named variations"),
    Key("filters", "named filters for expressions"),
    Key("with", "parameters of the fragment"),
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
    Key("uptodate", "false: always run; or a Python function that decides whether the last result stands"),
    Key("strategy", "matrix: a copy of the body for each combination of values"),
    Key("tags", "words and resource tags"),
    Key("tools", "commands whose identity counts for being up to date"),
    Key("env", "environment variables whose values count for being up to date"),
    Key("desc", "one line for listings"),
    Key("doc", "longer help"),
    Key("override", "name of a task of the base package to replace"),
    Key("cache", "true: results are kept in DV_FLOW_CACHE and taken from there"),
    Key("template", "run text is left to the tasks derived from it"),
    Key("control", "if, match, while, do-while, repeat"),
    Key("max_failures", "how many sub-tasks may fail"),
    Key("on_error", "function that sums up the failures of sub-tasks"),
)

CACHE = _table(
    Key("enabled", "whether results are kept and reused"),
    Key("hash", "more values that decide about a result"),
    Key("compression", "no, yes, gzip or bzip2"),
)

STRATEGY = _table(
    Key("matrix", "axes: name to list of values"),
    Key("body", "sub-tasks, as in the task's own body"),
    Key("generate", "code that makes the sub-tasks when the task's turn comes"),
    Key("chain", "true: each sub-task needs the one before"),
)

GENERATE = _table(
    Key("run", "Python, or a script that prints tasks as YAML"),
    Key("shell", "what runs it; pytask where it is not given"),
)

CONTROL = _table(
    Key("type", "if, match, while, do-while or repeat"),
    Key("cond", "if, while: the body runs where this holds"),
    Key("else", "if: sub-tasks to run where the condition does not hold"),
    Key("cases", "match: the first case that holds is run"),
    Key("until", "do-while, repeat: the loop ends once this holds"),
    Key("count", "repeat: how often the body runs at most"),
    Key("max_iter", "while, do-while: how often the body runs at most"),
    Key("state", "loops: values carried from one iteration to the next"),
)

CASE = _table(
    Key("when", "the body runs where this holds"),
    Key("default", "true: the body runs where no case before it held"),
    Key("body", "sub-tasks of the case"),
)

STATE = _table(
    Key("type", "type whose fields the state begins with"),
    Key("init", "values the state begins with"),
    Key("feedback", "fields of the items an iteration makes that go into the state; all of them where not given"),
)

FILTER = _table(
    Key("name", "name of the filter"),
    Key("local", "name of a filter that only this package sees, or true beside `name`"),
    Key("export", "true: packages that import this one may use it"),
    Key("scope", "root, export, local, or names of packages that may use it"),
    Key("with", "names of its arguments, also `$arg0`, `$arg1` ..."),
    Key("expr", "expression over `input`"),
    Key("run", "program that reads JSON and prints JSON"),
    Key("shell", "what runs it: bash, sh or python"),
    Key("desc", "one line for listings"),
    Key("doc", "longer help"),
)

OVERRIDE = _table(
    Key("task", "the task to replace"),
    Key("override", "older spelling of `task`"),
    Key("package", "the package whose tasks are replaced by those of another"),
    Key("with", "the task or package to put there, or a task written out"),
)

PACKAGE_MAP = _table(
    Key("packages", "list of packages with their flow files"),
)

PACKAGE_MAP_ENTRY = _table(
    Key("name", "name of the package"),
    Key("path", "its flow file or directory, relative to the map"),
)

DECLARATION = _table(
    Key("type", "str, int, float, bool, list or map"),
    Key("value", "the default"),
    Key("append", "list to put behind the inherited one"),
    Key("prepend", "list to put before the inherited one"),
    Key("doc", "help"),
    Key("desc", "help"),
    Key("path-append", "path to put behind the inherited one"),
    Key("path-prepend", "path to put before the inherited one"),
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
    Key("with", "parameters of the imported package"),
    Key("config", "configuration of the imported package"),
)

CONFIG = _table(
    Key("name", "what -c takes"),
    Key("uses", "configuration this one starts from"),
    Key("with", "values of package parameters"),
    Key("extensions", "parameters and needs added to tasks"),
    Key("desc", "one line for listings"),
    Key("doc", "longer help"),
    Key("overrides", "tasks to put in the place of others"),
    Key("imports", "more packages"),
    Key("fragments", "more fragments"),
    Key("tasks", "more tasks"),
    Key("types", "more types"),
)

EXTENSION = _table(
    Key("task", "the task to extend"),
    Key("uses", "another base for the task, or `<config>.<task>`: an extension to start from"),
    Key("with", "parameters to set"),
    Key("needs", "needs to add"),
)


def supported(table: Mapping[str, Key]) -> Iterable[str]:
    """Return the names worth suggesting to a person who mistyped a key of `table`."""
    return (key.name for key in table.values() if key.is_supported)
