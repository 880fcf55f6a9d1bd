"""From a node with its values to what an executor needs: the body, and the facts its fingerprint covers."""

import os
import re
import shutil
from collections.abc import Mapping, Sequence

from dfm.api.items import Item
from dfm.api.runner import Body, BuiltinBody, PythonBody, PythonSource, ShellBody
from dfm.core.flow.model import Script
from dfm.core.graph.node import Node
from dfm.core.record.fingerprint import TaskFacts

_FILE_FUNCTION = re.compile(r"(?P<file>[^\n]+?\.py)::(?P<function>[A-Za-z_]\w*)\s*\Z")
_DOTTED = re.compile(r"(?P<module>[A-Za-z_]\w*(\.[A-Za-z_]\w*)*)\.(?P<function>[A-Za-z_]\w*)\Z")
"""A text block ends with a line feed, so that one line of Python in a block is not taken for a name."""


def body_of(script: Script, text: str) -> Body:
    """Return what a script's text means under its shell."""
    match script.shell:
        case "builtin":
            return BuiltinBody(text)
        case "pytask":
            return _python_body(script, text)
        case "shell":
            return ShellBody(text, "bash")
        case _:
            return ShellBody(text, script.shell)


def facts_of(
    node: Node,
    body: Body,
    params: Mapping[str, object],
    inputs: Sequence[Item],
    env: Mapping[str, str],
) -> TaskFacts:
    """Return everything that decides whether the node's last result still stands."""
    task = node.task
    return TaskFacts(
        task=node.name,
        body=_described(body),
        body_files=[body.text] if isinstance(body, PythonBody) and body.source is PythonSource.FILE else [],
        params=params,
        inputs=inputs,
        environment={name: env.get(name) for name in task.environment},
        tools={tool: _tool(tool, task.srcdir, env) for tool in task.tools},
        declared={"produces": list(node.produces)} if node.produces else {},
    )


def _python_body(script: Script, text: str) -> PythonBody:
    location = f"{script.text.location.file}:{script.text.location.line}"
    file = _FILE_FUNCTION.match(text.strip())
    if file is not None:
        path = os.path.join(script.srcdir, file["file"])
        return PythonBody(PythonSource.FILE, os.path.normpath(path), file["function"], location)
    dotted = _DOTTED.match(text)
    if dotted is not None:
        return PythonBody(PythonSource.MODULE, dotted["module"], dotted["function"], location)
    return PythonBody(PythonSource.INLINE, text, "", location)


def _described(body: Body) -> dict[str, object]:
    match body:
        case ShellBody(text, shell):
            return {"kind": "shell", "shell": shell, "text": text}
        case PythonBody(source, text, function, _):
            return {"kind": "python", "source": str(source), "text": text, "function": function}
        case BuiltinBody(name):
            return {"kind": "builtin", "name": name}


def _tool(name: str, srcdir: str, env: Mapping[str, str]) -> str | None:
    if "/" in name:
        path = os.path.join(srcdir, name)
        return path if os.access(path, os.X_OK) else None
    return shutil.which(name, path=env.get("PATH"))
