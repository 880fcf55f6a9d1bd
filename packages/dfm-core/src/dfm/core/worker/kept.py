"""Results that nobody has acknowledged yet, on disk: a worker that dies between finish and answer loses nothing.

They lie beside the access file, where the next life of the slot finds them, on whatever host it is. A file is written
beside and renamed; it is not synced: it must outlive the process, not the host.
"""

import contextlib
import os

import msgspec

from dfm.core.wire.access import private_directory
from dfm.core.wire.messages import Result

_SUFFIX = ".result"


class KeptResults:
    """The unacknowledged results of a slot.

    Args:
        access_directory: private; see `access`.
        slot: whose.
    """

    def __init__(self, access_directory: str, slot: str) -> None:
        self._parent = os.path.join(access_directory, "results")
        self._directory = os.path.join(self._parent, slot)

    def load(self) -> list[Result]:
        """Return what an earlier life has left; what cannot be read is no result."""
        private_directory(self._parent)
        private_directory(self._directory)
        found: list[Result] = []
        for name in sorted(os.listdir(self._directory)):
            path = os.path.join(self._directory, name)
            with contextlib.suppress(OSError, msgspec.DecodeError):
                if name.endswith(_SUFFIX):
                    with open(path, "rb") as file:
                        found.append(msgspec.msgpack.decode(file.read(), type=Result))
                else:
                    os.unlink(path)
        return found

    def keep(self, result: Result) -> None:
        """Write a result down; raises OSError where the disk does not take it."""
        path = self._path(result.attempt)
        fd = os.open(f"{path}.part", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            file.write(msgspec.msgpack.encode(result))
        os.rename(f"{path}.part", path)

    def forget(self, attempt: int) -> None:
        """Remove what was written down of an attempt."""
        with contextlib.suppress(OSError):
            os.unlink(self._path(attempt))

    def close(self) -> None:
        """Remove the directory where nothing is left in it."""
        with contextlib.suppress(OSError):
            os.rmdir(self._directory)

    def _path(self, attempt: int) -> str:
        return os.path.join(self._directory, f"{attempt}{_SUFFIX}")
