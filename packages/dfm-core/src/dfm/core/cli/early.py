"""Options that may stand before the sub-command as well as after it: `dfm -D x=1 run t` is `dfm run -D x=1 t`.

What stands before comes first, so that what stands after prevails where only one value can hold. A sub-command that
does not take such an option refuses it; nothing that was typed is lost.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import click

R = TypeVar("R")
_SPELLINGS = {"definitions": "-D", "parameter_files": "-P", "package_maps": "--package-map"}


@dataclass(frozen=True, slots=True)
class EarlyOptions:
    """What was given before the sub-command."""

    definitions: tuple[str, ...] = ()
    parameter_files: tuple[str, ...] = ()
    package_maps: tuple[str, ...] = ()


package_map_option = click.option(
    "--package-map",
    "package_maps",
    multiple=True,
    metavar="FILE",
    help="File that maps package names to flow files. [env: DV_FLOW_PACKAGE_MAP]",
)
definition_option = click.option(
    "-D",
    "definitions",
    multiple=True,
    metavar="NAME=VALUE",
    help="Set a parameter: name=, package.name= or task.name=.",
)
parameter_file_option = click.option(
    "-P",
    "--param-file",
    "parameter_files",
    multiple=True,
    metavar="JSON",
    help="Parameters from a JSON file, or as JSON itself.",
)


def _log(ctx: click.Context, param: click.Parameter, level: str | None) -> None:  # noqa: ARG001  (click's signature)
    if level in (None, "NONE"):
        return
    import logging

    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")


log_level_option = click.option(
    "--log-level",
    type=click.Choice(["NONE", "INFO", "DEBUG"], case_sensitive=False),
    callback=_log,
    expose_value=False,
    help="Tell on stderr what goes on inside dfm, for those who work on it.",
)


def early_options(command: Callable[..., R]) -> Callable[..., R]:
    """Add the options to the group of all sub-commands."""
    for option in (log_level_option, parameter_file_option, definition_option, package_map_option):
        command = option(command)
    return command


def keep(ctx: click.Context, given: EarlyOptions) -> None:
    """Keep what was given for the sub-command.

    Raises:
        click.UsageError: the sub-command does not take it.
    """
    ctx.obj = given
    assert isinstance(ctx.command, click.Group)
    name = ctx.invoked_subcommand
    command = None if name is None else ctx.command.get_command(ctx, name)
    if command is None or isinstance(command, click.Group):
        return
    taken = {parameter.name for parameter in command.params}
    for option, spelling in _SPELLINGS.items():
        if getattr(given, option) and option not in taken:
            raise click.UsageError(f"{spelling} means nothing to `dfm {name}`", ctx)


def given_early() -> EarlyOptions:
    """Return what was given before the sub-command that is running."""
    given = click.get_current_context().find_root().obj
    return given if isinstance(given, EarlyOptions) else EarlyOptions()
