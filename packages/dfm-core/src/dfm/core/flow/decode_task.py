"""Tasks of a flow file, key by key."""

import re
from collections.abc import Sequence

from dfm.core.flow import schema
from dfm.core.flow.decode_parameters import assignments
from dfm.core.flow.definitions import CaseDefinition, ControlDefinition, TaskDefinition
from dfm.core.flow.diagnostics import Diagnostics, did_you_mean
from dfm.core.flow.keys import KeyReader, is_null
from dfm.core.flow.model import CacheRule, Consumes, ControlKind, Passthrough, Text, Visibility
from dfm.core.flow.source import Mapping as MappingNode
from dfm.core.flow.source import Node, Scalar, place_of
from dfm.core.flow.source import Sequence as SequenceNode
from dfm.core.flow.values import is_boolean_word
from dfm.core.suggest import nearest

GENERATOR_SHELL = "pytask"
_TASK_NAME = re.compile(r"(?!\.)[A-Za-z0-9_.-]{1,128}\Z")
_EXPRESSION = re.compile(r"\$\{\{.*?\}\}")
_FUNCTION = re.compile(r"\s*([^\n]+\.py::[A-Za-z_]\w*|[A-Za-z_]\w*(\.[A-Za-z_]\w*)+)\s*\Z")
_HANDLER = re.compile(r"\s*([^\n]+\.py::[A-Za-z_]\w*|[A-Za-z_]\w*(\.[A-Za-z_]\w*)*[.:][A-Za-z_]\w*)\s*\Z")
_TIMES = re.compile(r"\s*[0-9]+\s*\Z|.*\$\{\{", re.DOTALL)
_COMPRESSIONS = {"no": "no", "yes": "gzip", "gzip": "gzip", "bzip2": "bzip2"}
_OF_ITS_PACKAGE = frozenset({Visibility.PACKAGE})
_NAME_KEYS = ("name", "root", "export", "local")


def decode_task(node: Node, diagnostics: Diagnostics, unnamed: str | None = None) -> TaskDefinition | None:
    """Return what one task says, or None where it has no name.

    Where `unnamed` is given, a task needs no name of its own: that is its name then.
    """
    reader = KeyReader.open(node, schema.TASK, "task", diagnostics)
    if reader is None:
        return None
    name, marker = _task_name(reader, unnamed)
    if name is None:
        return None
    reader.what = f"task {name!r}"
    run, shell = _script(reader)
    strategy = _strategy(reader)
    control = _control(reader)
    always_runs, uptodate = _uptodate(reader)
    body = [key for key in ("body", "tasks") if key in reader.node.entries]
    if len(body) > 1:
        reader.fault(
            "tasks",
            "two-bodies",
            f"{reader.what} has both `body` and `tasks`; they are the same key",
        )
    sub_tasks = reader.each(body[0], decode_task) if body else ()
    if strategy is not None:
        sub_tasks = (*sub_tasks, *strategy.each("body", decode_task))
        if control is not None:
            reader.fault("control", "control-and-strategy", f"{reader.what} has both `control` and `strategy`")
    if sub_tasks and strategy is not None and "generate" in strategy.node.entries:
        hint = "a generator makes all sub-tasks"
        strategy.fault("generate", "generate-and-body", f"{reader.what} has both `generate` and a body", hint=hint)
    if run is not None and sub_tasks:
        reader.fault(
            "pytask" if shell == "pytask" and "run" not in reader.node.entries else "run",
            "run-and-body",
            f"{reader.what} has both `run` and a body; a compound task runs nothing itself",
        )
    return TaskDefinition(
        name=name,
        at=place_of(reader.node),
        visibility=_visibility(reader, marker),
        override=_override(reader),
        uses=reader.text("uses"),
        needs=reader.texts("needs"),
        feeds=reader.texts("feeds"),
        assignments=assignments(reader),
        consumes=_consumes(reader),
        passthrough=_passthrough(reader),
        produces=reader.mappings("produces"),
        run=run,
        shell=shell,
        body=sub_tasks,
        matrix=None if strategy is None else _axes(strategy),
        is_chain=strategy is not None and bool(strategy.flag("chain")),
        generate=None if strategy is None else _generate(strategy),
        control=control,
        max_failures=reader.whole_number("max_failures"),
        on_error=_on_error(reader),
        is_template=_is_template(reader),
        inherits_rundir=reader.choice("rundir", ("unique", "inherit")) == "inherit",
        iff=_condition(reader),
        always_runs=always_runs,
        uptodate=uptodate,
        cache=_cache(reader),
        tags=reader.items("tags"),
        tools=[text.value for text in reader.texts("tools")],
        environment=[text.value for text in reader.texts("env")],
        desc=reader.string("desc"),
        doc=reader.string("doc"),
    )


def _task_name(reader: KeyReader, unnamed: str | None) -> tuple[str | None, Visibility | None]:
    given = [key for key in _NAME_KEYS if key in reader.node.entries]
    if not given and "override" in reader.node.entries:
        given = ["override"]
    if not given and unnamed is None:
        meant = (key for key in reader.node.entries if key not in schema.TASK and nearest(key, schema.TASK) == "name")
        given = list(meant)[:1]  # the key is a fault, and told as one; that names lead to no such task is none
    if not given:
        if unnamed is None:
            reader.diagnostics.error(
                "missing-key",
                "the task has no `name`",
                reader.node,
                hint="one of `name`, `root`, `export`, `local`, `override` names a task",
            )
        return unnamed, None
    if len(given) > 1:
        reader.fault(given[1], "two-names", f"the task is named by both `{given[0]}` and `{given[1]}`")
    name = reader.word(given[0])
    if name is None:
        return None, None
    if given[0] == "override":
        name = name.rpartition(".")[2]
    if not _TASK_NAME.match(_EXPRESSION.sub("x", name)) or ".." in name or name[0] == "-" or name[-1] == ".":
        reader.fault(
            given[0],
            "bad-name",
            f"{name!r} cannot be the name of a task",
            hint="letters, digits, `_`, `-` and single inner dots, 128 characters at most",
        )
        return None, None
    return name, Visibility(given[0]) if given[0] in _NAME_KEYS[1:] else None


def _override(reader: KeyReader) -> Text | None:
    text = reader.text("override")
    if text is not None and reader.node.entries.keys() & {"root", "export", "local"}:
        reader.fault("override", "two-names", f"{reader.what} has both `override` and a name with a scope")
    return text


def _is_template(reader: KeyReader) -> bool:
    is_template = bool(reader.flag("template"))
    if is_template and "override" in reader.node.entries:
        reader.fault("template", "template-and-override", f"{reader.what} is both a template and an override")
    return is_template


def _visibility(reader: KeyReader, marker: Visibility | None) -> frozenset[Visibility]:
    allowed = [str(v) for v in (Visibility.ROOT, Visibility.EXPORT, Visibility.LOCAL)]
    words: set[Visibility] = set() if marker is None else {marker}
    for text in reader.texts("scope"):
        if text.value in allowed:
            words.add(Visibility(text.value))
        else:
            reader.diagnostics.error(
                "bad-value",
                f"`scope` cannot be {text.value!r}",
                text.node,
                hint=did_you_mean(text.value, allowed) or f"one of {', '.join(allowed)}",
            )
    return frozenset(words) if words else _OF_ITS_PACKAGE


def _script(reader: KeyReader) -> tuple[Text | None, str | None]:
    run, shell, pytask = reader.text("run"), reader.word("shell"), reader.text("pytask")
    if pytask is None:
        if shell is not None and run is None and "run" not in reader.node.entries and "uses" not in reader.node.entries:
            reader.fault("shell", "shell-without-run", f"{reader.what} has a `shell` but nothing to `run`")
        return run, shell
    if run is not None:
        reader.fault("pytask", "run-and-pytask", f"{reader.what} has both `run` and `pytask`")
    if shell not in (None, "pytask"):
        reader.fault("shell", "shell-and-pytask", f"{reader.what} has `pytask` and the shell {shell!r}")
    return pytask, "pytask"


def _strategy(reader: KeyReader) -> KeyReader | None:
    entry = reader.node.entries.get("strategy")
    if entry is None:
        return None
    strategy = KeyReader.open(entry.value, schema.STRATEGY, f"`strategy` of {reader.what}", reader.diagnostics)
    if strategy is None:
        return None
    given = [key for key in ("matrix", "generate", "chain") if key in strategy.node.entries]
    if not given:
        hint = "give one of `matrix`, `generate` and `chain`"
        reader.fault("strategy", "missing-key", f"the strategy of {reader.what} says nothing", hint=hint)
    if "generate" in given and len(given) > 1:
        strategy.fault("generate", "two-strategies", f"`generate` does not go together with `{given[0]}`")
    return strategy


def _generate(strategy: KeyReader) -> tuple[Text, str] | None:
    entry = strategy.node.entries.get("generate")
    if entry is None:
        return None
    if isinstance(entry.value, Scalar):
        text = strategy.text("generate")
        return None if text is None else (text, GENERATOR_SHELL)
    reader = KeyReader.open(entry.value, schema.GENERATE, "`generate`", strategy.diagnostics)
    if reader is None:
        return None
    text, shell = reader.text("run"), reader.word("shell") or GENERATOR_SHELL
    if text is None:
        if "run" not in reader.node.entries:
            strategy.diagnostics.error("missing-key", "`generate` has no `run`", entry.value)
        return None
    return text, GENERATOR_SHELL if shell in ("python", "python3") else shell


def _control(reader: KeyReader) -> ControlDefinition | None:
    entry = reader.node.entries.get("control")
    if entry is None:
        return None
    control = KeyReader.open(entry.value, schema.CONTROL, f"`control` of {reader.what}", reader.diagnostics)
    if control is None:
        return None
    word = control.choice("type", tuple(str(kind) for kind in ControlKind))
    if word is None:
        if "type" not in control.node.entries:
            reader.diagnostics.error("missing-key", f"the `control` of {reader.what} has no `type`", control.node)
        return None
    kind = ControlKind(word)
    needed, allowed = schema.CONTROL_KEYS[kind]
    for key in needed:
        if key not in control.node.entries:
            control.diagnostics.error("missing-key", f"a `control` of type {kind} needs `{key}`", control.node)
    for key in control.node.entries:
        if key in schema.CONTROL and key not in ("type", *needed, *allowed):
            control.diagnostics.error(
                "misplaced-key", f"`{key}` has no meaning in a `control` of type {kind}", control.node.entries[key].key
            )
    state = _state(control)
    return ControlDefinition(
        kind=kind,
        at=control.node,
        condition=_as_condition(control.value("cond") or control.value("until")),
        cases=_cases(control, kind),
        limit=_times(control, "max_iter") or _times(control, "count"),
        state_type=None if state is None else state.text("type"),
        init=_mapping(state, "init"),
        feedback=None if state is None else state.value("feedback"),
    )


def _times(control: KeyReader, key: str) -> Node | None:
    value = control.value(key)
    if value is None or (isinstance(value, Scalar) and _TIMES.match(value.text)):
        return value
    control.wrong(key, "a whole number, 0 or more, or an expression")
    return None


def _cases(control: KeyReader, kind: ControlKind) -> Sequence[CaseDefinition]:
    if kind is ControlKind.IF:
        otherwise = control.each("else", decode_task)
        return [CaseDefinition(condition=None, body=otherwise)] if otherwise else ()
    return control.each("cases", _case)


def _case(node: Node, diagnostics: Diagnostics) -> CaseDefinition | None:
    reader = KeyReader.open(node, schema.CASE, "case", diagnostics)
    if reader is None:
        return None
    is_default, condition = reader.flag("default"), _as_condition(reader.value("when"))
    if (condition is None) != bool(is_default):
        diagnostics.error("bad-case", "a case has either `when` or `default: true`", node)
    return CaseDefinition(condition=condition, body=reader.each("body", decode_task))


def _state(control: KeyReader) -> KeyReader | None:
    value = control.value("state")
    return None if value is None else KeyReader.open(value, schema.STATE, "`state`", control.diagnostics)


def _mapping(reader: KeyReader | None, key: str) -> MappingNode | None:
    value = None if reader is None else reader.value(key)
    if reader is None or value is None or is_null(value):
        return None
    if isinstance(value, MappingNode):
        return value
    reader.wrong(key, "a mapping")
    return None


def _axes(strategy: KeyReader) -> MappingNode | None:
    entry = strategy.node.entries.get("matrix")
    if entry is None:
        return None
    if not isinstance(entry.value, MappingNode):
        strategy.wrong("matrix", "a mapping of names to lists")
        return None
    if not entry.value.entries:
        strategy.fault("matrix", "empty-matrix", "the matrix has no axes")
    return entry.value


def _condition(reader: KeyReader) -> Node | None:
    entry = reader.node.entries.get("iff")
    if entry is None:
        return None
    if isinstance(entry.value, Scalar) and isinstance(entry.value.value, bool | str | int):
        return _as_condition(entry.value)
    reader.wrong("iff", "true, false or an expression")
    return None


def _as_condition(node: Node | None) -> Node | None:
    """Return a condition; one that is an expression without its `${{ }}`, such as `n > 5`, gets them."""
    if not isinstance(node, Scalar) or not isinstance(node.value, str):
        return node
    text = node.value
    if "${{" in text or is_boolean_word(text):
        return node
    return Scalar(node.file, node.line, node.column, f"${{{{ {text} }}}}", text, node.style)


def _uptodate(reader: KeyReader) -> tuple[bool | None, Text | None]:
    """Return whether the task always runs, and the function that decides whether its last result stands."""
    entry = reader.node.entries.get("uptodate")
    if entry is None or is_null(entry.value):
        return None, None
    if isinstance(entry.value, Scalar) and isinstance(entry.value.value, bool):
        return not entry.value.value, None
    text = reader.text("uptodate") if isinstance(entry.value, Scalar) else None
    if text is None or not _FUNCTION.match(text.value):
        reader.wrong("uptodate", "false, `module.function` or `file.py::function`")
        return None, None
    return False, text


def _on_error(reader: KeyReader) -> Text | None:
    text = reader.text("on_error")
    if text is None or _HANDLER.match(text.value):
        return text
    reader.fault(
        "on_error",
        "bad-value",
        f"`on_error` of {reader.what} cannot be {text.value!r}",
        hint="`module:function`, `module.function` or `file.py::function`",
    )
    return None


def _cache(reader: KeyReader) -> CacheRule | None:
    entry = reader.node.entries.get("cache")
    if entry is None or is_null(entry.value):
        return None
    if isinstance(entry.value, Scalar):
        is_enabled = reader.flag("cache")
        return None if is_enabled is None else CacheRule(is_enabled=is_enabled)
    cache = KeyReader.open(entry.value, schema.CACHE, f"`cache` of {reader.what}", reader.diagnostics)
    if cache is None:
        return None
    is_enabled = cache.flag("enabled")
    return CacheRule(
        is_enabled=is_enabled is not False,
        hash=tuple(cache.items("hash")),
        compression=_COMPRESSIONS.get(_compression(cache), "no"),
    )


def _compression(cache: KeyReader) -> str:
    entry = cache.node.entries.get("compression")
    if entry is not None and isinstance(entry.value, Scalar) and isinstance(entry.value.value, bool):
        return "yes" if entry.value.value else "no"
    return cache.choice("compression", tuple(_COMPRESSIONS)) or "no"


def _consumes(reader: KeyReader) -> Consumes | Sequence[MappingNode] | None:
    entry = reader.node.entries.get("consumes")
    if entry is None or isinstance(entry.value, SequenceNode | MappingNode):
        return None if entry is None else reader.mappings("consumes")
    word = reader.choice("consumes", ("none", "all"))
    return None if word is None else Consumes(word)


def _passthrough(reader: KeyReader) -> Passthrough | Sequence[MappingNode] | None:
    entry = reader.node.entries.get("passthrough")
    if entry is None or isinstance(entry.value, SequenceNode | MappingNode):
        return None if entry is None else reader.mappings("passthrough")
    word = reader.choice("passthrough", ("none", "all", "unused"))
    return None if word is None else Passthrough(word)
