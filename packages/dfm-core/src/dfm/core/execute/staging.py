"""What a script finds: the `DFM_*` variables, the files they name, `dfm-out` on its PATH.

The files lie in the run directory as `.<task>.<name>`, so that tasks which share a run directory do not write into each
other's; those of a second attempt as `.<task>.2.<name>`. Scripts reach them through the variables. Creating a file
costs more than many a task does, so no file is made that need not be: what a script may append to begins to exist when
it does, and what would say nothing is shared.
"""

import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Mapping

from msgspec import Struct

from dfm.api.errors import InfrastructureError
from dfm.api.runner import ShellBody, TaskRequest, hidden_prefix

MAX_VARIABLE_BYTES = 120_000
"""Linux takes at most 128 KiB in one string of environment or arguments (MAX_ARG_STRLEN); longer values are in the
files."""
CHANNEL_NAMES: Mapping[str, str] = {
    "DFM_OUTPUT": "output.jsonl",
    "DFM_ENV": "env",
    "DFM_PATH": "path",
    "DFM_MARKERS": "markers.jsonl",
    "DFM_MEMENTO_OUT": "memento.json",
}
_NOT_A_NAME = re.compile(r"[^A-Za-z0-9_]")
_EMPTY: Mapping[str, tuple[str, str]] = {
    "DFM_PARAMS": ("no-params.json", "{}\n"),
    "DFM_INPUTS": ("no-inputs.json", "[]\n"),
}
"""Shared files for tasks without parameters or inputs."""
_C_SHELLS = ("csh", "tcsh")
_BUILD_TOOLS = ("make", "gmake", "ninja")
_WITHOUT_JOBS = """\
#!/bin/sh
# Runs the real tool without -j, so that it shares the jobs of `dfm run -j N` through the jobserver.
self=${0##*/}
here=${0%/*}
real=
IFS=:
for directory in $PATH; do
  if [ "$directory" != "$here" ] && [ -x "$directory/$self" ] && [ ! -d "$directory/$self" ]; then
    real=$directory/$self
    break
  fi
done
unset IFS
if [ -z "$real" ]; then
  echo "$self: not found" >&2
  exit 127
fi
case $MAKEFLAGS in
  *--jobserver-auth=*) ;;
  *) exec "$real" "$@" ;;
esac
left=$#
after_j=
while [ "$left" -gt 0 ]; do
  left=$((left - 1))
  word=$1
  shift
  if [ -n "$after_j" ]; then
    after_j=
    case $word in
      '' | *[!0-9]*) ;;
      *) continue ;;
    esac
  fi
  case $word in
    -j | --jobs) after_j=yes ;;
    -j[0-9]* | --jobs=*) ;;
    *) set -- "$@" "$word" ;;
  esac
done
exec "$real" "$@"
"""


class ShellNotFoundError(Exception):
    """The shell of a task is not on this machine."""


class StagedScript(Struct, frozen=True):
    """A script ready to start; `channels` are the files it may write, by the variable that names each."""

    argv: list[str]
    env: dict[str, str]
    channels: dict[str, str]


def stage_shell(request: TaskRequest, *, bin_dir: str) -> StagedScript:
    """Write the files of a script's task and return how to start it.

    Raises:
        ShellNotFoundError: there is no such shell.
        InfrastructureError: the files cannot be written.
    """
    assert isinstance(request.body, ShellBody)
    env = dict(request.env)
    shell = _find_shell(request.body.shell, env.get("PATH"))
    prefix = own_prefix(request)
    try:
        given = _write_inputs(request, prefix, bin_dir)
        channels = _clear_channels(prefix)
        argv = _argv(request, request.body, shell)
    except OSError as error:
        raise InfrastructureError(f"cannot write in {request.rundir}: {error.strerror}") from error
    env |= _variables(request) | given | channels
    env["PATH"] = f"{bin_dir}:{env['PATH']}" if env.get("PATH") else f"{bin_dir}:{os.defpath}"
    return StagedScript(argv, env, channels)


def own_prefix(request: TaskRequest) -> str:
    """Return what the paths of an attempt's own files begin with.

    A later attempt has others than the first: that one may still run, on a host that was cut off.
    """
    number = f"{request.attempt}." if request.attempt > 1 else ""
    return os.path.join(request.rundir, hidden_prefix(request.artefact) + number)


def write_bin_dir(root_rundir: str, search: str | None = None) -> str:
    """Make the directory that goes first on the PATH of scripts, and return it.

    It holds `dfm-out`, the files that stand for no parameters and no inputs, and for each of make, gmake and ninja
    that this machine has a wrapper that takes `-j` out of the arguments: an explicit `-j` would make the tool leave
    the jobserver, and `dfm run -j N` would not be exact.

    Raises:
        InfrastructureError: it cannot be written.
    """
    from dfm.core.execute import dfm_out  # noqa: PLC0415  (its path is needed, on this one occasion)

    directory = os.path.join(root_rundir, ".dfm-bin")
    words = shlex.join([sys.executable, "-I", "-S", os.path.realpath(dfm_out.__file__)])
    scripts = {"dfm-out": f'#!/bin/sh\nexec {words} "$@"\n'}
    scripts |= dict(_EMPTY.values())
    scripts |= {tool: _WITHOUT_JOBS for tool in _BUILD_TOOLS if shutil.which(tool, path=search)}
    try:
        os.makedirs(directory, exist_ok=True)
        for name, content in scripts.items():
            _write_script(os.path.join(directory, name), content)
    except OSError as error:
        raise InfrastructureError(f"cannot write {error.filename}: {error.strerror}") from error
    return directory


def _write_script(path: str, content: str) -> None:
    if os.access(path, os.X_OK) and _text_of(path) == content:
        return
    temporary = f"{path}.{os.getpid()}"
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(content)
    os.chmod(temporary, 0o755)  # noqa: S103  (a script that every task may run)
    os.replace(temporary, path)


def _text_of(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()


def beginning_with(prefix: str) -> list[str]:
    """Return the paths in one directory that begin so: one look at it is less than one at each that may be there."""
    directory, _, start = prefix.rpartition("/")
    return [f"{directory}/{name}" for name in os.listdir(directory or "/") if name.startswith(start)]


def as_variable(value: object) -> str:
    """Return a parameter as the text of an environment variable."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case str():
            return value
        case int() | float():
            return str(value)
        case _:
            return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _write_inputs(request: TaskRequest, prefix: str, bin_dir: str) -> dict[str, str]:
    files: dict[str, tuple[str, object]] = {
        "DFM_PARAMS": ("params.json", dict(request.params)),
        "DFM_INPUTS": ("inputs.json", list(request.inputs)),
    }
    if request.memento is not None:
        files["DFM_MEMENTO"] = ("last-memento.json", request.memento)
    paths = {}
    for variable, (name, value) in files.items():
        if not value and variable in _EMPTY:
            paths[variable] = os.path.join(bin_dir, _EMPTY[variable][0])
            continue
        paths[variable] = prefix + name
        with open(paths[variable], "w", encoding="utf-8") as file:
            json.dump(value, file, ensure_ascii=False)
    return paths


def _clear_channels(prefix: str) -> dict[str, str]:
    """Return the paths of the channels, and remove what an earlier run left in them."""
    paths = {variable: prefix + name for variable, name in CHANNEL_NAMES.items()}
    for path in beginning_with(prefix):
        if path in paths.values():
            os.unlink(path)
    return paths


def _variables(request: TaskRequest) -> dict[str, str]:
    variables = {
        "DFM_RUNDIR": request.rundir,
        "DFM_SRCDIR": request.srcdir,
        "DFM_TASK_NAME": request.task,
        "DFM_ATTEMPT": str(request.attempt),
        "DFM_ROOT_RUNDIR": request.root_rundir,
        "TASK_SRCDIR": request.srcdir,
        "TASK_RUNDIR": request.rundir,
        "PWD": request.rundir,
    }
    for name, value in request.params.items():
        text = as_variable(value)
        if len(text.encode("utf-8", "surrogateescape")) <= MAX_VARIABLE_BYTES and "\0" not in text:
            variables["DFM_PARAM_" + _NOT_A_NAME.sub("_", name).upper()] = text
    return variables


def _argv(request: TaskRequest, body: ShellBody, shell: str) -> list[str]:
    flags = ["-f"] if os.path.basename(shell) in _C_SHELLS else []
    if "\n" not in body.text.strip() and len(body.text.encode()) <= MAX_VARIABLE_BYTES:
        return [shell, *flags, "-c", body.text.strip()]
    path = os.path.join(request.rundir, f"{request.artefact}_cmd.sh" if request.artefact else "cmd.sh")
    with open(path, "w", encoding="utf-8") as file:
        file.write(body.text)
    return [shell, *flags, path]


def _find_shell(name: str, search: str | None) -> str:
    wanted = "bash" if name == "shell" else name
    if "/" in wanted and os.access(wanted, os.X_OK):
        return wanted
    usual = f"/bin/{wanted}"
    if "/" not in wanted:
        if os.access(usual, os.X_OK):
            return usual
        found = shutil.which(wanted, path=search)
        if found is not None:
            return found
    there = [shell for shell in ("bash", "sh", "csh", "tcsh", "zsh", "ksh") if shutil.which(shell)]
    raise ShellNotFoundError(f"there is no shell {name!r} on this machine (there are: {', '.join(there)}, and pytask)")
