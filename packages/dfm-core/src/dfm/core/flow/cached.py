"""Loaded flows, kept for the next start: found by what was asked, taken only while nothing that was read has changed.

The key covers the root file, the current directory, all options of the command line, the versions and sources of DFM,
Python, and what installed distributions announce. An entry holds every question that loading asked, of the file system
(`dfm.core.flow.asked`), of the environment, of plugins, with its answer; it is taken only where each question has the
same answer now. File contents are compared by hash, not by time.

An entry is a pickle, for nothing else brings a hundred thousand linked objects back fast, and so it is guarded: the
directory and the file are this user's alone, the content carries a MAC under a secret of this user, checked before one
byte of it is unpickled, and the unpickler knows the classes of the model and no others (docs/decisions/0004).
Whatever is wrong with an entry, there is none; whatever goes wrong with storing one, nobody is told.
"""

import contextlib
import dataclasses
import hashlib
import hmac
import itertools
import os
import pickle
import secrets
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import msgspec

from dfm.api.errors import DfmError
from dfm.core.__about__ import __version__
from dfm.core.flow import asked, stored
from dfm.core.plugins.packages import PluginPackages

if TYPE_CHECKING:
    from dfm.core.flow.model import Flow
    from dfm.core.flow.overrides import Overrides

VARIABLE = "DFM_FLOW_CACHE"
"""A directory for the entries, or `off`."""
OFF = "off"
MAX_ENTRIES = 64
"""The oldest ones go; an entry of a large flow takes some 300 bytes a task."""
_SECRET_NAME, _SECRET_BYTES, _MAC_BYTES = "secret", 32, 32
_SOURCES = ("core/flow", "core/expr", "api", "core/plugins")


class Questions(msgspec.Struct):
    """All that loading asked.

    Attributes:
        environment: keyed hash of each variable's value; None for one that was not set.
        plugins: where a package of an installed distribution was found.
    """

    files: asked.Answers
    environment: dict[str, str | None]
    plugins: dict[str, str | None]


class NotedEnvironment(Mapping[str, str]):
    """An environment that remembers what was asked of it."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.seen: dict[str, str | None] = {}
        self.is_read_whole = False

    def __getitem__(self, name: str) -> str:
        value = self.seen[name] = self._environ.get(name)
        if value is None:
            raise KeyError(name)
        return value

    def __iter__(self) -> Iterator[str]:
        self.is_read_whole = True
        return iter(self._environ)

    def __len__(self) -> int:
        self.is_read_whole = True
        return len(self._environ)


class NotedPlugins(PluginPackages):
    """Task packages of installed distributions; remembers which were asked for."""

    def __init__(self, plugins: PluginPackages) -> None:
        super().__init__(plugins.announced)
        self.seen: dict[str, str | None] = {}

    def path(self, package: str) -> str | None:
        """Return the flow file of the package."""
        found = self.seen[package] = super().path(package)
        return found


Load = Callable[[Mapping[str, str], PluginPackages], "Flow"]


@dataclasses.dataclass(frozen=True, slots=True)
class FlowCache:
    """Where entries lie.

    Attributes:
        directory: absolute; made when something is stored.
    """

    directory: str

    def flow(
        self, asked_for: object, environ: Mapping[str, str], plugins: PluginPackages, overrides: "Overrides", load: Load
    ) -> "Flow":
        """Return the flow: the stored one where it stands, else the one that `load` gives.

        Args:
            asked_for: all that decides which flow is meant, JSON-like.
            environ: that the flow may read.
            plugins: what is installed.
            overrides: of the command line; which of them were met is stored with the flow.
            load: loads the flow from an environment and plugins.
        """
        secret = self._secret()
        if secret is None:
            return load(environ, plugins)
        path = os.path.join(self.directory, f"{_key(asked_for, plugins)}.flow")
        found = self._read(path, secret, environ, plugins)
        if found is not None:
            overrides.used |= found[1]
            return found[0]
        noted_environment, noted_plugins = NotedEnvironment(environ), NotedPlugins(plugins)
        with asked.noted() as files:
            flow = load(noted_environment, noted_plugins)
        if not noted_environment.is_read_whole:
            seen = {name: _hidden(secret, value) for name, value in noted_environment.seen.items()}
            self._write(path, secret, Questions(files, seen, noted_plugins.seen), flow, overrides.used)
        return flow

    def _read(
        self, path: str, secret: bytes, environ: Mapping[str, str], plugins: PluginPackages
    ) -> "tuple[Flow, set[str]] | None":
        try:
            content = memoryview(_read_private(path))
            content, mac = content[:-_MAC_BYTES], content[-_MAC_BYTES:]
            if not hmac.compare_digest(mac, _mac(secret, content)):
                return None
            split = 8 + int.from_bytes(content[:8])
            questions = msgspec.msgpack.decode(content[8:split], type=Questions)
            if not _still_hold(questions, secret, environ, plugins):
                return None
            pieces = stored.pieces_of(content[split:])
            del content
            found = stored.from_pieces(pieces)
            os.utime(path)
        except (OSError, ValueError, DfmError, pickle.UnpicklingError, msgspec.MsgspecError, EOFError, AttributeError):
            return None
        return found

    def _write(self, path: str, secret: bytes, questions: Questions, flow: "Flow", used: set[str]) -> None:
        with contextlib.suppress(OSError, RecursionError, pickle.PicklingError):
            told = msgspec.msgpack.encode(questions)
            parts = itertools.chain([len(told).to_bytes(8), told], stored.to_parts(flow, used))
            _write_private(path, _signed(secret, parts))
            self._tidy()

    def _secret(self) -> bytes | None:
        """Return this user's secret, made where there is none; None where it cannot be kept from others."""
        path = os.path.join(self.directory, _SECRET_NAME)
        try:
            os.makedirs(self.directory, mode=0o700, exist_ok=True)
            status = os.lstat(self.directory)
            if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
                return None
            if not os.path.exists(path):
                _write_private(path, [secrets.token_bytes(_SECRET_BYTES)], is_first=True)
            found = _read_private(path)
        except OSError:
            return None
        return found if len(found) == _SECRET_BYTES else None

    def _tidy(self) -> None:
        """Remove the entries that were not used for longest."""
        with os.scandir(self.directory) as entries:
            found = [(entry.stat().st_mtime, entry.path) for entry in entries if entry.name.endswith(".flow")]
        for _, path in sorted(found)[:-MAX_ENTRIES]:
            with contextlib.suppress(OSError):
                os.unlink(path)


def cache_from(environ: Mapping[str, str]) -> FlowCache | None:
    """Return the cache of this user, None where there is none or none is wanted."""
    given = environ.get(VARIABLE)
    if given == OFF:
        return None
    if given:
        return FlowCache(os.path.abspath(given))
    home = environ.get("HOME")
    base = environ.get("XDG_CACHE_HOME") or (home and os.path.join(home, ".cache"))
    return FlowCache(os.path.join(base, "dfm", "flow")) if base and os.path.isabs(base) else None


def _still_hold(questions: Questions, secret: bytes, environ: Mapping[str, str], plugins: PluginPackages) -> bool:
    return (
        all(_hidden(secret, environ.get(name)) == value for name, value in questions.environment.items())
        and all(plugins.path(package) == path for package, path in questions.plugins.items())
        and questions.files.still_hold()
    )


def _key(asked_for: object, plugins: PluginPackages) -> str:
    announced = [[p.group, p.name, p.distribution, p.version, p.entry_point.value] for p in plugins.announced]
    here = os.fsencode(os.getcwd()).hex()  # which need not be text
    whole = [__version__, sys.version, sys.implementation.cache_tag, here, _sources(), announced, asked_for]
    return hashlib.sha256(msgspec.json.encode(whole, order="sorted", enc_hook=str)).hexdigest()


def _sources() -> list[list[object]]:
    """Return what tells one state of DFM's own sources from another, for those who work on them."""
    portion = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    found: list[list[object]] = []
    for directory in _SOURCES:
        with os.scandir(os.path.join(portion, directory)) as entries:
            for entry in entries:
                if entry.name.endswith(".py"):
                    status = entry.stat()
                    found.append([directory, entry.name, status.st_size, status.st_mtime_ns])
    return sorted(found, key=str)


def _hidden(secret: bytes, value: str | None) -> str | None:
    return None if value is None else _mac(secret, value.encode("utf-8", "surrogateescape")).hex()


def _mac(secret: bytes, content: bytes | memoryview) -> bytes:
    return hmac.digest(secret, content, "sha256")


def _signed(secret: bytes, parts: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the parts, and at last the MAC of all of them."""
    mac = hmac.new(secret, digestmod="sha256")
    for part in parts:
        mac.update(part)
        yield part
    yield mac.digest()


def _read_private(path: str) -> bytes:
    """Return the content of a file that nobody but this user could have written.

    Raises:
        OSError: it cannot be read, or is not this user's alone.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    with open(descriptor, "rb", buffering=0) as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
            raise PermissionError(f"{path} is not this user's alone")
        return file.readall()


def _write_private(path: str, parts: Iterable[bytes], *, is_first: bool = False) -> None:
    """Write a file for this user alone, whole or not at all; one that is there stays where it must be the first."""
    temporary = f"{path}.{os.getpid()}.{secrets.token_hex(4)}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with open(descriptor, "wb", buffering=0) as file:
            for part in parts:
                view = memoryview(part)
                while view:
                    view = view[file.write(view) :]
        if is_first:
            with contextlib.suppress(FileExistsError):
                os.link(temporary, path)
        else:
            os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
