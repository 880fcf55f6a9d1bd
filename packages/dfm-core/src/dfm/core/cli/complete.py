"""`dfm complete`: what a half-typed task may become. It never fails: TAB is no place for messages."""

import os

import click

from dfm.api.errors import DfmError
from dfm.core.cli.names_cache import cache_file, names_of, read_names, write_names


@click.command(name="complete")
@click.argument("prefix", default="")
@click.option("--root", metavar="PATH", help="Flow file or a directory at or below it.")
@click.option("-c", "--config", metavar="CONFIG", help="Configuration of the root package.")
def command(*, prefix: str, root: str | None, config: str | None) -> int:
    """Print the tasks whose names begin with PREFIX, one a line.

    Exit status 0 always; nothing is printed where there is no flow.
    """
    for name in _names(root, config):
        if name.startswith(prefix):
            print(name)
    return 0


def _names(root: str | None, config: str | None) -> list[str]:
    from dfm.core.reading import FlowOptions, load, locate_root

    try:
        root_file = locate_root(root or os.environ.get("DFM_ROOT"), os.environ)
    except (DfmError, OSError):
        return []
    path = cache_file(os.path.realpath(root_file), os.environ)
    try:
        flow = load(FlowOptions(root=root_file, config=config), os.environ).flow
    except Exception:  # noqa: BLE001  (a flow that cannot be read is for `dfm validate`, not for TAB)
        return _last(path)
    names = names_of(flow)
    if path is not None and config is None:
        _remember(path, list(flow.files), names)
    return names


def _last(path: str | None) -> list[str]:
    try:
        return [] if path is None else read_names(path)
    except (OSError, UnicodeDecodeError):
        return []


def _remember(path: str, files: list[str], names: list[str]) -> None:
    try:
        write_names(path, files, names)
    except OSError:
        return
