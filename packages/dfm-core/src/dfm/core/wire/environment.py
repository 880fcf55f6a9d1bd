"""Environments on the wire: what may travel, once each.

An environment is sent once and named by its digest; a request carries only its difference. Values that are no Unicode
(surrogate escapes) arrive to the byte: such a text travels behind a NUL, which no variable can contain.
"""

import fnmatch
import hashlib
import re
from collections.abc import Mapping, Sequence

from dfm.core.wire.messages import Environment


def travelling(variables: Mapping[str, str], allow: Sequence[str], deny: Sequence[str]) -> dict[str, str]:
    """Return the variables that a pattern allows and none denies; patterns are those of a shell, case counts."""
    allowed, denied = _matcher(allow), _matcher(deny)
    return {name: value for name, value in variables.items() if allowed.match(name) and not denied.match(name)}


def environment_message(variables: Mapping[str, str]) -> Environment:
    """Return the message that sends an environment; equal environments have equal digests."""
    packed = {_packed(name): _packed(variables[name]) for name in sorted(variables)}
    digest = hashlib.sha256()
    for name, value in packed.items():
        for text in (name, value):
            digest.update(len(text).to_bytes(4, "big"))
            digest.update(text.encode())
    return Environment(digest=digest.hexdigest(), variables=packed)


def variables_of(message: Environment) -> dict[str, str]:
    """Return the environment that a message holds, to the byte."""
    return {_unpacked(name): _unpacked(value) for name, value in message.variables.items()}


def _matcher(patterns: Sequence[str]) -> re.Pattern[str]:
    if not patterns:
        return re.compile(r"(?!)")
    return re.compile("|".join(f"(?:{fnmatch.translate(pattern)})" for pattern in patterns))


def _packed(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return "\0" + text.encode("utf-8", "surrogateescape").decode("latin-1")
    return text


def _unpacked(text: str) -> str:
    return text[1:].encode("latin-1").decode("utf-8", "surrogateescape") if text.startswith("\0") else text
