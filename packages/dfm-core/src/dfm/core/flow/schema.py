"""The keys of the flow format: one declaration each, read by the decoder and by whoever documents them.

A declaration says what a key may hold, as a JSON Schema; `$ref` leads to the name of one of the DEFINITIONS. The
decoder reads the same keys one by one, since a person needs better words than a schema has; tests hold the two to
the same verdicts.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from dfm.core.flow.model import ControlKind, ParameterType

Shape = Mapping[str, object]
"""A JSON Schema."""


def one(definition: str) -> Shape:
    """Return the shape of one mapping of a definition."""
    return {"$ref": f"#/$defs/{definition}"}


def many(definition: str) -> Shape:
    """Return the shape of a list of a definition; a key without a value is an empty list."""
    return {"type": ["array", "null"], "items": one(definition)}


def either(*shapes: Shape) -> Shape:
    """Return the shape of what has one of several."""
    return {"anyOf": list(shapes)}


def word_of(*choices: str) -> Shape:
    """Return the shape of one of some words."""
    return {"enum": [str(choice) for choice in choices]}


def words(*choices: str) -> Shape:
    """Return the shape of one of some words, or a list of them."""
    return either(word_of(*choices), {"type": ["array", "null"], "items": word_of(*choices)})


ANYTHING: Shape = {}
NOTHING: Shape = {"type": "null"}
TEXT: Shape = {"type": ["string", "number", "boolean"]}
"""Text as it is written: `desc: 5` is the text 5."""
WORD: Shape = {**TEXT, "minLength": 1}
NAMES: Shape = either(WORD, {"type": ["array", "null"], "items": WORD})
"""A name, or a list of names."""
FLAG: Shape = {"type": "boolean"}
WHOLE: Shape = {"type": "integer"}
CONDITION: Shape = {"type": ["boolean", "integer", "string"]}
TIMES: Shape = {"type": ["integer", "string"], "minimum": 0, "pattern": r"\$\{\{|^\s*[0-9]+\s*$"}
"""A number of times, or an expression that will be one."""
MAPPING: Shape = {"type": "object"}
PATTERNS: Shape = either(MAPPING, {"type": "array", "items": MAPPING})
"""Fields of items with the values that they must have: one such mapping or a list of them."""
FUNCTION = r"^\s*([^\n]+\.py::[A-Za-z_]\w*|[A-Za-z_]\w*(\.[A-Za-z_]\w*)+)\s*$"
"""A Python function: of a file, or of a module."""
HANDLER = r"^\s*([^\n]+\.py::[A-Za-z_]\w*|[A-Za-z_]\w*(\.[A-Za-z_]\w*)*[.:][A-Za-z_]\w*)\s*$"
"""The same, or a function of a module behind a colon."""
AXES: Shape = {"type": "object", "minProperties": 1}


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a mapping in a flow file.

    Attributes:
        shape: what it may hold.
        doc: one line.
    """

    name: str
    shape: Shape
    doc: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """One kind of mapping in a flow file.

    Attributes:
        table: its keys; None where it is described by its shape alone.
        one_of: groups of keys, of each of which there must be at least one.
        rules: what else must hold of such a mapping.
        shape: what may stand there instead of a mapping with the keys of the table.
    """

    doc: str
    table: Mapping[str, Key] | None = None
    one_of: tuple[tuple[str, ...], ...] = ()
    rules: tuple[Shape, ...] = ()
    shape: Shape | None = None


def _table(*keys: Key) -> Mapping[str, Key]:
    return {key.name: key for key in keys}


PACKAGE = _table(
    Key("name", WORD, "name of the package, possibly dotted; prefix of its tasks and types"),
    Key("desc", TEXT, "one line for listings"),
    Key("doc", TEXT, "longer help"),
    Key("with", one("declarations"), "parameters of the package, each a declaration with a type"),
    Key("imports", many("import"), "other packages, by name or by path"),
    Key("fragments", NAMES, "files and directories that hold more of this package"),
    Key("tasks", many("task"), "the tasks"),
    Key("types", many("type"), "types of data items"),
    Key("configs", many("config"), "named variations, chosen with -c"),
    Key("overrides", one("overrides"), "tasks to put in the place of others, by fully qualified name"),
    Key("type", ANYTHING, "accepted for older files, without effect"),
    Key("tags", one("tags"), "words for people and tools"),
    Key("package-map", NAMES, "files that map package names to flow files"),
    Key("filters", many("filter"), "named filters for expressions"),
    Key("uses", TEXT, "base package"),
)

FRAGMENT = _table(
    Key("name", WORD, "name of the fragment; prefix of its tasks inside the package"),
    Key("desc", TEXT, "one line for listings"),
    Key("doc", TEXT, "longer help"),
    Key("imports", many("import"), "other packages, by name or by path"),
    Key("fragments", NAMES, "more fragments, relative to this file"),
    Key("tasks", many("task"), "the tasks"),
    Key("types", many("type"), "types of data items"),
    Key("configs", many("config"), "named variations"),
    Key("filters", many("filter"), "named filters for expressions"),
    Key("with", one("declarations"), "parameters of the fragment"),
)

TASK = _table(
    Key("name", WORD, "the task's name"),
    Key("root", WORD, "name of a task that `dfm run` lists"),
    Key("export", WORD, "name of a task meant for other packages"),
    Key("local", WORD, "name of a task meant for this package only"),
    Key("scope", words("root", "export", "local"), "root, export, local, or a list of them"),
    Key("uses", TEXT, "base task or type"),
    Key("needs", NAMES, "tasks that must end before, and whose items this one receives"),
    Key("feeds", NAMES, "tasks that shall need this one"),
    Key("with", one("parameters"), "parameters: assignments and declarations"),
    Key("consumes", either(word_of("none", "all"), PATTERNS), "none, all, or patterns of the items it takes in"),
    Key(
        "passthrough",
        either(word_of("none", "all", "unused"), PATTERNS),
        "none, all, unused, or patterns of the items it hands on",
    ),
    Key("produces", either(PATTERNS, NOTHING), "patterns of the items it makes"),
    Key("run", TEXT, "script, or reference to a Python function"),
    Key("shell", WORD, "what runs the script: bash, sh, csh, pytask and others"),
    Key("pytask", TEXT, "older spelling of `shell: pytask` with `run`"),
    Key("body", many("task"), "sub-tasks of a compound task"),
    Key("tasks", many("task"), "the same as body"),
    Key("rundir", word_of("unique", "inherit"), "unique or inherit"),
    Key("iff", CONDITION, "condition under which the task does anything"),
    Key(
        "uptodate",
        {"type": ["boolean", "string", "null"], "pattern": FUNCTION},
        "false: always run; or a Python function that decides whether the last result stands",
    ),
    Key("strategy", one("strategy"), "matrix: a copy of the body for each combination of values"),
    Key("tags", one("tags"), "words and resource tags"),
    Key("tools", NAMES, "commands whose identity counts for being up to date"),
    Key("env", NAMES, "environment variables whose values count for being up to date"),
    Key("desc", TEXT, "one line for listings"),
    Key("doc", TEXT, "longer help"),
    Key("override", TEXT, "name of a task of the base package to replace"),
    Key("cache", one("cache"), "true: results are kept in DV_FLOW_CACHE and taken from there"),
    Key("template", FLAG, "run text is left to the tasks derived from it"),
    Key("control", one("control"), "if, match, while, do-while, repeat"),
    Key("max_failures", WHOLE, "how many sub-tasks may fail"),
    Key("on_error", {"type": "string", "pattern": HANDLER}, "function that sums up the failures of sub-tasks"),
)

CACHE = _table(
    Key("enabled", FLAG, "whether results are kept and reused"),
    Key("hash", ANYTHING, "more values that decide about a result"),
    Key("compression", either(FLAG, word_of("no", "yes", "gzip", "bzip2")), "no, yes, gzip or bzip2"),
)

STRATEGY = _table(
    Key("matrix", AXES, "axes: name to list of values"),
    Key("body", many("task"), "sub-tasks, as in the task's own body"),
    Key("generate", either(TEXT, one("generate")), "code that makes the sub-tasks when the task's turn comes"),
    Key("chain", FLAG, "true: each sub-task needs the one before"),
)

GENERATE = _table(
    Key("run", TEXT, "Python, or a script that prints tasks as YAML"),
    Key("shell", WORD, "what runs it; pytask where it is not given"),
)

CONTROL = _table(
    Key("type", word_of(*ControlKind), "if, match, while, do-while or repeat"),
    Key("cond", ANYTHING, "if, while: the body runs where this holds"),
    Key("else", many("task"), "if: sub-tasks to run where the condition does not hold"),
    Key("cases", many("case"), "match: the first case that holds is run"),
    Key("until", ANYTHING, "do-while, repeat: the loop ends once this holds"),
    Key("count", TIMES, "repeat: how often the body runs at most"),
    Key("max_iter", TIMES, "while, do-while: how often the body runs at most"),
    Key("state", one("state"), "loops: values carried from one iteration to the next"),
)

CASE = _table(
    Key("when", ANYTHING, "the body runs where this holds"),
    Key("default", FLAG, "true: the body runs where no case before it held"),
    Key("body", many("task"), "sub-tasks of the case"),
)

STATE = _table(
    Key("type", TEXT, "type whose fields the state begins with"),
    Key("init", either(MAPPING, NOTHING), "values the state begins with"),
    Key(
        "feedback",
        ANYTHING,
        "fields of the items an iteration makes that go into the state; all of them where not given",
    ),
)

FILTER = _table(
    Key("name", WORD, "name of the filter"),
    Key("local", either(FLAG, WORD), "name of a filter that only this package sees, or true beside `name`"),
    Key("export", FLAG, "true: packages that import this one may use it"),
    Key("scope", NAMES, "root, export, local, or names of packages that may use it"),
    Key("with", NAMES, "names of its arguments, also `$arg0`, `$arg1` ..."),
    Key("expr", TEXT, "expression over `input`"),
    Key("run", TEXT, "program that reads JSON and prints JSON"),
    Key("shell", WORD, "what runs it: bash, sh or python"),
    Key("desc", TEXT, "one line for listings"),
    Key("doc", TEXT, "longer help"),
)

OVERRIDE = _table(
    Key("task", TEXT, "the task to replace"),
    Key("override", TEXT, "older spelling of `task`"),
    Key("package", TEXT, "the package whose tasks are replaced by those of another"),
    Key("with", one("replacement"), "the task or package to put there, or a task written out"),
)

PACKAGE_MAP = _table(
    Key("packages", many("package-map-entry"), "list of packages with their flow files"),
)

PACKAGE_MAP_ENTRY = _table(
    Key("name", WORD, "name of the package"),
    Key("path", TEXT, "its flow file or directory, relative to the map"),
)

DECLARATION = _table(
    Key("type", one("parameter-type"), "str, int, float, bool, list or map"),
    Key("value", ANYTHING, "the default"),
    Key("append", ANYTHING, "list to put behind the inherited one"),
    Key("prepend", ANYTHING, "list to put before the inherited one"),
    Key("doc", TEXT, "help"),
    Key("desc", TEXT, "help"),
    Key("path-append", ANYTHING, "path to put behind the inherited one"),
    Key("path-prepend", ANYTHING, "path to put before the inherited one"),
)

TYPE = _table(
    Key("name", WORD, "the type's name"),
    Key("uses", TEXT, "base type"),
    Key("with", one("parameters"), "fields, each a declaration with a type"),
    Key("tags", one("tags"), "words for people and tools"),
    Key("desc", TEXT, "one line for listings"),
    Key("doc", TEXT, "longer help"),
)

IMPORT = _table(
    Key("from", TEXT, "path of the flow file or its directory"),
    Key("name", TEXT, "name the package must have"),
    Key("as", WORD, "name by which this package calls it"),
    Key("with", one("parameters"), "parameters of the imported package"),
    Key("config", TEXT, "configuration of the imported package"),
)

CONFIG = _table(
    Key("name", WORD, "what -c takes"),
    Key("uses", TEXT, "configuration this one starts from"),
    Key("with", one("parameters"), "values of package parameters"),
    Key("extensions", many("extension"), "parameters and needs added to tasks"),
    Key("desc", TEXT, "one line for listings"),
    Key("doc", TEXT, "longer help"),
    Key("overrides", one("overrides"), "tasks to put in the place of others"),
    Key("imports", many("import"), "more packages"),
    Key("fragments", NAMES, "more fragments"),
    Key("tasks", many("task"), "more tasks"),
    Key("types", many("type"), "more types"),
)

EXTENSION = _table(
    Key("task", TEXT, "the task to extend"),
    Key("uses", TEXT, "another base for the task, or `<config>.<task>`: an extension to start from"),
    Key("with", one("parameters"), "parameters to set"),
    Key("needs", NAMES, "needs to add"),
)


CONTROL_KEYS: Mapping[ControlKind, tuple[tuple[str, ...], tuple[str, ...]]] = {
    ControlKind.IF: (("cond",), ("else",)),
    ControlKind.MATCH: (("cases",), ()),
    ControlKind.WHILE: (("cond", "max_iter"), ("state",)),
    ControlKind.DO_WHILE: (("until", "max_iter"), ("state",)),
    ControlKind.REPEAT: (("count",), ("until", "state")),
}
"""Keys that a kind of control needs, and those that it may have besides."""

OPERATIONS = ("value", "prepend", "append", "path-prepend", "path-append")
DECLARATION_KEYS = frozenset({"type", *OPERATIONS})
"""A mapping with one of these keys says something about a parameter; any other mapping is its value."""

_PARAMETER: Shape = {
    "if": {"type": "object", "anyOf": [{"required": [key]} for key in sorted(DECLARATION_KEYS)]},
    "then": one("declaration"),
}
_CONTROL_RULES: tuple[Shape, ...] = tuple(
    {
        "if": {"properties": {"type": {"const": str(kind)}}},
        "then": {"required": list(needed), "propertyNames": {"enum": ["type", *needed, *allowed]}},
    }
    for kind, (needed, allowed) in CONTROL_KEYS.items()
)
_TAG: Shape = either(
    {"type": "string", "minLength": 1},
    {
        "type": "object",
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": {"type": ["object", "null"]},
    },
)

DEFINITIONS: Mapping[str, Definition] = {
    "package": Definition(doc="a package", table=PACKAGE, one_of=(("name",),)),
    "fragment": Definition(doc="a part of a package in a file of its own", table=FRAGMENT),
    "task": Definition(doc="a task", table=TASK, one_of=(("name", "root", "export", "local", "override"),)),
    "cache": Definition(doc="whether and how results are kept", table=CACHE, shape={"type": ["boolean", "null"]}),
    "replacement": Definition(
        doc="the name of a task or package, or a task written out, which needs no name", table=TASK, shape=TEXT
    ),
    "strategy": Definition(
        doc="how the sub-tasks of a task come to be", table=STRATEGY, one_of=(("matrix", "generate", "chain"),)
    ),
    "generate": Definition(doc="code that makes sub-tasks", table=GENERATE, one_of=(("run",),)),
    "control": Definition(
        doc="when and how often the sub-tasks run", table=CONTROL, one_of=(("type",),), rules=_CONTROL_RULES
    ),
    "case": Definition(doc="a case of `match`", table=CASE, one_of=(("when", "default"),)),
    "state": Definition(doc="the values a loop carries", table=STATE),
    "filter": Definition(doc="a filter for expressions", table=FILTER, one_of=(("name", "local"), ("expr", "run"))),
    "override": Definition(
        doc="what stands in the place of what",
        table=OVERRIDE,
        one_of=(("with",),),
        rules=({"oneOf": [{"required": [key]} for key in ("task", "override", "package")]},),
    ),
    "overrides": Definition(
        doc="overrides: a mapping of tasks to what stands in their place, or a list",
        shape=either(
            {"type": "object", "additionalProperties": one("replacement")},
            {"type": ["array", "null"], "items": one("override")},
        ),
    ),
    "declaration": Definition(doc="what is said about a parameter", table=DECLARATION),
    "declarations": Definition(
        doc="parameters, each declared with a type",
        shape={
            "type": ["object", "null"],
            "additionalProperties": {"allOf": [one("declaration"), {"required": ["type"]}]},
        },
    ),
    "parameters": Definition(
        doc="parameters: their values, or declarations",
        shape={"type": ["object", "null"], "additionalProperties": _PARAMETER},
    ),
    "parameter-type": Definition(
        doc="type of a parameter",
        shape=either(
            word_of(*ParameterType),
            *(
                {"type": "object", "required": [outer], "maxProperties": 1}
                for outer in (str(ParameterType.LIST), str(ParameterType.MAP))
            ),
        ),
    ),
    "type": Definition(doc="a type of data items", table=TYPE, one_of=(("name",),)),
    "import": Definition(
        doc="another package: its name, its path, or a mapping", table=IMPORT, one_of=(("from", "name"),), shape=WORD
    ),
    "config": Definition(doc="a variation of a package, chosen with -c", table=CONFIG, one_of=(("name",),)),
    "extension": Definition(doc="what a configuration adds to a task", table=EXTENSION, one_of=(("task",),)),
    "tags": Definition(doc="tags", shape=either(_TAG, {"type": ["array", "null"], "items": _TAG})),
    "package-map": Definition(doc="a package map", table=PACKAGE_MAP),
    "package-map-entry": Definition(doc="a package of a map", table=PACKAGE_MAP_ENTRY, one_of=(("name",), ("path",))),
}
"""By the name that `$ref` leads to."""
