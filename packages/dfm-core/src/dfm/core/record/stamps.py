"""What a file was when it was looked at: identity by content, with a short cut for what did not move.

A stamp holds size, mtime, ctime, inode and the SHA-256 of the content. If the first four are as before, the content is
taken as before, without reading it, unless the stamp is *racy*: a file changed at about the moment at which it was
hashed may have changed again within the same tick of the file system's clock (git knows this as a racy entry). Such a
file is read again. Touching a file or writing the same content anew is no change.
"""

import hashlib
import os
import stat
import time
from collections.abc import Iterator, Sequence

import msgspec

RACY_SECONDS = 0.1
"""Above every tick of a local file system (4 ms at most); a file that changed this close to its hashing is read
again."""
MAX_FILES = 100_000
"""Files below one listed directory; more makes the directory itself the input, by its names only."""
_ENDINGS = (".exec_data.json", ".log", "_cmd.sh")
RECORD_NAME, _SCRIPT_NAME = "exec_data.json", "cmd.sh"
"""What DFM calls its files in a run directory that is one task's alone."""


class Stamp(msgspec.Struct, frozen=True, array_like=True):
    """What one file was; `digest` is None for what is missing or cannot be read."""

    digest: str | None
    size: int = 0
    mtime_ns: int = 0
    ctime_ns: int = 0
    inode: int = 0
    hashed_at_ns: int = 0

    @property
    def is_racy(self) -> bool:
        """Whether the file could have changed after it was hashed without its times telling."""
        return max(self.mtime_ns, self.ctime_ns) > self.hashed_at_ns - int(RACY_SECONDS * 1e9)

    def fits(self, status: os.stat_result) -> bool:
        """Whether the file is as it was, so far as that can be seen without reading it."""
        return not self.is_racy and (self.size, self.mtime_ns, self.ctime_ns, self.inode) == (
            status.st_size,
            status.st_mtime_ns,
            status.st_ctime_ns,
            status.st_ino,
        )


MISSING = Stamp(None)


class Stamper:
    """Looks at files, and reads each once for as long as nothing says that it may have changed."""

    def __init__(self) -> None:
        self._seen: dict[str, Stamp] = {}

    def stamp(self, path: str, known: Stamp | None = None) -> Stamp:
        """Return the stamp of a file; `known` is an older one, whose hash is taken over where it still fits."""
        result = self._seen[path] = _stamp(path, self._seen.get(path, known))
        return result

    def fresh(self, path: str) -> Stamp:
        """Return the stamp of a file that has just been written: what was seen before does not count."""
        result = self._seen[path] = _stamp(path, None)
        return result


def files_below(directory: str) -> Iterator[str]:
    """Yield the regular files below a directory, sorted, hidden ones and DFM's own left out."""
    count = 0
    for base, directories, files in os.walk(directory):
        directories[:] = sorted(name for name in directories if not name.startswith("."))
        for name in _not_ours(files):
            count += 1
            if count > MAX_FILES:
                return
            yield os.path.join(base, name)


def files_in(directory: str) -> list[str]:
    """Return the regular files directly in a directory, sorted, hidden ones and DFM's own left out."""
    try:
        with os.scandir(directory) as entries:
            files = [entry.name for entry in entries if entry.is_file()]
    except OSError:
        return []
    return [os.path.join(directory, name) for name in _not_ours(files)]


def _not_ours(names: Sequence[str]) -> list[str]:
    """Return the names of files in one directory, sorted, without hidden ones and those that DFM writes there."""
    ours = {RECORD_NAME, _SCRIPT_NAME} if RECORD_NAME in names else ()
    return [
        name
        for name in sorted(names)
        if not name.startswith((".", "dfm.")) and not name.endswith(_ENDINGS) and name not in ours
    ]


def _stamp(path: str, known: Stamp | None) -> Stamp:
    try:
        status = os.stat(path)
        if known is not None and known.digest is not None and known.fits(status):
            return known
        if not stat.S_ISREG(status.st_mode):
            return Stamp(f"not a file: {stat.S_IFMT(status.st_mode):o}")
        now = time.time_ns()
        with open(path, "rb", buffering=0) as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return MISSING
    return Stamp(digest, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, now)
