"""Requests, results, questions and answers as bytes that only the client and the worker understand.

JSON-like values arrive as they were: a text that is no Unicode and a number beyond 64 bits travel as extensions, which
are looked for only where the plain way fails. Tuples arrive as lists.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from dfm.api.items import Item
from dfm.api.runner import Body, BuiltinBody, PythonBody, Resources, ShellBody, TaskRequest, TaskResult
from dfm.core.wire.frame import ProtocolError

_TEXT, _NUMBER, _PAIRS = 1, 2, 3
_Kind = TypeVar("_Kind")


_BODIES: Mapping[str, type[Body]] = {"shell": ShellBody, "python": PythonBody, "builtin": BuiltinBody}
_KIND_OF: Mapping[type[Body], str] = {kind: name for name, kind in _BODIES.items()}


class _Request(msgspec.Struct, frozen=True, kw_only=True):
    run_id: str
    task: str
    attempt: int
    rundir: str
    srcdir: str
    root_pkgdir: str
    root_rundir: str
    artefact: str
    kind: str
    body: dict[str, Any]
    params: dict[str, Any]
    inputs: list[Item]
    memento: Any
    set: dict[str, str]
    unset: list[str]
    changed: bool
    resources: Resources


def encode_request(request: TaskRequest, base: Mapping[str, str] | None = None) -> bytes:
    """Return the request as bytes; its environment as the difference to `base`, which travels by itself."""
    known = base or {}
    return _encode(
        {
            "run_id": request.run_id,
            "task": request.task,
            "attempt": request.attempt,
            "rundir": request.rundir,
            "srcdir": request.srcdir,
            "root_pkgdir": request.root_pkgdir,
            "root_rundir": request.root_rundir,
            "artefact": request.artefact,
            "kind": _KIND_OF[type(request.body)],
            "body": msgspec.to_builtins(request.body),
            "params": dict(request.params),
            "inputs": list(request.inputs),
            "memento": request.memento,
            "set": {name: value for name, value in request.env.items() if known.get(name) != value},
            "unset": [name for name in known if name not in request.env],
            "changed": request.changed,
            "resources": msgspec.to_builtins(request.resources),
        }
    )


def decode_request(data: bytes, base: Mapping[str, str] | None = None) -> TaskRequest:
    """Return the request that the bytes hold.

    Args:
        data: of `encode_request`.
        base: the environment that it was encoded against.

    Raises:
        ProtocolError: they hold none.
    """
    wire = _decode(data, _Request)
    env = {**(base or {}), **wire.set}
    for name in wire.unset:
        env.pop(name, None)
    return TaskRequest(
        run_id=wire.run_id,
        task=wire.task,
        attempt=wire.attempt,
        rundir=wire.rundir,
        srcdir=wire.srcdir,
        root_pkgdir=wire.root_pkgdir,
        root_rundir=wire.root_rundir,
        artefact=wire.artefact,
        body=_body(wire.kind, wire.body),
        params=wire.params,
        inputs=wire.inputs,
        memento=wire.memento,
        env=env,
        changed=wire.changed,
        resources=wire.resources,
    )


def encode_result(result: TaskResult) -> bytes:
    """Return the result as bytes."""
    return _encode(msgspec.to_builtins(result))


def decode_result(data: bytes) -> TaskResult:
    """Return the result that the bytes hold.

    Raises:
        ProtocolError: they hold none.
    """
    return _decode(data, TaskResult)


def encode_talk(content: Mapping[str, Any]) -> bytes:
    """Return a question or an answer as bytes."""
    return _encode(dict(content))


def decode_talk(data: bytes) -> dict[str, Any]:
    """Return the question or the answer.

    Raises:
        ProtocolError: they are no such bytes.
    """
    return _decode(data, dict[str, Any])


def _body(kind: str, fields: Mapping[str, Any]) -> Body:
    try:
        return msgspec.convert(fields, _BODIES[kind])
    except (KeyError, msgspec.ValidationError) as error:
        raise ProtocolError(f"what came is no body of a task: {error}") from error


def _encode(value: object) -> bytes:
    try:
        return msgspec.msgpack.encode(value)
    except (UnicodeEncodeError, OverflowError):
        return msgspec.msgpack.encode(_extended(value))


def _decode(data: bytes, kind: type[_Kind]) -> _Kind:
    try:
        return msgspec.convert(msgspec.msgpack.decode(data, ext_hook=_plain), kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError, TypeError) as error:
        raise ProtocolError(f"what came is no {kind.__name__.strip('_')}: {error}") from error


def _extended(value: Any) -> Any:  # noqa: ANN401  (JSON)
    """Return the value with extensions for what MessagePack has no word for."""
    match value:
        case str():
            return _extended_text(value)
        case bool():
            return value
        case int() if not -(1 << 63) <= value < 1 << 64:
            return msgspec.msgpack.Ext(_NUMBER, str(value).encode())
        case Mapping():
            return _extended_mapping(value)
        case Sequence():
            return [_extended(item) for item in value]
        case _:
            return value


def _extended_mapping(value: Mapping[Any, Any]) -> Any:  # noqa: ANN401  (JSON)
    pairs = [(_extended(name), _extended(item)) for name, item in value.items()]
    if any(isinstance(name, msgspec.msgpack.Ext) for name, _ in pairs):  # an extension cannot be a key
        return msgspec.msgpack.Ext(_PAIRS, msgspec.msgpack.encode(pairs))
    return dict(pairs)


def _extended_text(text: str) -> str | msgspec.msgpack.Ext:
    try:
        text.encode()
    except UnicodeEncodeError:
        return msgspec.msgpack.Ext(_TEXT, text.encode("utf-8", "surrogatepass"))
    return text


def _plain(code: int, content: memoryview) -> object:
    if code == _TEXT:
        return bytes(content).decode("utf-8", "surrogatepass")
    if code == _NUMBER:
        return int(bytes(content))
    if code == _PAIRS:
        return dict(msgspec.msgpack.decode(content, ext_hook=_plain))
    raise ValueError(f"an extension of kind {code} is not one of ours")
