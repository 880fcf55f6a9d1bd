"""Results that outlive their run directory: an action cache, content-addressed by SHA-256.

A key covers all that decides about a result: body, parameters, consumed items with the content of their files, tools by
content, declared environment, and what `cache: {hash: [...]}` adds; directories of the run and of the flow are taken
out of it, so that another check-out has the same key. An entry names blobs, and each blob is named by its content:
both are written to a temporary file and renamed, and everything is verified when it is read. What does not verify is no
entry. Nothing is ever changed in place, so that any number of runs may use one cache.
"""

import bz2
import contextlib
import gzip
import hashlib
import json
import os
import re
import stat
import uuid
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from dfm.api.errors import UsageError
from dfm.api.items import Item, names_files
from dfm.api.runner import CommandRecord, Outcome, TaskResult
from dfm.api.task import Marker
from dfm.core.record.fingerprint import Fingerprint, TaskFacts
from dfm.core.record.stamps import Stamper, files_below

SCHEMA = 1
VARIABLE = "DV_FLOW_CACHE"
MARK = ".dfm-cache.json"
RUNDIR = "\0rundir\0"
"""Stands for the task's run directory inside an entry; no path has a NUL in it."""
_SUFFIXES = {"no": "", "gzip": ".gz", "bzip2": ".bz2"}
_Packing = Callable[[bytes], bytes]
_PACK: Mapping[str, _Packing] = {
    "no": bytes,
    "gzip": lambda content: gzip.compress(content, mtime=0),
    "bzip2": bz2.compress,
}
_UNPACK: Mapping[str, _Packing] = {"no": bytes, "gzip": gzip.decompress, "bzip2": bz2.decompress}


class CacheDamagedError(Exception):
    """An entry is not what was stored."""


class NotCacheableError(Exception):
    """A result that cannot be stored; the text says why."""


class StoredFile(msgspec.Struct, frozen=True):
    """One file of a run directory; `path` is relative to it."""

    path: str
    mode: int
    digest: str
    packing: str


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What one key leads to."""

    schema: int
    key: str
    task: str
    files: list[StoredFile]
    links: dict[str, str]
    outputs: list[dict[str, Any]]
    memento: Any
    markers: list[Marker]
    commands: list[CommandRecord]
    host: str
    seconds: float


class _Sealed(msgspec.Struct):
    checksum: str
    entry: msgspec.Raw


class CachePlace(Struct, frozen=True):
    """One directory with entries."""

    path: str
    is_writable: bool
    is_shared: bool


class ActionCache(Struct, frozen=True):
    """The caches of a run, the first one first."""

    places: Sequence[CachePlace]

    def restore(self, key: str, rundir: str, damaged: Callable[[str], None]) -> TaskResult | None:
        """Bring the result of a key into a run directory; None where no cache has it.

        Args:
            key: of `cache_key`.
            rundir: absolute; exists.
            damaged: told, in a line, of each entry that does not verify; such an entry counts as absent.
        """
        for place in self.places:
            path = _entry_path(place, key)
            try:
                entry = _load(path, key)
                return None if entry is None else _unpacked(place, entry, rundir)
            except FileNotFoundError:
                continue
            except (CacheDamagedError, OSError) as error:
                damaged(f"the cache {place.path} has a damaged entry for this task ({error}); it is not used")
                if place.is_writable:
                    with contextlib.suppress(OSError):
                        os.unlink(path)
        return None

    def store(self, key: str, rundir: str, task: str, result: TaskResult, packing: str) -> None:
        """Keep the result of a task in the first cache that can be written.

        Raises:
            NotCacheableError: it names files outside its run directory.
            OSError: it cannot be written.
        """
        place = next((place for place in self.places if place.is_writable), None)
        if place is None or os.path.exists(_entry_path(place, key)):
            return
        _refuse_outside(result.outputs, rundir)
        files, links = _stored(place, rundir, packing)
        entry = Entry(
            schema=SCHEMA,
            key=key,
            task=task,
            files=files,
            links=links,
            outputs=moved_paths(list(result.outputs), rundir, RUNDIR),
            memento=moved_paths(result.memento, rundir, RUNDIR),
            markers=list(result.markers),
            commands=list(result.commands),
            host=result.host,
            seconds=result.seconds,
        )
        content = msgspec.json.encode(entry)
        checksum = hashlib.sha256(content).hexdigest().encode()
        _write(place, _entry_path(place, key), b'{"checksum":"%s","entry":%s}\n' % (checksum, content))


def cache_from(environ: Mapping[str, str]) -> ActionCache | None:
    """Return the caches that `DV_FLOW_CACHE` names: one directory, or a YAML file with a list of them.

    Raises:
        UsageError: it names something else.
    """
    given = environ.get(VARIABLE)
    if not given:
        return None
    path = os.path.abspath(given)
    if os.path.isdir(path):
        return ActionCache([_place(path, is_writable=True)])
    if not os.path.isfile(path):
        raise UsageError(f"{VARIABLE} names {given!r}, and there is none", hint=f"dfm cache init {given}")
    return ActionCache(_listed(path))


def init_cache(path: str, *, is_shared: bool) -> None:
    """Make a directory a cache; one that is a cache already stays as it is.

    Raises:
        OSError: it cannot be made.
        UsageError: it has other things in it.
    """
    os.makedirs(path, exist_ok=True)
    mark = os.path.join(path, MARK)
    if not os.path.exists(mark) and os.listdir(path):
        raise UsageError(f"{path} is not empty, and no cache", hint="name a new directory")
    with open(mark, "w", encoding="utf-8") as file:
        json.dump({"schema": SCHEMA, "shared": is_shared}, file)
    if is_shared:
        os.chmod(path, 0o2775)  # noqa: S103  (a cache that a group shares is asked for)


def cache_key(facts: TaskFacts, fingerprint: Fingerprint, roots: Iterable[str], added: object, stamper: Stamper) -> str:
    """Return the key of a result.

    Args:
        facts: all that decides about it.
        fingerprint: of the facts, with the content of the files.
        roots: directories that are not part of it, such as the run's and the flow's.
        added: what the task adds, JSON-like.
        stamper: looks at the tools.
    """
    machine = os.uname()
    whole = [
        SCHEMA,
        [machine.sysname, machine.machine],
        facts.task,
        dict(facts.body),
        dict(facts.params),
        list(facts.inputs),
        [[path, stamp.digest] for path, stamp in fingerprint.files.items()],
        fingerprint.environment,
        {
            name: None if path is None else stamper.stamp(os.path.realpath(path)).digest
            for name, path in facts.tools.items()
        },
        dict(facts.declared),
        added,
    ]
    text = msgspec.json.encode(whole, order="sorted", enc_hook=str).decode()
    for number, root in enumerate(sorted({r for r in roots if len(r) > 1}, key=len, reverse=True)):
        text = re.sub(re.escape(root) + r"(?![\w.-])", f"\0{number}\0", text)
    return hashlib.sha256(text.encode()).hexdigest()


def is_packing(word: str) -> bool:
    """Whether there is a compression of this name."""
    return word in _PACK


def moved_paths(value: Any, old: str, new: str) -> Any:  # noqa: ANN401  (JSON)
    """Return a JSON-like value with one directory in its texts replaced by another."""
    match value:
        case str():
            return value.replace(old, new)
        case list() | tuple():
            return [moved_paths(item, old, new) for item in value]
        case dict():
            return {key: moved_paths(item, old, new) for key, item in value.items()}
        case _:
            return value


def _listed(path: str) -> list[CachePlace]:
    import yaml  # noqa: PLC0415  (few runs have a list of caches)

    try:
        with open(path, encoding="utf-8") as file:
            value = yaml.safe_load(file)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{VARIABLE}: {path} cannot be read: {' '.join(str(error).split())}") from None
    entries = value.get("caches") if isinstance(value, Mapping) else None
    if not isinstance(entries, list):
        raise UsageError(f"{VARIABLE}: {path} has no list `caches`", hint="caches: [{type: directory, path: DIR}]")
    places = []
    for entry in entries:
        if not isinstance(entry, Mapping) or not isinstance(entry.get("path"), str):
            raise UsageError(f"{VARIABLE}: a cache in {path} has no `path`")
        unknown = sorted(set(entry) - {"type", "path", "writable"})
        if unknown or entry.get("type", "directory") != "directory":
            what = f"the unknown key {unknown[0]!r}" if unknown else f"the unknown type {entry['type']!r}"
            raise UsageError(f"{VARIABLE}: a cache in {path} has {what}")
        directory = os.path.normpath(os.path.join(os.path.dirname(path), entry["path"]))
        if not os.path.isdir(directory):
            raise UsageError(f"{VARIABLE}: there is no directory {directory}", hint=f"dfm cache init {directory}")
        places.append(_place(directory, is_writable=entry.get("writable", True) is True))
    return places


def _place(path: str, *, is_writable: bool) -> CachePlace:
    try:
        with open(os.path.join(path, MARK), encoding="utf-8") as file:
            is_shared = json.load(file).get("shared") is True
    except (OSError, ValueError, AttributeError):
        is_shared = False
    return CachePlace(path, is_writable and os.access(path, os.W_OK), is_shared)


def _entry_path(place: CachePlace, key: str) -> str:
    return os.path.join(place.path, "entries", key[:2], f"{key}.json")


def _blob_path(place: CachePlace, digest: str, packing: str) -> str:
    return os.path.join(place.path, "blobs", digest[:2], digest + _SUFFIXES[packing])


def _load(path: str, key: str) -> Entry | None:
    with open(path, "rb") as file:
        content = file.read()
    try:
        sealed = msgspec.json.decode(content, type=_Sealed)
        if hashlib.sha256(sealed.entry).hexdigest() != sealed.checksum:
            raise CacheDamagedError("its checksum is wrong")
        entry = msgspec.json.decode(sealed.entry, type=Entry)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CacheDamagedError(str(error)) from None
    if entry.key != key or entry.schema != SCHEMA:
        raise CacheDamagedError("it is for another key or of another version")
    return entry


def _unpacked(place: CachePlace, entry: Entry, rundir: str) -> TaskResult:
    """Bring the files of an entry into place, after all of them were verified."""
    temporary: dict[str, str] = {}
    try:
        for number, file in enumerate(entry.files):
            target = _inside(rundir, file.path)
            content = _verified(place, file)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            temporary[target] = os.path.join(rundir, f".dfm-cache.{os.getpid()}.{number}")
            with open(temporary[target], "wb") as out:
                out.write(content)
            os.chmod(temporary[target], file.mode)
        for target in list(temporary):
            os.replace(temporary.pop(target), target)
        for path, leads_to in entry.links.items():
            _link(_inside(rundir, path), leads_to)
    except CacheDamagedError:
        _drop_damaged(place, entry)
        raise
    finally:
        for left in temporary.values():
            with contextlib.suppress(OSError):
                os.unlink(left)
    return TaskResult(
        outcome=Outcome.SUCCEEDED,
        outputs=moved_paths(entry.outputs, RUNDIR, rundir),
        memento=moved_paths(entry.memento, RUNDIR, rundir),
        markers=entry.markers,
        commands=entry.commands,
        host=entry.host,
    )


def _drop_damaged(place: CachePlace, entry: Entry) -> None:
    """Look at every file of an entry, so that all that are damaged make room for what will be stored next."""
    for file in entry.files:
        with contextlib.suppress(CacheDamagedError):
            _verified(place, file)


def _verified(place: CachePlace, file: StoredFile) -> bytes:
    if file.packing not in _UNPACK or not re.fullmatch(r"[0-9a-f]{64}", file.digest):
        raise CacheDamagedError(f"its file {file.path} is stored in an unknown way")
    path = _blob_path(place, file.digest, file.packing)
    try:
        with open(path, "rb") as blob:
            content = _UNPACK[file.packing](blob.read())
    except FileNotFoundError:
        raise CacheDamagedError(f"the content of its file {file.path} is missing") from None
    except (OSError, EOFError, ValueError, zlib.error):
        content = b""
    if hashlib.sha256(content).hexdigest() == file.digest:
        return content
    if place.is_writable:
        with contextlib.suppress(OSError):
            os.unlink(path)
    raise CacheDamagedError(f"its file {file.path} has another content than was stored")


def _inside(rundir: str, path: str) -> str:
    target = os.path.normpath(os.path.join(rundir, path))
    if os.path.commonpath([target, rundir]) != rundir or target == rundir:
        raise CacheDamagedError(f"its file {path} leaves the run directory")
    return target


def _link(path: str, leads_to: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    os.symlink(leads_to, path)


def _stored(place: CachePlace, rundir: str, packing: str) -> tuple[list[StoredFile], dict[str, str]]:
    files, links = [], {}
    for path in files_below(rundir):
        relative = os.path.relpath(path, rundir)
        status = os.lstat(path)
        if stat.S_ISLNK(status.st_mode):
            links[relative] = _leads_inside(path, rundir)
        elif stat.S_ISREG(status.st_mode):
            with open(path, "rb") as file:
                content = file.read()
            digest = hashlib.sha256(content).hexdigest()
            blob = _blob_path(place, digest, packing)
            if not os.path.exists(blob):
                _write(place, blob, _PACK[packing](content))
            files.append(StoredFile(relative, stat.S_IMODE(status.st_mode) & 0o777, digest, packing))
    return files, links


def _leads_inside(path: str, rundir: str) -> str:
    target = os.readlink(path)
    reached = os.path.normpath(os.path.join(os.path.dirname(path), target))
    if os.path.isabs(target) or os.path.commonpath([reached, rundir]) != rundir:
        raise NotCacheableError(f"the link {os.path.basename(path)} leads out of the run directory")
    return target


def _refuse_outside(outputs: Sequence[Item], rundir: str) -> None:
    for item in outputs:
        base = str(item.get("basedir", ""))
        if names_files(item) and os.path.commonpath([os.path.normpath(base), rundir]) != rundir:
            raise NotCacheableError(f"it hands on files of {base}, outside its run directory")


def _write(place: CachePlace, path: str, content: bytes) -> None:
    directory = os.path.dirname(path)
    _make_directory(place, os.path.dirname(directory))
    _make_directory(place, directory)
    temporary = os.path.join(directory, f".{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
        os.chmod(temporary, 0o664 if place.is_shared else 0o644)
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _make_directory(place: CachePlace, path: str) -> None:
    if not os.path.isdir(path):
        os.makedirs(path, exist_ok=True)
        if place.is_shared:
            with contextlib.suppress(PermissionError):  # somebody else of the group has just made it
                os.chmod(path, 0o2775)  # noqa: S103  (a cache that a group shares is asked for)
