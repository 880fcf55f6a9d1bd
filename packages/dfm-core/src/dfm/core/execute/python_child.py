"""A Python body, inside the process that was made for it: load the code, call the function, write the result down.

The text of an inline body is either a module with one function that takes (ctxt, input), or the body of such a
function, in which `return` and `await` may stand.
"""

import ast
import asyncio
import importlib
import importlib.util
import inspect
import json
import os
import sys
import textwrap
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import dfm.api
from dfm.api.items import item_from_mapping
from dfm.api.runner import PythonBody, PythonCall, PythonSource, TaskRequest
from dfm.api.task import Marker, MarkerLocation, Params, Severity, TaskInput, TaskOutput
from dfm.core.execute.context import ChildContext, mapping_of, marker_like, plain
from dfm.core.execute.questions import Questioner
from dfm.core.suggest import did_you_mean

Function = Callable[..., Any]


class BodyError(Exception):
    """The code of a task cannot be used; the text is for the task's author."""


def run_python_body(request: TaskRequest, result_path: str, question_fd: int) -> int:
    """Run the body and write its result to `result_path`; return the exit status of the process, 0 for a result.

    Args:
        request: what to run.
        result_path: absolute.
        question_fd: a socket that takes questions to the run.
    """
    context = ChildContext(request, Questioner(question_fd))
    try:
        output = _call(request, context)
        result = _result(_read_as(request, output, context), context)
    except BodyError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201  (the task's log is this process's stderr)
        result = _failure(context, str(error), None)
    except SystemExit as stop:
        result = _exit(context, stop)
    except BaseException as error:  # noqa: BLE001  (whatever the user's code raises is the task's result)
        result = _raised(context, error)
    temporary = f"{result_path}.tmp"
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(result, file)
    os.replace(temporary, result_path)
    return 0


def _call(request: TaskRequest, context: ChildContext) -> object:
    body = request.body
    assert isinstance(body, PythonBody)
    function = _load(body, request.srcdir)
    task_input = TaskInput(
        name=request.task,
        srcdir=request.srcdir,
        rundir=request.rundir,
        params=Params(request.params),
        inputs=[item_from_mapping(item) for item in request.inputs],
        memento=request.memento,
        changed=request.changed,
    )
    given = (task_input,) if body.call is PythonCall.UPTODATE else (context, task_input)
    if inspect.iscoroutinefunction(function):
        return asyncio.run(function(*given))
    result = function(*given)
    return asyncio.run(_awaited(result)) if inspect.isawaitable(result) else result


def _read_as(request: TaskRequest, output: object, context: ChildContext) -> object:
    """Return a function's answer as the output of a task, by what the function is."""
    assert isinstance(request.body, PythonBody)
    match request.body.call:
        case PythonCall.TASK:
            return output
        case PythonCall.GENERATE:
            items = [
                context.make_item(
                    "std.TaskRunSpec",
                    task_type=task.type,
                    task_name=task.name,
                    params=dict(task.params),
                    needs=list(task.needs),
                )
                for task in context.tasks.values()
            ]
            return TaskOutput(output=items)
        case PythonCall.UPTODATE:
            return TaskOutput(memento=bool(output))


async def _awaited(value: Any) -> object:  # noqa: ANN401  (any awaitable)
    return await value


def _load(body: PythonBody, srcdir: str) -> Function:
    match body.source:
        case PythonSource.INLINE:
            return _inline(body)
        case PythonSource.FILE:
            return _named(_module_of_file(body.text), body.function, body.text)
        case PythonSource.MODULE:
            sys.path.insert(0, srcdir)
            try:
                module = importlib.import_module(body.text)
            except ModuleNotFoundError as error:
                raise BodyError(f"cannot import {body.text!r}: {error}") from error
            return _named(vars(module), body.function, body.text)


def _module_of_file(path: str) -> Mapping[str, Any]:
    if not os.path.isfile(path):
        directory = os.path.dirname(path)
        near = os.listdir(directory) if os.path.isdir(directory) else []
        hint = did_you_mean(os.path.basename(path), near)
        raise BodyError(f"there is no file {path}" + (f"; {hint}" if hint else ""))
    sys.path.insert(0, os.path.dirname(path))
    name = os.path.basename(path).removesuffix(".py")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return vars(module)


def _named(names: Mapping[str, Any], function: str, where: str) -> Function:
    found = names.get(function)
    if callable(found):
        return found  # type: ignore[no-any-return]  # a user's function
    own = names.get("__name__")
    functions = [name for name, value in names.items() if inspect.isfunction(value) and value.__module__ == own]
    hint = did_you_mean(function, functions) or f"it has: {', '.join(sorted(functions)) or 'no functions'}"
    raise BodyError(f"there is no function {function!r} in {where}; {hint}")


def _inline(body: PythonBody) -> Function:
    text = textwrap.dedent(body.text)
    filename = f"<run of {body.location}>"
    names: dict[str, Any] = {name: getattr(dfm.api, name) for name in dfm.api.__all__}
    names |= {"__name__": "dfm_task", "__file__": filename, "os": os}
    candidate = _only_function(text)
    if candidate is not None:
        exec(compile(text, filename, "exec"), names)  # noqa: S102  (the user's own task)
        return names[candidate]  # type: ignore[no-any-return]
    wrapped = "async def task(ctxt, input):\n" + textwrap.indent(text, "    ", lambda _: True) + "\n    pass\n"
    try:
        tree = ast.parse(wrapped, filename)
    except SyntaxError as error:
        raise BodyError(f"{body.location}: line {max(1, (error.lineno or 1) - 1)} of `run`: {error.msg}") from error
    ast.increment_lineno(tree, -1)
    tree.body[0].lineno = 1
    exec(compile(tree, filename, "exec"), names)  # noqa: S102  (the user's own task)
    return names["task"]  # type: ignore[no-any-return]


def _only_function(text: str) -> str | None:
    """Return the name of the one function in a module text that takes (ctxt, input), None where there is none."""
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return None
    found = [
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and [argument.arg for argument in node.args.args[:2]] == ["ctxt", "input"]
    ]
    return found[0].name if len(found) == 1 else None


def _result(output: object, context: ChildContext) -> dict[str, Any]:
    output = _task_output(output)
    items = []
    for number, item in enumerate(output.output):
        try:
            items.append(plain(mapping_of(item)))
        except (TypeError, ValueError, AttributeError) as error:
            raise BodyError(f"item {number} of the output cannot be handed on: {error}") from error
    try:
        memento = plain(mapping_of(output.memento))
    except (TypeError, ValueError) as error:
        raise BodyError(f"the memento cannot be kept: {error}") from error
    cause = None if output.status == 0 else f"the task returned status {output.status}"
    return _mapping(
        context,
        output.status,
        cause,
        items=items,
        memento=memento,
        changed=output.changed,
        markers=[*context.markers, *map(marker_like, output.markers)],
    )


def _task_output(output: object) -> TaskOutput:
    """Return a function's result; one of a class that only looks like ours is taken for what it says."""
    if output is None:
        return TaskOutput()
    if isinstance(output, TaskOutput):
        return output
    if not hasattr(output, "status") or not hasattr(output, "output"):
        raise BodyError(f"a task returns a TaskOutput or None, not {type(output).__name__}")
    return TaskOutput(
        status=int(output.status),
        output=list(output.output or ()),
        memento=getattr(output, "memento", None),
        markers=list(getattr(output, "markers", None) or ()),
        changed=bool(getattr(output, "changed", True)),
    )


def _failure(context: ChildContext, cause: str, location: MarkerLocation | None) -> dict[str, Any]:
    markers = [*context.markers, Marker(Severity.ERROR, cause, location)]
    return _mapping(context, 1, cause, markers=markers)


def _exit(context: ChildContext, stop: SystemExit) -> dict[str, Any]:
    status = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    if isinstance(stop.code, str):
        print(stop.code, file=sys.stderr)  # noqa: T201  (the task's log)
    return _mapping(context, status, None if status == 0 else f"exit status {status}", markers=context.markers)


def _raised(context: ChildContext, error: BaseException) -> dict[str, Any]:
    frames = traceback.extract_tb(error.__traceback__)
    own = os.path.dirname(os.path.dirname(__file__))
    kept = [
        frame
        for frame in frames
        if not frame.filename.startswith((own, "<frozen")) and f"{os.sep}asyncio{os.sep}" not in frame.filename
    ]
    lines = [
        "Traceback (most recent call last):\n",
        *traceback.format_list(kept),
        *traceback.format_exception_only(error),
    ]
    print("".join(lines), end="", file=sys.stderr)  # noqa: T201  (the task's log)
    is_in_a_file = bool(kept) and not kept[-1].filename.startswith("<")
    location = MarkerLocation(kept[-1].filename, kept[-1].lineno or 0) if is_in_a_file else None
    text = str(error).partition("\n")[0]
    return _failure(context, f"{type(error).__name__}: {text}" if text else type(error).__name__, location)


def _mapping(
    context: ChildContext,
    status: int,
    error: str | None,
    *,
    markers: list[Marker],
    items: list[Any] | None = None,
    memento: object = None,
    changed: bool = True,
) -> dict[str, Any]:
    return {
        "status": status,
        "error": error,
        "changed": changed,
        "output": items or [],
        "memento": memento,
        "markers": [_marker(marker) for marker in markers],
        "commands": [{"cmd": command.cmd, "status": command.status} for command in context.commands],
    }


def _marker(marker: Marker) -> dict[str, Any]:
    loc = None if marker.loc is None else {"path": marker.loc.path, "line": marker.loc.line, "pos": marker.loc.pos}
    return {"severity": str(marker.severity), "msg": marker.msg, "loc": loc}
