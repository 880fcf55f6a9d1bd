"""`python -m dfm.testing.fake_lsf up|down|status|ctl`: a fake cluster to play with, from any shell.

`up` writes the lines to copy (or to `eval`) to stdout and everything else to stderr; `down` leaves nothing.
"""

import argparse
import dataclasses
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from typing import TypeVar, get_type_hints

from dfm.testing.fake_lsf import connection, mbatchd, site
from dfm.testing.fake_lsf.config import CONFIG_NAME, DIALECTS, ClusterConfig, ConfigError, Host, Params, Queue, decode

_Entry = TypeVar("_Entry", Host, Queue, Params)
EPILOG = """examples:
  eval "$(python -m dfm.testing.fake_lsf up --speed 20)"
  python -m dfm.testing.fake_lsf up --host big:slots=32 --queue normal --queue night:run_limit_minutes=600
  python -m dfm.testing.fake_lsf ctl inject bsub hang seconds=60
  python -m dfm.testing.fake_lsf down
"""


def main(words: Sequence[str] | None = None) -> int:
    """Do what the command line says; return the exit status."""
    given = list(sys.argv[1:] if words is None else words)
    if given[:1] == ["mbatchd"]:
        return mbatchd.main(given[1:])
    arguments = _parser().parse_args(given)
    directory = os.path.realpath(arguments.dir or os.environ.get("FAKE_LSF_DIR") or default_directory())
    try:
        match arguments.verb:
            case "up":
                return _up(directory, arguments)
            case "down":
                return _down(directory)
            case "status":
                sys.stdout.write(site.control(directory, "status"))
            case _:
                sys.stdout.write(site.control(directory, *arguments.words))
    except (site.FakeLsfError, ConfigError, connection.CtlRefusedError) as fault:
        sys.stderr.write(f"fake_lsf: {fault}\n")
        return 2
    except (connection.MbatchdIsAwayError, FileNotFoundError, PermissionError) as fault:
        sys.stderr.write(f"fake_lsf: no cluster answers in {directory} ({fault}); `up` starts one\n")
        return 1
    return 0


def default_directory() -> str:
    """Return where a cluster lives if nobody says where."""
    return os.path.join(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir(), f"fake-lsf-{os.getuid()}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dfm.testing.fake_lsf", description="A fake LSF with real processes.", epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--dir", help="FAKE_LSF_DIR; else that variable, or a directory of your own in /tmp")
    verbs = parser.add_subparsers(dest="verb", required=True)
    up = verbs.add_parser("up", help="start a cluster, and print the lines to copy")
    up.add_argument("--dir", help="FAKE_LSF_DIR: new or empty", default=argparse.SUPPRESS)
    up.add_argument("--speed", type=float, help="LSF seconds per second (default 10)")
    up.add_argument("--dialect", choices=DIALECTS)
    up.add_argument(
        "--host", action="append", default=[], metavar="NAME[:FIELD=VALUE...]", help="replaces hostA, hostB"
    )
    up.add_argument(
        "--queue", "--queues", action="append", default=[], metavar="NAME[:FIELD=VALUE...]", help="replaces the queues"
    )
    up.add_argument("--licence", action="append", default=[], metavar="NAME=COUNT")
    up.add_argument("--param", action="append", default=[], metavar="NAME=VALUE", help="of lsf.conf and lsb.params")
    up.add_argument("--config", metavar="FILE", help=f"JSON such as {CONFIG_NAME} in FAKE_LSF_DIR; options win")
    for verb, text in (("down", "end everything and remove the directory"), ("status", "say what there is")):
        verbs.add_parser(verb, help=text).add_argument("--dir", default=argparse.SUPPRESS)
    ctl = verbs.add_parser("ctl", help="what `fakelsf` does: suspend, lose-host, inject and so on")
    ctl.add_argument("words", nargs=argparse.REMAINDER)
    return parser


def _up(directory: str, arguments: argparse.Namespace) -> int:
    site.lay_out(directory, _cluster(arguments))
    try:
        site.start(directory)
    except site.FakeLsfError:
        site.remove(directory)
        raise
    sys.stdout.write(f"export FAKE_LSF_DIR={directory}\nexport PATH={directory}/bin:$PATH\n")
    sys.stderr.write("the cluster is up: copy these lines into a shell; `fakelsf status` tells of it, `down` ends it\n")
    return 0


def _down(directory: str) -> int:
    if not os.path.exists(os.path.join(directory, CONFIG_NAME)):
        sys.stderr.write(f"fake_lsf: there is no cluster in {directory}\n")
        return 1
    site.end_everything(directory)
    site.remove(directory)
    return 0


def _cluster(arguments: argparse.Namespace) -> ClusterConfig:
    document: dict[str, object] = {"speed": 10.0}
    if arguments.config:
        document |= _document(arguments.config)
    config = decode(document)
    changes: dict[str, object] = {}
    if arguments.speed is not None:
        changes["speed"] = arguments.speed
    if arguments.dialect:
        changes["dialect"] = arguments.dialect
    if arguments.host:
        changes["hosts"] = tuple(_entry(Host, text) for text in arguments.host)
    if arguments.queue:
        queues = tuple(_entry(Queue, name) for text in arguments.queue for name in text.split(","))
        changes["queues"] = queues
        if config.params.default_queue not in {queue.name for queue in queues}:
            config = dataclasses.replace(
                config, params=dataclasses.replace(config.params, default_queue=queues[0].name)
            )
    if arguments.licence:
        changes["licences"] = {name: _number(count) for name, _, count in (x.partition("=") for x in arguments.licence)}
    if arguments.param:
        changes["params"] = dataclasses.replace(config.params, **_values(Params, arguments.param))  # type: ignore[arg-type]  # _values converts by the field's type
    return dataclasses.replace(config, **changes)  # type: ignore[arg-type]  # each was converted above


def _document(path: str) -> dict[str, object]:
    try:
        with open(path, encoding="utf-8") as stream:
            document = json.load(stream)
    except (OSError, ValueError) as fault:
        raise ConfigError(f"{path}: {fault}") from fault
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: not an object")
    return document


def _entry(kind: type[_Entry], text: str) -> _Entry:
    name, *settings = text.split(":")
    return kind(**{"name": name, **_values(kind, settings)})  # type: ignore[arg-type]  # _values converts


def _values(kind: type[_Entry], settings: Sequence[str]) -> dict[str, object]:
    hints = get_type_hints(kind)
    values: dict[str, object] = {}
    for setting in settings:
        name, _, text = setting.partition("=")
        if name not in hints:
            raise ConfigError(f"no {name!r} of a {kind.__name__.lower()}; there are {', '.join(hints)}")
        values[name] = _converted(hints[name], text)
    return values


def _converted(hint: object, text: str) -> object:
    if hint is bool:
        return text.lower() in {"y", "yes", "true", "1"}
    if hint in {int, int | None}:
        return _number(text)
    if hint is float:
        try:
            return float(text)
        except ValueError as fault:
            raise ConfigError(f"{text!r} is not a number") from fault
    if hint == tuple[str, ...]:
        return tuple(text.split())
    if hint == tuple[int, ...]:
        return tuple(_number(each) for each in text.split())
    return text


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError as fault:
        raise ConfigError(f"{text!r} is not a whole number") from fault


if __name__ == "__main__":
    sys.exit(main())
