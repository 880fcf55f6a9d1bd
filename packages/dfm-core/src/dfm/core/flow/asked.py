"""What loading a flow asks of the file system, one door for all of it, so that the answers can be asked for again.

Loading goes through these functions and through nothing else; while `noted` is entered, each question is kept with its
answer. A flow that was stored with its questions stands as long as every one of them has the same answer
(`dfm.core.flow.cached`).
"""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from contextvars import ContextVar

import msgspec

NOTHING, FILE, DIRECTORY, LINK = "", "f", "d", "l"


class Answers(msgspec.Struct):
    """Questions with their answers.

    Attributes:
        contents: SHA-256 of the content of a file, empty where it cannot be read.
        kinds: whether a path leads to a file, a directory, or neither.
        places: what a path is once every link is followed.
        listings: SHA-256 of the names in a directory, with their kinds.
    """

    contents: dict[str, str] = {}
    kinds: dict[str, str] = {}
    places: dict[str, str] = {}
    listings: dict[str, str] = {}

    def still_hold(self) -> bool:
        """Whether each question has the same answer now."""
        return (
            all(_kind(path) == kind for path, kind in self.kinds.items())
            and all(os.path.realpath(path) == place for path, place in self.places.items())
            and all(_digest_of_listing(_entries(path)) == digest for path, digest in self.listings.items())
            and all(_digest_of_file(path) == digest for path, digest in self.contents.items())
        )


_noted: ContextVar[Answers | None] = ContextVar("noted", default=None)


@contextlib.contextmanager
def noted() -> Iterator[Answers]:
    """Keep all that is asked in the block."""
    answers = Answers()
    token = _noted.set(answers)
    try:
        yield answers
    finally:
        _noted.reset(token)


def is_file(path: str) -> bool:
    """Whether there is a file."""
    return _ask_kind(path) == FILE


def is_directory(path: str) -> bool:
    """Whether there is a directory."""
    return _ask_kind(path) == DIRECTORY


def real_path(path: str) -> str:
    """Return the path with every link followed."""
    place = os.path.realpath(path)
    answers = _noted.get()
    if answers is not None:
        answers.places[path] = place
    return place


def read(path: str) -> bytes:
    """Return the content of a file.

    Raises:
        OSError: it cannot be read.
    """
    answers = _noted.get()
    if answers is not None:
        answers.contents[path] = ""
    with open(path, "rb", buffering=0) as file:
        content = file.readall()
    if answers is not None:
        answers.contents[path] = hashlib.sha256(content).hexdigest()
    return content


def names_in(directory: str) -> list[str]:
    """Return the names in a directory, none where there is none."""
    return [name for name, _ in _listed(directory)]


def walk(directory: str) -> Iterator[tuple[str, list[str]]]:
    """Yield each directory below one, itself first and in order of names, with the names of what else is in it."""
    waiting = [directory]
    while waiting:
        base = waiting.pop()
        entries = _listed(base)
        yield base, [name for name, kind in entries if kind == FILE]
        waiting += [os.path.join(base, name) for name, kind in reversed(entries) if kind == DIRECTORY]


def _ask_kind(path: str) -> str:
    kind = _kind(path)
    answers = _noted.get()
    if answers is not None:
        answers.kinds[path] = kind
    return kind


def _listed(directory: str) -> list[tuple[str, str]]:
    entries = _entries(directory)
    answers = _noted.get()
    if answers is not None:
        answers.listings[directory] = _digest_of_listing(entries)
    return entries


def _kind(path: str) -> str:
    return FILE if os.path.isfile(path) else DIRECTORY if os.path.isdir(path) else NOTHING


def _entries(directory: str) -> list[tuple[str, str]]:
    """Return the names in a directory in order, with their kinds; nobody walks through a link."""
    try:
        with os.scandir(directory) as entries:
            found = [(entry.name, _kind_of(entry)) for entry in entries]
    except OSError:
        return []
    return sorted(found)


def _kind_of(entry: "os.DirEntry[str]") -> str:
    if not entry.is_dir():
        return FILE
    return LINK if entry.is_symlink() else DIRECTORY


def _digest_of_listing(entries: list[tuple[str, str]]) -> str:
    return hashlib.sha256(
        "\0".join(f"{kind}{name}" for name, kind in entries).encode(errors="surrogateescape")
    ).hexdigest()


def _digest_of_file(path: str) -> str:
    try:
        with open(path, "rb", buffering=0) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""
