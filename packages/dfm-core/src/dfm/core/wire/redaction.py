"""What no log may show: values of variables whose names say that they are secret.

Whoever writes a log that others may read (the daemon, a worker) or tells of the pool keeps one `Redaction`, has it
learn every environment that it comes to know, and lets it look over each text.
"""

import logging
import re
from collections.abc import Mapping
from typing import TypeVar

_SECRET_NAMES = re.compile(r"TOKEN|SECRET|PASS|CREDENTIAL|_KEY\b|_KEY_|APIKEY|^KEY$", re.IGNORECASE)
_SHORTEST_SECRET = 8
"""A shorter value would blacken innocent words."""
_STARS = "***"
_Content = TypeVar("_Content")


class Redaction:
    """The secret values that are known, the longest first."""

    def __init__(self) -> None:
        self._values: list[str] = []

    def learn(self, variables: Mapping[str, str]) -> None:
        """Take note of the values that look like secrets by the names of their variables."""
        found = {value for name, value in variables.items() if _is_secret(name, value)}
        if not found.issubset(self._values):
            self._values = sorted(found.union(self._values), key=len, reverse=True)

    def hide(self, text: str) -> str:
        """Return the text with stars in the place of each secret."""
        for value in self._values:
            text = text.replace(value, _STARS)
        return text

    def hide_in(self, content: _Content) -> _Content:
        """Return content of lists, dictionaries and plain values with every text in it looked over."""
        if not self._values:
            return content
        hidden: object = content
        match content:
            case str():
                hidden = self.hide(content)
            case dict():
                hidden = {name: self.hide_in(value) for name, value in content.items()}
            case list():
                hidden = [self.hide_in(value) for value in content]
            case _:
                pass
        return hidden  # type: ignore[return-value]  # each arm keeps the kind

    def formatter(self, template: str) -> logging.Formatter:
        """Return what formats records of a log, tracebacks included, without secrets."""
        return _HidingFormatter(template, self)


class _HidingFormatter(logging.Formatter):
    def __init__(self, template: str, redaction: Redaction) -> None:
        super().__init__(template)
        self._redaction = redaction

    def format(self, record: logging.LogRecord) -> str:
        return self._redaction.hide(super().format(record))


def _is_secret(name: str, value: str) -> bool:
    return len(value) >= _SHORTEST_SECRET and _SECRET_NAMES.search(name) is not None
