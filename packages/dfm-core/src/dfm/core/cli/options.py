"""Options that several commands share."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from dfm.core.compose import FlowOptions

F = TypeVar("F", bound=Callable[..., Any])


def flow_options(function: F) -> F:
    """Add the options that say which flow, with which parameters."""
    decorators = [
        click.option(
            "--root",
            metavar="PATH",
            envvar="DFM_ROOT",
            help="Flow file or a directory at or below it.",
        ),
        click.option("-c", "--config", metavar="CONFIG", help="Configuration of the root package."),
        click.option(
            "-D",
            "definitions",
            multiple=True,
            metavar="NAME=VALUE",
            help="Set a parameter: name=, package.name= or task.name=.",
        ),
        click.option(
            "-P",
            "--param-file",
            "parameter_files",
            multiple=True,
            metavar="JSON",
            help="Parameters from a JSON file, or as JSON itself.",
        ),
    ]
    for decorate in reversed(decorators):
        function = decorate(function)
    return function


def to_flow_options(
    root: str | None,
    config: str | None,
    definitions: tuple[str, ...],
    parameter_files: tuple[str, ...],
) -> FlowOptions:
    """Return what `flow_options` gave as one value."""
    return FlowOptions(root=root, config=config, definitions=definitions, parameter_files=parameter_files)
