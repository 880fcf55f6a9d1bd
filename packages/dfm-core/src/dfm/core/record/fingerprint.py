"""What decides whether a task's last result still stands, part by part, so that a difference can be named.

Covered are: the body and its shell, the files of the body, the parameters, the consumed items with the content of the
files they name, the tools and environment variables the task declares, and what it declares to produce. Values of
environment variables are kept as hashes only: records are read by many.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct, field, structs

from dfm.api.items import Item, names_files
from dfm.core.record.stamps import Stamp, Stamper, files_below, files_in

_encode_text = msgspec.json.Encoder(order="sorted", enc_hook=str).encode


class TaskFacts(Struct, frozen=True, kw_only=True):
    """What the fingerprint of a task covers.

    Attributes:
        body: kind, text, shell and so on.
        body_files: absolute paths of the files the body names.
        inputs: the consumed items, in order.
        environment: declared variables with their values; None for unset.
        tools: declared commands with the path each was found at, or None.
        declared: what the task says about its results.
    """

    task: str
    body: Mapping[str, Any]
    params: Mapping[str, Any]
    inputs: Sequence[Item]
    body_files: Sequence[str] = ()
    environment: Mapping[str, str | None] = field(default_factory=dict)
    tools: Mapping[str, str | None] = field(default_factory=dict)
    declared: Mapping[str, Any] = field(default_factory=dict)


class Fingerprint(msgspec.Struct, frozen=True):
    """The parts, by which a difference is named, and one digest over all of them.

    Attributes:
        items: digest of each consumed item, by `src#seq`, in order.
        files: stamp of each file that is an input, by absolute path.
        environment: hash of each declared variable's value.
        tools: path, size and mtime of each declared tool.
    """

    digest: str
    body: str
    declared: str
    params: dict[str, str]
    items: dict[str, str]
    files: dict[str, Stamp]
    environment: dict[str, str]
    tools: dict[str, str]


def take(facts: TaskFacts, stamper: Stamper, known: Fingerprint | None) -> Fingerprint:
    """Return the fingerprint of a task as things stand now; `known` is that of its last run, mostly the same."""
    before = {} if known is None else known.files
    files = {path: stamper.stamp(path, before.get(path)) for path in _input_files(facts)}
    tools = {name: _tool(path) for name, path in facts.tools.items()}
    contents = [[path, stamp.digest] for path, stamp in files.items()]
    inputs, environment = facts.inputs, facts.environment
    whole = digest_of([facts.task, facts.body, facts.declared, facts.params, inputs, contents, environment, tools])
    if known is not None and known.digest == whole:
        return structs.replace(known, files=files) if files else known
    return Fingerprint(
        whole,
        body=digest_of(facts.body),
        declared=digest_of(facts.declared),
        params={name: shown(value) for name, value in facts.params.items()},
        items={f"{item.get('src', '')}#{item.get('seq', 0)}": digest_of(item) for item in inputs},
        files=files,
        environment={name: "unset" if value is None else digest_of(value) for name, value in environment.items()},
        tools=tools,
    )


def shown(value: object) -> str:
    """Return a parameter's value as text for comparison and for a person; long ones by their hash."""
    text = _encode(value).decode()
    return text if len(text) <= 200 else f"{text[:60]}... sha256:{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _encode(value: object) -> bytes:
    """Return a value as JSON; bytes of the environment that are no UTF-8 are written as escapes."""
    try:
        return _encode_text(value)
    except UnicodeEncodeError:
        return json.dumps(value, sort_keys=True, default=str).encode()


def digest_of(value: object) -> str:
    """Return the SHA-256 of a JSON-like value, independent of the order of keys."""
    return hashlib.sha256(_encode(value)).hexdigest()


def files_of(item: Mapping[str, Any], rundir: str | None = None) -> Iterator[str]:
    """Yield the absolute paths of the files an item names; a relative `basedir` is taken from `rundir`."""
    if not names_files(item):
        return
    base = os.path.join(rundir or "/", str(item.get("basedir", "")))
    for name in item.get("files", ()):
        path = os.path.normpath(os.path.join(base, str(name)))
        if os.path.isdir(path):
            yield from files_below(path)
        else:
            yield path


def _input_files(facts: TaskFacts) -> Iterator[str]:
    yield from facts.body_files
    for item in facts.inputs:
        yield from files_of(item)
        if names_files(item):
            for directory in item.get("incdirs", ()):
                yield from files_in(os.path.join(str(item.get("basedir", "")), str(directory)))


def _tool(path: str | None) -> str:
    if path is None:
        return "not found"
    try:
        real = os.path.realpath(path)
        status = os.stat(real)
    except OSError:
        return "not found"
    return f"{real} {status.st_size} {status.st_mtime_ns}"
