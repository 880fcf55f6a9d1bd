"""The names of a flow's tasks in a file that a shell can read by itself, so that TAB starts no Python.

The file is named after the root flow file, `/` written as `%`. It begins with a line `#PATH` for each file that the
flow was read from; a shell takes the names as long as none of them is newer than the list. A flow with faults leaves
the last list as it is: a person who types a command in the midst of an edit still gets the names of a moment ago.
"""

import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence

from dfm.core.flow.model import Flow
from dfm.core.graph.select import listed_tasks

_LONGEST_NAME = 240


def cache_file(root_file: str, environ: Mapping[str, str]) -> str | None:
    """Return the file for a root flow file, None where its path is too long for a name."""
    name = root_file.replace("/", "%")
    if len(os.fsencode(name)) > _LONGEST_NAME:
        return None
    base = environ.get("XDG_CACHE_HOME") or os.path.join(environ.get("HOME", "/nonexistent"), ".cache")
    return os.path.join(base, "dfm", "complete", name)


def names_of(flow: Flow) -> list[str]:
    """Return the names to offer: those of the root package without its prefix, offered tasks first."""
    prefix = f"{flow.root.name}."
    tasks = dict.fromkeys([*listed_tasks(flow), *flow.root.tasks.values()])
    return [task.name.removeprefix(prefix) for task in tasks]


def write_names(path: str, files: Iterable[str], names: Sequence[str]) -> None:
    """Write the list, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    directory = os.path.dirname(path)
    os.makedirs(directory, exist_ok=True)
    number, temporary = tempfile.mkstemp(dir=directory, prefix=".new-")
    try:
        with open(number, "w", encoding="utf-8") as file:
            file.writelines(f"#{name}\n" for name in files if "\n" not in name)
            file.writelines(f"{name}\n" for name in names)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def read_names(path: str) -> list[str]:
    """Return the names of the last list, fresh or not.

    Raises:
        OSError: there is none.
    """
    with open(path, encoding="utf-8") as file:
        return [line.rstrip("\n") for line in file if not line.startswith("#")]
