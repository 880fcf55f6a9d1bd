"""The bodies of the standard library's tasks: a request in, a result out, no process started.

A person's mistake is a failed result with its cause; these functions do not raise for it.
"""

import fnmatch
import glob
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from dfm.api.items import ENV, FILE_SET, Item
from dfm.api.runner import BuiltinBody, Outcome, TaskRequest, TaskResult
from dfm.api.task import Marker, MarkerLocation, Severity

_GLOB = frozenset("*?[")
_SPLIT = frozenset({"incdirs", "defines", "attributes"})
"""Lists that may be given as one text of several words."""

Params = Mapping[str, Any]


class _TaskFault(Exception):  # noqa: N818  (a person's, no error of ours)
    """Why a task fails, for the person who wrote its parameters."""


def run_builtin(request: TaskRequest) -> TaskResult:
    """Run a task of the standard library.

    Raises:
        AssertionError: the request's body names none.
    """
    assert isinstance(request.body, BuiltinBody)
    task = _TASKS[request.body.name]
    try:
        return task(request)
    except _TaskFault as fault:
        return _failed(request, str(fault))
    except OSError as error:
        return _failed(request, f"{error.filename}: {error.strerror}")


def _failed(request: TaskRequest, cause: str) -> TaskResult:
    marker = Marker(Severity.ERROR, cause, MarkerLocation(request.srcdir))
    return TaskResult(outcome=Outcome.FAILED, cause=cause, status=1, markers=[marker])


def _done(*outputs: Item, memento: object = None, text: str = "") -> TaskResult:
    return TaskResult(outcome=Outcome.SUCCEEDED, outputs=outputs, memento=memento, text=text)


def _message(request: TaskRequest) -> TaskResult:
    return _done(text=f"{request.task}: {request.params.get('msg', '')}")


def _file_set(request: TaskRequest) -> TaskResult:
    params = request.params
    base = _base(request)
    excluded = _words(params, "exclude")
    files: dict[str, None] = {}
    for pattern in _words(params, "include"):
        found = sorted(glob.glob(os.path.join(glob.escape(base), pattern), recursive=True))
        files.update(dict.fromkeys(path for path in found if os.path.isfile(path)))
        if not found:
            raise _TaskFault(f"no file matches {pattern!r} in {base}{_near(base, pattern)}")
    kept = [_named(os.path.relpath(path, base)) for path in files if not _is_excluded(path, base, excluded)]
    return _done(
        {
            "type": FILE_SET,
            "filetype": str(params.get("type", "")),
            "basedir": base,
            "files": kept,
            "incdirs": _words(params, "incdirs"),
            "defines": _words(params, "defines"),
            "attributes": _words(params, "attributes"),
        }
    )


def _named(path: str) -> str:
    """Return the name of a file, which items hand on as text."""
    try:
        path.encode()
    except UnicodeEncodeError:
        shown = os.fsencode(path).decode("utf-8", "backslashreplace")
        raise _TaskFault(f"the name of a file is not UTF-8: {shown}; rename or exclude it") from None
    return path


def _base(request: TaskRequest) -> str:
    wanted = str(request.params.get("base") or ".")
    path = os.path.normpath(os.path.join(request.srcdir, wanted))
    if os.path.isdir(path):
        return path
    found = [item for item in glob.glob(path) if os.path.isdir(item)] if _GLOB & set(wanted) else []
    if len(found) == 1:
        return found[0]
    if found:
        raise _TaskFault(f"base {wanted!r} matches {len(found)} directories: {', '.join(sorted(found)[:5])}")
    raise _TaskFault(f"base {wanted!r} is no directory in {request.srcdir}")


def _is_excluded(path: str, base: str, patterns: list[str]) -> bool:
    relative = os.path.relpath(path, base)
    return any(fnmatch.fnmatch(name, pattern) for pattern in patterns for name in (relative, path))


def _near(base: str, pattern: str) -> str:
    """Say what there is, where a pattern without wildcards names nothing."""
    if _GLOB & set(pattern):
        return ""
    directory = os.path.dirname(os.path.join(base, pattern))
    names = sorted(os.listdir(directory)) if os.path.isdir(directory) else []
    return f" (there are: {', '.join(names[:6])})" if names else ""


def _words(params: Params, name: str) -> list[str]:
    value = params.get(name) or []
    if isinstance(value, str):
        return value.split()
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise _TaskFault(f"{name} is a list of strings, not {value!r}")
    is_one_text = len(value) == 1 and name in _SPLIT
    return value[0].split() if is_one_text else list(value)


def _create_file(request: TaskRequest) -> TaskResult:
    name = str(request.params.get("filename", ""))
    content = str(request.params.get("content", ""))
    if not name:
        raise _TaskFault("filename is empty")
    path = os.path.normpath(os.path.join(request.rundir, name))
    if os.path.commonpath([path, request.rundir]) != request.rundir or path == request.rundir:
        raise _TaskFault(f"filename {name!r} leaves the run directory")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if _text_of(path) != content:
        temporary = f"{path}.{os.getpid()}.tmp"
        with open(temporary, "w", encoding="utf-8", newline="") as file:
            file.write(content)
        os.replace(temporary, path)
    return _done(
        {
            "type": FILE_SET,
            "filetype": str(request.params.get("type", "")),
            "basedir": request.rundir,
            "files": [os.path.relpath(path, request.rundir)],
            "incdirs": [request.rundir] if request.params.get("incdir") else [],
            "defines": [],
            "attributes": [],
        }
    )


def _text_of(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return file.read()
    except (OSError, UnicodeDecodeError):
        return None


def _set_env(request: TaskRequest) -> TaskResult:
    params = request.params
    return _done(
        {
            "type": ENV,
            "vals": dict(_variables(request, params.get("setenv"))),
            "append_path": dict(_variables(request, params.get("append_path"))),
            "prepend_path": dict(_variables(request, params.get("prepend_path"))),
        }
    )


def _variables(request: TaskRequest, values: object) -> Iterator[tuple[str, str]]:
    if not isinstance(values, Mapping | None):
        raise _TaskFault(f"variables are a map, not {values!r}")
    for name, value in (values or {}).items():
        if isinstance(value, Mapping | list):
            raise _TaskFault(f"the value of {name} is text, not {value!r}")
        text = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
        found = sorted(glob.glob(os.path.join(request.srcdir, text), recursive=True)) if _GLOB & set(text) else []
        yield name, os.pathsep.join(found) if found else text


def _set_file_type(request: TaskRequest) -> TaskResult:
    filetype = str(request.params.get("filetype", ""))
    return _done(
        *({**_unsigned(item), "filetype": filetype} for item in request.inputs if item.get("type") == FILE_SET)
    )


def _inc_dirs(request: TaskRequest) -> TaskResult:
    return _done(
        *(
            {
                "type": FILE_SET,
                "filetype": item["filetype"],
                "basedir": item["basedir"],
                "files": [],
                "incdirs": [item["basedir"]],
                "defines": [],
                "attributes": [],
            }
            for item in request.inputs
            if item.get("basedir") and item.get("filetype")
        )
    )


def _unsigned(item: Item) -> Item:
    return {name: value for name, value in item.items() if name not in ("src", "seq")}


_TASKS: Mapping[str, Callable[[TaskRequest], TaskResult]] = {
    "Message": _message,
    "FileSet": _file_set,
    "CreateFile": _create_file,
    "SetEnv": _set_env,
    "SetFileType": _set_file_type,
    "IncDirs": _inc_dirs,
}
