"""`dfm completion`: a script that makes bash, zsh or fish complete `dfm` on TAB.

The script is static: commands and options are written into it, the tasks of the flow are read from the list that
`dfm complete` leaves behind, and Python is only started where that list is older than the flow.
"""

from collections.abc import Mapping
from importlib.resources import files

import click

_SHELLS = ("bash", "zsh", "fish")


@click.command(name="completion")
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def command(ctx: click.Context, *, shell: str) -> None:
    """Print the completion script for SHELL.

    bash: source <(dfm completion bash)    zsh: source <(dfm completion zsh)    fish: dfm completion fish | source
    """
    group = ctx.find_root().command
    assert isinstance(group, click.Group)
    words = _words(group, ctx)
    if shell == "fish":
        print(_template("complete.fish").replace("@WORDS@", _fish_words(words)), end="")
        return
    print(_template(f"complete.{shell}").replace("@WORDS@", _case_words(words)), end="")


def _template(name: str) -> str:
    return files("dfm.core.cli").joinpath(name).read_text(encoding="utf-8")


def _words(group: click.Group, ctx: click.Context) -> dict[str, list[str]]:
    """Return what may follow the words of each command: sub-commands, then options."""
    found: dict[str, list[str]] = {"": [*group.list_commands(ctx), *_option_words(group)]}
    for name in group.list_commands(ctx):
        sub = group.get_command(ctx, name)
        assert sub is not None
        found[name] = _option_words(sub)
        if isinstance(sub, click.Group):
            found[name] = [*sub.list_commands(ctx), *found[name]]
            for inner in sub.list_commands(ctx):
                inner_command = sub.get_command(ctx, inner)
                assert inner_command is not None
                found[f"{name} {inner}"] = _option_words(inner_command)
    found["completion"] = [*_SHELLS, *found["completion"]]
    return found


def _option_words(command: click.Command) -> list[str]:
    words = [word for option in command.params if isinstance(option, click.Option) for word in option.opts]
    return [*(word for word in words if word.startswith("--")), "--help"]


def _case_words(words: Mapping[str, list[str]]) -> str:
    return "\n".join(f"    '{name}') known='{' '.join(following)}' ;;" for name, following in words.items())


def _fish_words(words: Mapping[str, list[str]]) -> str:
    return "\n".join(
        f"        case '{name}'\n            echo {' '.join(following)}" for name, following in words.items()
    )
