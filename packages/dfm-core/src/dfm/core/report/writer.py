"""A stream that never stops a run: whoever reads it may leave, and need not know every character."""

from typing import TextIO


class Writer:
    """Writes to a stream until that fails, then is silent."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_open = True

    @property
    def is_terminal(self) -> bool:
        """Whether somebody looks at it while it grows."""
        return self._is_open and self._stream.isatty()

    def write(self, text: str) -> None:
        """Write text as it is."""
        if not self._is_open:
            return
        try:
            self._stream.write(text)
            self._stream.flush()
        except UnicodeEncodeError:
            encoding = self._stream.encoding or "ascii"
            self.write(text.encode(encoding, "replace").decode(encoding))
        except (OSError, ValueError):
            self._is_open = False

    def line(self, text: str = "") -> None:
        """Write a line."""
        self.write(f"{text}\n")
