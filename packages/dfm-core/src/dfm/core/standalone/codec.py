"""Requests and results as bytes in files: JSON, with the kind of body beside the rest."""

from typing import Any

import msgspec

from dfm.api.runner import Body, BuiltinBody, PythonBody, Resources, ShellBody, TaskRequest, TaskResult

_BODIES: dict[str, type[Any]] = {"shell": ShellBody, "python": PythonBody, "builtin": BuiltinBody}


def request_to_bytes(request: TaskRequest) -> bytes:
    """Return a request as bytes."""
    kind = next(kind for kind, body in _BODIES.items() if isinstance(request.body, body))
    return msgspec.json.encode({"kind": kind, "request": request})


def request_from_bytes(content: bytes) -> TaskRequest:
    """Return the request that bytes hold.

    Raises:
        ValueError: they hold none.
    """
    fields = msgspec.json.decode(content)
    try:
        kind, values = fields["kind"], fields["request"]
        body: Body = msgspec.convert(values.pop("body"), _BODIES[kind])
        resources = msgspec.convert(values.pop("resources"), Resources)
        return TaskRequest(body=body, resources=resources, **values)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a request: {error!r}") from error


def result_to_bytes(result: TaskResult) -> bytes:
    """Return a result as bytes."""
    return msgspec.json.encode(result)


def result_from_bytes(content: bytes) -> TaskResult:
    """Return the result that bytes hold.

    Raises:
        ValueError: they hold none.
    """
    return msgspec.json.decode(content, type=TaskResult)
