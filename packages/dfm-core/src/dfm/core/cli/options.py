"""Options that several commands share."""

import functools
from collections.abc import Callable
from typing import TypeVar

import click

from dfm.core.cli.early import (
    definition_option,
    given_early,
    log_level_option,
    package_map_option,
    parameter_file_option,
)
from dfm.core.cli.once import once_option
from dfm.core.config.layers import CliOptions
from dfm.core.reading import FlowOptions

R = TypeVar("R")

root_option = click.option("--root", metavar="PATH", envvar="DFM_ROOT", help="Flow file or a directory at or below it.")
_OPTIONS = (
    root_option,
    once_option(
        "-c",
        "--config",
        both="a configuration may start from another one, with `uses`",
        metavar="CONFIG",
        help="Configuration of the root package.",
    ),
    package_map_option,
    click.option(
        "--override",
        "replacements",
        multiple=True,
        metavar="TASK=OTHER",
        help="Put another task in the place of one.",
    ),
    definition_option,
    parameter_file_option,
    log_level_option,
)


def flow_options(command: Callable[..., R]) -> Callable[..., R]:
    """Add the options that say which flow, with which parameters; the command gets them as one value, `flow`."""

    @functools.wraps(command)
    def packed(
        *,
        root: str | None,
        config: str | None,
        definitions: tuple[str, ...],
        parameter_files: tuple[str, ...],
        package_maps: tuple[str, ...],
        replacements: tuple[str, ...],
        **rest: object,
    ) -> R:
        early = given_early()
        flow = FlowOptions(
            root=root,
            config=config,
            definitions=(*early.definitions, *definitions),
            parameter_files=(*early.parameter_files, *parameter_files),
            package_maps=(*early.package_maps, *package_maps),
            replacements=replacements,
        )
        return command(flow=flow, **rest)

    decorated: Callable[..., R] = packed
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated


_SETTINGS_OPTIONS = (
    click.option("--runner", metavar="NAME", help="Where tasks run; `dfm runners` lists them. [env: DFM_RUNNER]"),
    click.option(
        "--runner-opt",
        "runner_options",
        multiple=True,
        metavar="KEY=VALUE",
        help="Option of the runner; `dfm runners` lists them.",
    ),
    once_option("--config-file", metavar="FILE", help="One more settings file, nearer than the project's."),
    click.option(
        "--no-config",
        "is_config_ignored",
        is_flag=True,
        help="Read no settings of site and project; those of the installation always hold.",
    ),
)


def settings_options(command: Callable[..., R]) -> Callable[..., R]:
    """Add the options that choose and configure the runner; the command gets them as one value, `settings`."""

    @functools.wraps(command)
    def packed(
        *,
        runner: str | None,
        runner_options: tuple[str, ...],
        config_file: str | None,
        is_config_ignored: bool,
        **rest: object,
    ) -> R:
        settings = CliOptions(
            runner=runner,
            runner_options=runner_options,
            config_file=config_file,
            is_file_read=not is_config_ignored,
        )
        return command(settings=settings, **rest)

    decorated: Callable[..., R] = packed
    for option in reversed(_SETTINGS_OPTIONS):
        decorated = option(decorated)
    return decorated
