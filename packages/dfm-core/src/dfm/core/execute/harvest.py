"""What a body leaves behind: its items, markers and memento, read without trusting them.

What cannot be understood is a problem with its file and line, and a problem fails the task: nothing is guessed.
"""

import contextlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct, field

from dfm.api.items import ENV, FILE_SET, Item, names_files
from dfm.api.runner import CommandRecord, TaskRequest
from dfm.api.task import Marker, MarkerLocation, Severity
from dfm.core.execute.staging import StagedScript, beginning_with, own_prefix

MAX_CHANNEL_BYTES = 64 * 1024 * 1024
_HEREDOC = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)<<(?P<end>\S+)\Z")
_ASSIGNMENT = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)=(?P<value>.*)\Z", re.DOTALL)


class Harvest(Struct):
    """What came of a body.

    Attributes:
        problems: one line each, what could not be understood.
        error: why a Python body failed, None where it did not or the body was a script.
    """

    outputs: list[Item] = field(default_factory=list)
    memento: Any = None
    markers: list[Marker] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    commands: list[CommandRecord] = field(default_factory=list)
    status: int = 0
    changed: bool = True
    error: str | None = None


def harvest_script(request: TaskRequest, staged: StagedScript) -> Harvest:
    """Read what a script wrote into its channels."""
    harvest = Harvest()
    with contextlib.suppress(OSError):  # a task may have removed its own directory; what is left is told below
        if not beginning_with(own_prefix(request)):
            return harvest
    for place, line in _json_lines(staged.channels["DFM_OUTPUT"], harvest):
        item = _item(line, request.rundir)
        if isinstance(item, str):
            harvest.problems.append(f"{place}: {item}")
        else:
            harvest.outputs.append(item)
    for place, line in _json_lines(staged.channels["DFM_MARKERS"], harvest):
        marker = marker_from(line)
        if isinstance(marker, str):
            harvest.problems.append(f"{place}: {marker}")
        else:
            harvest.markers.append(marker)
    environment = _environment(staged, request.rundir, harvest)
    if environment is not None:
        harvest.outputs.append(environment)
    harvest.memento = _memento(staged.channels["DFM_MEMENTO_OUT"], harvest)
    return harvest


def harvest_python(result_path: str, rundir: str) -> Harvest:
    """Read the result a Python body's child wrote, and remove the file."""
    try:
        with open(result_path, "rb") as file:
            content = json.load(file)
    except FileNotFoundError:
        return Harvest(status=0, error="the Python task ended without a result")
    except (OSError, ValueError) as error:
        return Harvest(status=1, error=f"the result of the Python task cannot be read: {error}")
    finally:
        with contextlib.suppress(OSError):
            os.unlink(result_path)
    harvest = Harvest(
        memento=content["memento"],
        status=content["status"],
        changed=content["changed"],
        error=content["error"],
    )
    for number, line in enumerate(content["output"]):
        item = _item(line, rundir)
        if isinstance(item, str):
            harvest.problems.append(f"item {number} of the result: {item}")
        else:
            harvest.outputs.append(item)
    harvest.markers = [marker for marker in map(marker_from, content["markers"]) if isinstance(marker, Marker)]
    harvest.commands = [CommandRecord(command["cmd"], command["status"]) for command in content["commands"]]
    return harvest


def marker_from(value: object) -> Marker | str:
    """Return the marker a mapping describes, or what is wrong with it."""
    if not isinstance(value, Mapping) or not isinstance(value.get("msg"), str):
        return "a marker is an object with `severity` and `msg`"
    try:
        severity = Severity(str(value.get("severity", "error")).lower())
    except ValueError:
        return f"the severity {value.get('severity')!r} is none of error, warning, info"
    loc = value.get("loc")
    location = None
    if isinstance(loc, Mapping) and loc.get("path"):
        location = MarkerLocation(str(loc["path"]), _number(loc.get("line")), _number(loc.get("pos")))
    return Marker(severity, value["msg"], location)


def _number(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def _item(value: object, rundir: str) -> Item | str:
    if not isinstance(value, Mapping):
        return "an item is an object"
    kind = value.get("type")
    if not isinstance(kind, str) or not kind:
        return "an item needs a `type` that is not empty"
    item = dict(value)
    item.pop("src", None)
    item.pop("seq", None)
    if not names_files(item):
        return item
    if kind != FILE_SET:
        item["basedir"] = os.path.normpath(os.path.join(rundir, item["basedir"]))
        return item
    for name in ("files", "incdirs", "defines", "attributes"):
        listed = item.setdefault(name, [])
        if not isinstance(listed, list) or not all(isinstance(word, str) for word in listed):
            return f"`{name}` of a std.FileSet is a list of strings"
    item["basedir"] = os.path.normpath(os.path.join(rundir, str(item.get("basedir") or ".")))
    item.setdefault("filetype", "")
    return item


def _json_lines(path: str, harvest: Harvest) -> Iterator[tuple[str, object]]:
    for number, line in enumerate(_lines(path, harvest), 1):
        if not line.strip():
            continue
        place = f"{os.path.basename(path)}:{number}"
        try:
            yield place, json.loads(line)
        except (ValueError, RecursionError):
            harvest.problems.append(f"{place}: not JSON: {line[:60]!r}")


def _environment(staged: StagedScript, rundir: str, harvest: Harvest) -> Item | None:
    values = dict(_assignments(staged.channels["DFM_ENV"], harvest))
    directories = [os.path.join(rundir, line) for line in _lines(staged.channels["DFM_PATH"], harvest) if line.strip()]
    if not values and not directories:
        return None
    item: Item = {"type": ENV, "vals": values, "append_path": {}, "prepend_path": {}}
    if directories:
        item["prepend_path"] = {"PATH": os.pathsep.join(reversed(directories))}
    return item


def _assignments(path: str, harvest: Harvest) -> Iterator[tuple[str, str]]:
    lines = iter(enumerate(_lines(path, harvest), 1))
    for number, line in lines:
        if not line.strip():
            continue
        heredoc = _HEREDOC.match(line)
        assignment = _ASSIGNMENT.match(line)
        if heredoc is not None:
            text = _until(heredoc["end"], (later for _, later in lines))
            if text is None:
                harvest.problems.append(
                    f"{os.path.basename(path)}:{number}: no line {heredoc['end']!r} ends the value of {heredoc['name']}"
                )
            else:
                yield heredoc["name"], "\n".join(text)
        elif assignment is not None:
            yield assignment["name"], assignment["value"]
        else:
            harvest.problems.append(f"{os.path.basename(path)}:{number}: not NAME=VALUE: {line[:60]!r}")


def _until(end: str, lines: Iterator[str]) -> Sequence[str] | None:
    found: list[str] = []
    for line in lines:
        if line == end:
            return found
        found.append(line)
    return None


def _memento(path: str, harvest: Harvest) -> object:
    text = "\n".join(_lines(path, harvest))
    if not text.strip():
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        harvest.problems.append(f"{os.path.basename(path)}: not JSON")
        return None


def _lines(path: str, harvest: Harvest) -> list[str]:
    name = os.path.basename(path)
    try:
        if os.path.getsize(path) > MAX_CHANNEL_BYTES:
            harvest.problems.append(f"{name} is larger than {MAX_CHANNEL_BYTES // 1024 // 1024} MiB")
            return []
        with open(path, "rb") as file:
            content = file.read()
    except FileNotFoundError:
        return []
    except OSError as error:
        harvest.problems.append(f"{name} cannot be read: {error.strerror}")
        return []
    if not content:
        return []
    try:
        return content.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        harvest.problems.append(f"{name} is not UTF-8 (byte {error.start})")
        return []
