"""Messages, requests and results as bytes.

A request's environment is split off: what the tasks of a run have in common travels once, as an `Environment` under its
digest, and a request holds the differences. Names and values of variables, and paths, are bytes as the system has them.
Values of tasks are JSON-like; what MessagePack has no form for (an integer beyond 64 bits, half a surrogate pair that
came out of JSON) travels as JSON.
"""

import fnmatch
import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from dfm.api.runner import (
    Body,
    BuiltinBody,
    CommandRecord,
    Outcome,
    PythonBody,
    PythonSource,
    Resources,
    ShellBody,
    TaskRequest,
    TaskResult,
)
from dfm.api.task import Marker, MarkerLocation, Severity
from dfm.core.wire.frame import ProtocolError, joined
from dfm.core.wire.messages import Environment, FromClient, FromWorker, Message, ToClient, ToWorker

M = TypeVar("M")
Decode = Callable[[bytes], "list[M]"]

_encoder = msgspec.msgpack.Encoder()


class _Request(msgspec.Struct, frozen=True, array_like=True):
    run_id: str
    task: str
    attempt: int
    rundir: bytes
    srcdir: bytes
    root_pkgdir: bytes
    root_rundir: bytes
    artefact: str
    body: tuple[str, ...]
    values: bytes
    env_set: dict[bytes, bytes]
    env_unset: list[bytes]
    changed: bool
    resources: Resources


class _Marker(msgspec.Struct, frozen=True, array_like=True):
    severity: str
    msg: str
    path: str | None
    line: int
    pos: int


class _Result(msgspec.Struct, frozen=True, array_like=True):
    outcome: str
    cause: str | None
    status: int
    changed: bool
    values: bytes
    markers: list[_Marker]
    commands: list[tuple[str, int]]
    text: str
    host: str
    started_at: str
    seconds: float
    cpu_seconds: float
    max_rss_bytes: int


_request_decoder = msgspec.msgpack.Decoder(_Request)
_result_decoder = msgspec.msgpack.Decoder(_Result)


def encode_messages(messages: Sequence[Message]) -> bytes:
    """Return the body of a frame that says these messages, in order."""
    return _encoder.encode(messages)


def _decoder(kind: Any) -> Callable[[bytes], list[Any]]:  # noqa: ANN401  (a union of types is no type to mypy)
    whole = msgspec.msgpack.Decoder(list[kind])
    single = msgspec.msgpack.Decoder(kind)
    tags = frozenset(struct.__struct_config__.tag for struct in kind.__args__)

    def decode(body: bytes) -> list[Any]:
        try:
            return whole.decode(body)
        except msgspec.ValidationError:
            return _known(body)
        except (msgspec.DecodeError, UnicodeError) as error:
            raise ProtocolError(f"what came is no list of messages: {error}") from error

    def _known(body: bytes) -> list[Any]:
        """Decode one by one and pass over what a newer peer may say."""
        found = []
        try:
            for raw in msgspec.msgpack.decode(body, type=list[msgspec.Raw]):
                tag = msgspec.msgpack.decode(raw, type=dict[str, Any]).get("t")
                if tag in tags:
                    found.append(single.decode(raw))
        except (msgspec.DecodeError, UnicodeError) as error:
            raise ProtocolError(f"a message is not as it must be: {error}") from error
        return found

    return decode


decode_from_worker: Callable[[bytes], list[FromWorker]] = _decoder(FromWorker)
decode_to_worker: Callable[[bytes], list[ToWorker]] = _decoder(ToWorker)
decode_from_client: Callable[[bytes], list[FromClient]] = _decoder(FromClient)
decode_to_client: Callable[[bytes], list[ToClient]] = _decoder(ToClient)


def travelling(environ: Mapping[str, str], allow: Sequence[str], deny: Sequence[str]) -> dict[str, str]:
    """Return those variables that may leave this host: an `allow` pattern matches and no `deny` pattern does."""
    allowed, denied = _any_of(allow), _any_of(deny)
    return {name: value for name, value in environ.items() if allowed(name) and not denied(name)}


def environment_for(variables: Mapping[str, str]) -> Environment:
    """Return variables under the digest of their names and values."""
    coded = {os.fsencode(name): os.fsencode(value) for name, value in sorted(variables.items())}
    text = joined(part for pair in coded.items() for part in pair)
    return Environment(digest=hashlib.sha256(text).hexdigest()[:32], variables=coded)


def encode_request(request: TaskRequest, environment: Environment) -> bytes:
    """Return a request as bytes, its environment as the differences from `environment`."""
    coded = {os.fsencode(name): os.fsencode(value) for name, value in request.env.items()}
    base = environment.variables
    return _encoder.encode(
        _Request(
            run_id=request.run_id,
            task=request.task,
            attempt=request.attempt,
            rundir=os.fsencode(request.rundir),
            srcdir=os.fsencode(request.srcdir),
            root_pkgdir=os.fsencode(request.root_pkgdir),
            root_rundir=os.fsencode(request.root_rundir),
            artefact=request.artefact,
            body=_body_words(request.body),
            values=_encode_values((dict(request.params), list(request.inputs), request.memento)),
            env_set={name: value for name, value in coded.items() if base.get(name) != value},
            env_unset=[name for name in base if name not in coded],
            changed=request.changed,
            resources=request.resources,
        )
    )


def decode_request(spec: bytes, variables: Mapping[bytes, bytes], *, attempt: int) -> TaskRequest:
    """Return the request in `spec`.

    Args:
        spec: as `encode_request` made it.
        variables: the environment that the request's digest names.
        attempt: which of the pool's own attempts this is, from 1; it counts on from that of the request.

    Raises:
        ProtocolError: it is not one.
    """
    try:
        coded = _request_decoder.decode(spec)
        params, inputs, memento = _decode_values(coded.values)
    except (msgspec.DecodeError, ValueError) as error:
        raise ProtocolError(f"a request is not as it must be: {error}") from error
    env = {**variables, **coded.env_set}
    for name in coded.env_unset:
        env.pop(name, None)
    return TaskRequest(
        run_id=coded.run_id,
        task=coded.task,
        attempt=coded.attempt + attempt - 1,
        rundir=os.fsdecode(coded.rundir),
        srcdir=os.fsdecode(coded.srcdir),
        root_pkgdir=os.fsdecode(coded.root_pkgdir),
        root_rundir=os.fsdecode(coded.root_rundir),
        artefact=coded.artefact,
        body=_body(coded.body),
        params=params,
        inputs=inputs,
        memento=memento,
        env={os.fsdecode(name): os.fsdecode(value) for name, value in env.items()},
        changed=coded.changed,
        resources=coded.resources,
    )


def encode_result(result: TaskResult) -> bytes:
    """Return a result as bytes."""
    return _encoder.encode(
        _Result(
            outcome=str(result.outcome),
            cause=_plain(result.cause),
            status=result.status,
            changed=result.changed,
            values=_encode_values((list(result.outputs), result.memento)),
            markers=[_coded_marker(marker) for marker in result.markers],
            commands=[(_plain(command.cmd) or "", command.status) for command in result.commands],
            text=_plain(result.text) or "",
            host=result.host,
            started_at=result.started_at,
            seconds=result.seconds,
            cpu_seconds=result.cpu_seconds,
            max_rss_bytes=result.max_rss_bytes,
        )
    )


def decode_result(body: bytes) -> TaskResult:
    """Return the result in `body`.

    Raises:
        ProtocolError: it is not one.
    """
    try:
        coded = _result_decoder.decode(body)
        outputs, memento = _decode_values(coded.values)
        return TaskResult(
            outcome=Outcome(coded.outcome),
            cause=coded.cause,
            status=coded.status,
            changed=coded.changed,
            outputs=outputs,
            memento=memento,
            markers=[_marker(marker) for marker in coded.markers],
            commands=[CommandRecord(cmd, status) for cmd, status in coded.commands],
            text=coded.text,
            host=coded.host,
            started_at=coded.started_at,
            seconds=coded.seconds,
            cpu_seconds=coded.cpu_seconds,
            max_rss_bytes=coded.max_rss_bytes,
        )
    except (msgspec.DecodeError, ValueError) as error:
        raise ProtocolError(f"a result is not as it must be: {error}") from error


def _any_of(patterns: Sequence[str]) -> Callable[[str], bool]:
    if not patterns:
        return lambda _: False
    matcher = re.compile("|".join(fnmatch.translate(pattern) for pattern in patterns))
    return lambda name: matcher.match(name) is not None


def _body_words(body: Body) -> tuple[str, ...]:
    match body:
        case ShellBody(text, shell):
            return ("shell", text, shell)
        case PythonBody(source, text, function, location):
            return ("python", str(source), text, function, location)
        case BuiltinBody(name):
            return ("builtin", name)


def _body(words: Sequence[str]) -> Body:
    match words:
        case ["shell", text, shell]:
            return ShellBody(text, shell)
        case ["python", source, text, function, location]:
            return PythonBody(PythonSource(source), text, function, location)
        case ["builtin", name]:
            return BuiltinBody(name)
        case _:
            raise ProtocolError(f"a request has a body of a kind that is not known: {words[:1]}")


def _encode_values(values: object) -> bytes:
    try:
        return b"m" + _encoder.encode(values)
    except (UnicodeEncodeError, OverflowError, TypeError):
        return b"j" + json.dumps(values).encode("ascii")


def _decode_values(coded: bytes) -> Any:  # noqa: ANN401  (JSON)
    return msgspec.msgpack.decode(coded[1:]) if coded[:1] == b"m" else json.loads(coded[1:])


def _coded_marker(marker: Marker) -> _Marker:
    loc = marker.loc
    return _Marker(
        str(marker.severity),
        _plain(marker.msg) or "",
        None if loc is None else _plain(loc.path),
        0 if loc is None else loc.line,
        0 if loc is None else loc.pos,
    )


def _marker(coded: _Marker) -> Marker:
    loc = None if coded.path is None else MarkerLocation(coded.path, coded.line, coded.pos)
    return Marker(Severity(coded.severity), coded.msg, loc)


def _plain(text: str | None) -> str | None:
    """Return text for people as text that can be written: half a surrogate pair becomes its escape."""
    if text is None or text.isascii():
        return text
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
