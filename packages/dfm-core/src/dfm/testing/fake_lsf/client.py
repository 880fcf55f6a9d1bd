"""What `bsub`, `bjobs` and the others on PATH are: one request over a Unix socket, and a line in the log.

Started as `python -I -S client.py DIR COMMAND WORD...`. It must start in some 20 ms, since tests call it a thousand
times; so it imports C modules only and knows nothing of LSF. The answer is a sequence of frames, `o LENGTH` or
`e LENGTH` with that many bytes for stdout or stderr, `i 0` to ask for our stdin, and `r STATUS` as the last.

While nobody listens it does what LSF's commands do: it says so again and again, for ever or `LSB_NTRIES` times.
"""

import _socket
import os
import sys
import time
from _json import encode_basestring_ascii as quoted

LOGGED = ("LSB_", "LSF_", "LS_", "BSUB_", "LC_ALL", "LANG")
STATUS_AWAY = 255


def main() -> int:
    """Ask, and keep a record of it: when, what, with which of LSF's variables, with what status."""
    directory, command, *words = sys.argv[1:]
    identity = f"{os.getpid()}-{time.monotonic_ns()}"
    logged = {name: value for name, value in os.environ.items() if name.startswith(LOGGED)}
    _log(directory, identity, f'"command":{quoted(command)},"argv":{_list(words)},"env":{_object(logged)}')
    try:
        status = _ask(directory, command, words)
    except KeyboardInterrupt:
        status = 130
    except BrokenPipeError:
        status = 141
    _log(directory, identity, f'"status":{status}')
    return status


def _log(directory: str, identity: str, fields: str) -> None:
    line = f'{{"id":{quoted(identity)},"time":{time.clock_gettime(time.CLOCK_REALTIME)!r},{fields}}}\n'
    log = os.open(directory + "/invocations.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.write(log, line.encode())
    os.close(log)


def _ask(directory: str, command: str, words: list[str]) -> int:
    cwd = os.getcwd()
    os.chdir(directory)  # the path of a socket may have 107 bytes only
    connection = _connect()
    if connection is None:
        return STATUS_AWAY
    umask = os.umask(0o022)
    request = (
        f'{{"command":{quoted(command)},"argv":{_list(words)},"env":{_object(dict(os.environ))},'
        f'"cwd":{quoted(cwd)},"umask":{umask}}}\n'
    )
    connection.sendall(request.encode())
    return _relay(connection)


def _connect() -> "_socket.socket | None":
    """Return a connection; None once the tries are over."""
    with open("client.conf", encoding="utf-8") as stream:
        retry_seconds, away, refused = stream.read().split("\n")[:3]
    tries = int(os.environ.get("LSB_NTRIES") or 0)
    while True:
        connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            connection.connect("mbatchd.sock")
        except OSError:
            connection.close()
        else:
            return connection
        if tries == 1:
            os.write(2, refused.encode() + b"\n")
            return None
        tries -= 1
        os.write(2, away.encode() + b"\n")
        time.sleep(float(retry_seconds))


def _relay(connection: "_socket.socket") -> int:
    with open(connection.fileno(), "rb", closefd=False) as answer:
        while header := answer.readline():
            kind, number = header.split()
            if kind == b"r":
                return int(number)
            if kind == b"i":
                _send_stdin(connection)
                continue
            _write(1 if kind == b"o" else 2, answer.read(int(number)))
    with open("client.conf", encoding="utf-8") as stream:
        os.write(2, stream.read().split("\n")[3].encode() + b"\n")
    return STATUS_AWAY


def _send_stdin(connection: "_socket.socket") -> None:
    with open(0, "rb", closefd=False) as stream:
        text = stream.read()
    connection.sendall(b"%d\n" % len(text) + text)


def _write(descriptor: int, text: bytes) -> None:
    while text:
        text = text[os.write(descriptor, text) :]


def _list(words: list[str]) -> str:
    return "[" + ",".join([quoted(word) for word in words]) + "]"


def _object(values: dict[str, str]) -> str:
    return "{" + ",".join([quoted(name) + ":" + quoted(value) for name, value in values.items()]) + "}"


if __name__ == "__main__":
    sys.exit(main())
