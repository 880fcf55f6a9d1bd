"""`dfm-out`: how a script hands items, variables and messages to DFM.

A script may call it a thousand times, so it starts with next to nothing: it imports no other module of DFM, and `json`,
which costs as much as the rest of its start, only to read JSON. It is run as a plain file. Each call
appends whole lines with one write, so that parallel calls never mix.
"""

import os
import sys

USAGE = """\
usage: dfm-out fileset [--filetype T] [--basedir DIR] [--incdir DIR]... FILE...
       dfm-out item --type T [NAME=VALUE]... [NAME:=JSON]...
       dfm-out env NAME=VALUE...
       dfm-out path DIR...
       dfm-out error|warning|info MESSAGE [--file FILE] [--line N] [--pos N]
       dfm-out memento JSON
"""


class _UsageError(Exception):
    """Words that mean nothing here."""


def main() -> None:
    """Run the command line."""
    words = sys.argv[1:]
    if not words or words[0] in ("-h", "--help", "help"):
        sys.stdout.write(USAGE)
        sys.exit(0 if words else 2)
    try:
        _VERBS.get(words[0], _unknown)(words)
    except _UsageError as error:
        sys.stderr.write(f"dfm-out: {error}\n")
        sys.exit(2)
    except OSError as error:
        sys.stderr.write(f"dfm-out: cannot write: {error.strerror}\n")
        sys.exit(1)


def _unknown(words: list[str]) -> None:
    raise _UsageError(f"unknown word {words[0]!r}; the words are {', '.join(_VERBS)}")


def _fileset(words: list[str]) -> None:
    options, files = _split(words[1:], {"--filetype", "--basedir", "--incdir", "--define", "--attribute"})
    if not files:
        raise _UsageError("fileset names no files")
    item = {
        "type": "std.FileSet",
        "filetype": options.get("--filetype", [""])[-1],
        "basedir": options.get("--basedir", ["."])[-1],
        "files": files,
        "incdirs": options.get("--incdir", []),
        "defines": options.get("--define", []),
        "attributes": options.get("--attribute", []),
    }
    _append("DFM_OUTPUT", _dumps(item))


def _item(words: list[str]) -> None:
    options, pairs = _split(words[1:], {"--type"})
    if "--type" not in options:
        raise _UsageError("item needs --type")
    item: dict[str, object] = {"type": options["--type"][-1]}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator or not name.rstrip(":"):
            raise _UsageError(f"{pair!r} is neither NAME=VALUE nor NAME:=JSON")
        item[name.removesuffix(":")] = _json(value) if name.endswith(":") else value
    _append("DFM_OUTPUT", _dumps(item))


def _env(words: list[str]) -> None:
    if len(words) < 2:
        raise _UsageError("env sets nothing")
    lines = []
    for pair in words[1:]:
        name, separator, value = pair.partition("=")
        if not separator or not name.isidentifier():
            raise _UsageError(f"{pair!r} is not NAME=VALUE")
        if "\n" in value:
            end = f"DFM_END_{abs(hash(value))}"
            lines.append(f"{name}<<{end}\n{value}\n{end}")
        else:
            lines.append(pair)
    _append("DFM_ENV", "\n".join(lines))


def _path(words: list[str]) -> None:
    if len(words) < 2:
        raise _UsageError("path names no directory")
    _append("DFM_PATH", "\n".join(os.path.abspath(word) for word in words[1:]))


def _marker(words: list[str]) -> None:
    options, message = _split(words[1:], {"--file", "--line", "--pos"})
    if len(message) != 1:
        raise _UsageError(f"{words[0]} takes one message")
    marker: dict[str, object] = {"severity": words[0], "msg": message[0]}
    line, position = (_number(options.get(name, ["0"])[-1]) for name in ("--line", "--pos"))
    if "--file" in options:
        marker["loc"] = {"path": options["--file"][-1], "line": line, "pos": position}
    elif line or position:
        raise _UsageError("--line and --pos need --file")
    _append("DFM_MARKERS", _dumps(marker))


def _memento(words: list[str]) -> None:
    if len(words) != 2:
        raise _UsageError("memento takes one JSON value")
    value = _dumps(_json(words[1]))
    with open(_channel("DFM_MEMENTO_OUT"), "w", encoding="utf-8") as file:
        file.write(value + "\n")


def _split(words: list[str], known: set[str]) -> tuple[dict[str, list[str]], list[str]]:
    options: dict[str, list[str]] = {}
    rest: list[str] = []
    position = 0
    while position < len(words):
        word = words[position]
        name, separator, value = word.partition("=")
        if word == "--":
            rest += words[position + 1 :]
            break
        if word.startswith("--") and name not in known:
            raise _UsageError(f"unknown option {name!r}; the options are {', '.join(sorted(known))}")
        if not word.startswith("--"):
            rest.append(word)
        elif separator:
            options.setdefault(name, []).append(value)
        elif position + 1 < len(words):
            position += 1
            options.setdefault(name, []).append(words[position])
        else:
            raise _UsageError(f"{name} needs a value")
        position += 1
    return options, rest


def _dumps(value: object) -> str:
    """Return JSON; what came from the command line is written by the part of `json` that is written in C alone."""
    match value:
        case str():
            return _quoted(value)
        case dict():
            return "{" + ", ".join(f"{_quoted(name)}: {_dumps(held)}" for name, held in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(_dumps, value)) + "]"
        case _:
            import json  # noqa: PLC0415  (its import is what is saved)

            return json.dumps(value)


def _quoted(text: str) -> str:
    try:
        from _json import encode_basestring_ascii  # noqa: PLC0415  (not every Python has it)
    except ImportError:
        from json.encoder import py_encode_basestring_ascii as encode_basestring_ascii  # noqa: PLC0415
    return encode_basestring_ascii(text)


def _json(text: str) -> object:
    import json  # noqa: PLC0415  (its import is what is saved)

    try:
        return json.loads(text)
    except ValueError as error:
        raise _UsageError(f"not JSON: {text!r}: {error}") from None


def _number(text: str) -> int:
    if not text.isdigit():
        raise _UsageError(f"{text!r} is not a number")
    return int(text)


def _channel(variable: str) -> str:
    path = os.environ.get(variable)
    if not path:
        raise _UsageError(f"{variable} is not set: dfm-out works inside a task of `dfm run`")
    return path


def _append(variable: str, text: str) -> None:
    content = (text + "\n").encode("utf-8", "surrogateescape")
    fd = os.open(_channel(variable), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        os.write(fd, content)
    finally:
        os.close(fd)


_VERBS = {
    "fileset": _fileset,
    "item": _item,
    "env": _env,
    "path": _path,
    "error": _marker,
    "warning": _marker,
    "info": _marker,
    "memento": _memento,
}

if __name__ == "__main__":
    main()
