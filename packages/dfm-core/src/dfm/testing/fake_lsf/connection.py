"""Asking mbatchd from this process, without a thin client and without a line in the log."""

import json
import os
import socket

from dfm.testing.fake_lsf.mbatchd import SOCKET


class MbatchdIsAwayError(ConnectionError):
    """Nobody listens in FAKE_LSF_DIR, or it went away before it answered."""


class CtlRefusedError(ValueError):
    """mbatchd refused a control request; the message is its words."""


def ask(directory: str, words: list[str], seconds: float) -> str:
    """Do what `fakelsf WORD...` does, and return its output.

    Raises:
        MbatchdIsAwayError: mbatchd is down.
        CtlRefusedError: the request makes no sense.
        TimeoutError: no answer within `seconds`.
    """
    request = json.dumps({"command": "fakelsf", "argv": words, "env": {}, "cwd": "/"}) + "\n"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(seconds)
        _connect(connection, directory)
        connection.sendall(request.encode())
        with connection.makefile("rb") as answer:
            written = {b"o": "", b"e": ""}
            while header := answer.readline():
                kind, number = header.split()
                if kind == b"r":
                    if int(number):
                        raise CtlRefusedError(written[b"e"].rstrip("\n"))
                    return written[b"o"]
                written[kind] += answer.read(int(number)).decode()
    raise MbatchdIsAwayError(f"mbatchd of {directory} went away")


def _connect(connection: socket.socket, directory: str) -> None:
    """Connect through /proc/self/fd, for the path of a socket may have 107 bytes only."""
    place = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        connection.connect(f"/proc/self/fd/{place}/{SOCKET}")
    except (FileNotFoundError, ConnectionRefusedError) as fault:
        raise MbatchdIsAwayError(f"mbatchd of {directory} is down") from fault
    finally:
        os.close(place)
