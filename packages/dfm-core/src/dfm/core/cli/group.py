"""The group of sub-commands, each in a module of its own that is imported when it is called."""

from importlib import import_module

import click

from dfm.core.__about__ import __version__
from dfm.core.cli.early import EarlyOptions, early_options, keep
from dfm.core.suggest import did_you_mean

_COMMANDS = {
    "run": "run tasks and all they need",
    "show": "show the tasks and packages of a flow",
    "validate": "check a flow without running it",
    "graph": "print the graph of tasks as dot, mermaid or json",
    "cache": "make a directory that keeps results of tasks",
    "schema": "print the JSON Schema of flow files",
    "complete": "print the tasks that begin with a word",
    "completion": "print what makes a shell complete dfm on TAB",
    "runners": "list the installed runners",
    "config": "show, explain and check settings",
    "doctor": "check the installation, and tell what mends it",
    "daemon": "keep workers warm between runs, and share them",
    "why": "tell why a task is pending",
    "worker": "run tasks for a daemon; batch jobs start it",
}


class _LazyGroup(click.Group):
    """Knows its commands by name and one line; loads one when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  (click's signature)
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  (click's signature)
        if cmd_name not in _COMMANDS:
            return None
        module = import_module(f"dfm.core.cli.{cmd_name}")
        command = module.command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in _COMMANDS and not args[0].startswith("-"):
            hint = did_you_mean(args[0], _COMMANDS)
            raise click.UsageError(f"no such command {args[0]!r}" + (f"; {hint}" if hint else ""), ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  (click's signature)
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=False,
    invoke_without_command=True,
)
@click.version_option(__version__, "-V", "--version", prog_name="dfm", message="%(prog)s %(version)s")
@early_options
@click.pass_context
def dfm(
    ctx: click.Context,
    *,
    definitions: tuple[str, ...],
    parameter_files: tuple[str, ...],
    package_maps: tuple[str, ...],
) -> None:
    """Run the tasks of a flow.yaml, in parallel, each only when it must.

    `dfm run` lists the tasks of the flow; `dfm run TASK` runs one and all it needs.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
    keep(ctx, EarlyOptions(definitions, parameter_files, package_maps))
