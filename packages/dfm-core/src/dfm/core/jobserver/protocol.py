"""What `MAKEFLAGS` says of a jobserver: reading it and writing it. No descriptors here.

GNU make up to 4.3 knows the pipe form, `--jobserver-auth=R,W` (4.1 and older: `--jobserver-fds=R,W`), two inherited
descriptors; make 4.4 also the fifo form, `--jobserver-auth=fifo:PATH`; ninja 1.13 the fifo form. Make 4.3 dies on a
fifo form that it meets as an option, ninja takes the last word that looks like one. So we write both, the fifo behind
the `--` after which make reads variable definitions only and hands them on untouched: each finds the form that it
knows.

Sources: GNU make manual, "Sharing Job Slots with GNU make"; make 4.3 and ninja 1.13 were run. Make 4.4 reads the pipe
form too, by its manual.
"""

import re

from msgspec import Struct

_AUTH = re.compile(r"--jobserver-(?:auth|fds)=(?P<value>\S+)")
_PIPE = re.compile(r"(?P<read>-?\d+),(?P<write>-?\d+)\Z")


class PipeAuth(Struct, frozen=True):
    """A jobserver behind two inherited descriptors."""

    read_fd: int
    write_fd: int


class FifoAuth(Struct, frozen=True):
    """A jobserver behind a named FIFO."""

    path: str


Auth = PipeAuth | FifoAuth


def parse_auth(makeflags: str) -> list[Auth]:
    """Return the jobservers that `MAKEFLAGS` names, the one to prefer first.

    Among the options before `--` the last one counts, as make has it; what stands behind `--` comes after.
    """
    options, _, definitions = f" {makeflags} ".partition(" -- ")
    found = []
    for part in (options, definitions):
        auths = [auth for match in _AUTH.finditer(part) if (auth := _parse(match["value"])) is not None]
        found += auths[-1:]
    return found


def format_makeflags(jobs: int, pipe: PipeAuth, fifo: FifoAuth) -> str:
    """Return the `MAKEFLAGS` that lets make and ninja find our jobserver."""
    return f" -j{jobs} --jobserver-auth={pipe.read_fd},{pipe.write_fd} -- --jobserver-auth=fifo:{fifo.path}"


def _parse(value: str) -> Auth | None:
    if value.startswith("fifo:"):
        return FifoAuth(value.removeprefix("fifo:"))
    pipe = _PIPE.match(value)
    if pipe is None or int(pipe["read"]) < 0 or int(pipe["write"]) < 0:
        return None
    return PipeAuth(int(pipe["read"]), int(pipe["write"]))
