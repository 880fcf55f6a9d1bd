"""Data items: what flows from task to task.

On the wire and in records an item is a plain mapping with at least `type` (fully qualified name), `src` (the node that
made it) and `seq` (its index among that node's own items). Python tasks see the same mapping through attributes.
"""

from collections.abc import Iterable, Mapping
from typing import Any

FILE_SET = "std.FileSet"
ENV = "std.Env"
TASK_FAILURE = "std.TaskFailure"

Item = dict[str, Any]


def names_files(item: Mapping[str, Any]) -> bool:
    """Return whether an item names files: a `std.FileSet`, or one of a type derived from it: by `basedir`, `files`."""
    if item.get("type") == FILE_SET:
        return True
    files = item.get("files")
    return (
        isinstance(item.get("basedir"), str)
        and isinstance(files, list)
        and all(isinstance(name, str) for name in files)
    )


class DataItem:
    """One data item with its fields as attributes: `item.type`, `item.src`, `item.seq` and what its type declares.

    Args:
        type: fully qualified name of the item's type; not empty.
        fields: the fields of that type, JSON-like values only.
    """

    def __init__(self, type: str, **fields: Any) -> None:  # noqa: A002, ANN401  (the format's own word; JSON)
        if not type:
            raise ValueError("a data item needs a type that is not empty")
        self.type = type
        self.src = ""
        self.seq = 0
        self.__dict__.update(fields)

    def to_mapping(self) -> Item:
        """Return the item as a plain mapping; the item keeps no reference to it."""
        return dict(self.__dict__)

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in self.__dict__.items())
        return f"{type(self).__name__}({fields})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DataItem) and self.__dict__ == other.__dict__

    __hash__ = None  # type: ignore[assignment]  # mutable: authors fill items in after making them


class FileSet(DataItem):
    """Files of one kind below one directory.

    Args:
        filetype: what the files are, such as `systemVerilogSource`.
        basedir: directory that `files` and `incdirs` are relative to; "." is the task's own run directory.
        files: paths relative to `basedir`.
        incdirs: directories to search for included files.
        defines: macro definitions, `NAME` or `NAME=VALUE`.
        attributes: free words for the consumer.
    """

    def __init__(
        self,
        filetype: str = "",
        basedir: str = ".",
        files: Iterable[str] = (),
        *,
        incdirs: Iterable[str] = (),
        defines: Iterable[str] = (),
        attributes: Iterable[str] = (),
        **fields: Any,  # noqa: ANN401  (JSON)
    ) -> None:
        super().__init__(FILE_SET)
        self.filetype = filetype
        self.basedir = basedir
        self.files = list(files)
        self.incdirs = list(incdirs)
        self.defines = list(defines)
        self.attributes = list(attributes)
        self.__dict__.update(fields)


class Env(DataItem):
    """Changes to the environment of the tasks that need the emitting task; never travels further.

    Args:
        vals: variables to set.
        append_path: variables to which a value is appended after the path separator.
        prepend_path: the same, before.
    """

    def __init__(
        self,
        vals: Mapping[str, str] | None = None,
        append_path: Mapping[str, str] | None = None,
        prepend_path: Mapping[str, str] | None = None,
        **fields: Any,  # noqa: ANN401  (JSON)
    ) -> None:
        super().__init__(ENV)
        self.vals = dict(vals or {})
        self.append_path = dict(append_path or {})
        self.prepend_path = dict(prepend_path or {})
        self.__dict__.update(fields)


def item_from_mapping(mapping: Mapping[str, Any]) -> DataItem:
    """Return the item that `mapping` describes, as the class its type has here (else a plain DataItem).

    Raises:
        ValueError: the mapping has no `type`.
    """
    fields = dict(mapping)
    kind = fields.pop("type", "")
    match kind:
        case "std.FileSet":
            return FileSet(**fields)
        case "std.Env":
            return Env(**fields)
        case _:
            return DataItem(kind, **fields)
