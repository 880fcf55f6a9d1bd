"""Environments on the wire: what may travel, once each, and what of it no log may show.

An environment is sent once and named by its digest; a request carries only its difference. Values that are no Unicode
(surrogate escapes) arrive to the byte: such a text travels behind a NUL, which no variable can contain.
"""

import fnmatch
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence

from dfm.core.wire.messages import Environment

_SECRET_NAMES = re.compile(r"TOKEN|SECRET|PASS|CREDENTIAL|_KEY\b|_KEY_|APIKEY|^KEY$", re.IGNORECASE)
_SHORTEST_SECRET = 8
"""A shorter value would blacken innocent words."""


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


def secret_values(variables: Mapping[str, str]) -> frozenset[str]:
    """Return the values that look like secrets by the names of their variables."""
    return frozenset(
        value for name, value in variables.items() if len(value) >= _SHORTEST_SECRET and _SECRET_NAMES.search(name)
    )


def redact(text: str, secret: Iterable[str]) -> str:
    """Return the text with stars in the place of each secret, longest first."""
    for value in sorted(secret, key=len, reverse=True):
        text = text.replace(value, "***")
    return text


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
