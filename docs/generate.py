"""Write the pages of docs/reference that come from the code: `python docs/generate.py`; a test holds them to it."""

import inspect
from collections.abc import Iterator
from pathlib import Path

import click

from dfm.core.cli.group import dfm
from dfm.core.flow.schema import DEFINITIONS, Key

REFERENCE = Path(__file__).parent / "reference"
_HEAD = "<!-- Written by docs/generate.py. -->\n"


def pages() -> dict[str, str]:
    """Return the text of each generated page by its file name."""
    return {"flow-schema.md": _flow_schema(), "cli.md": _cli()}


def _flow_schema() -> str:
    lines = [
        "# Keys of flow files",
        "",
        "Every key at every level, from the declarations that the loader reads with; `dfm schema` prints the same as a",
        "JSON Schema. In VS Code with the YAML extension:",
        "",
        "```json",
        '"yaml.schemas": {"./flow.schema.json": ["flow.yaml", "flow.dv"]}',
        "```",
        "",
        "after `dfm schema -o flow.schema.json`. What the keys mean together is told in [Flow files](flow-file.md).",
    ]
    for name, definition in DEFINITIONS.items():
        lines += ["", f"## {name}", "", f"{definition.doc[0].upper()}{definition.doc[1:]}."]
        for group in definition.one_of:
            lines += [
                "",
                f"There must be `{group[0]}`." if len(group) == 1 else f"There must be one of {_codes(group)}.",
            ]
        if definition.table is None:
            continue
        lines += ["", "| key | holds | |", "|---|---|---|"]
        lines += [_key(key) for key in definition.table.values()]
    return _HEAD + "\n".join(lines) + "\n"


def _key(key: Key) -> str:
    return f"| `{key.name}` | {_shape(key.shape)} | {key.doc.replace('|', chr(92) + '|')} |"


def _shape(shape: object) -> str:
    """Return a JSON Schema in words."""
    assert isinstance(shape, dict)
    match shape:
        case {"$ref": str(target)}:
            name = target.rpartition("/")[2]
            return f"[{name}](#{name})"
        case {"anyOf": [*shapes]}:
            return " or ".join(dict.fromkeys(word for word in (_shape(inner) for inner in shapes) if word))
        case {"enum": [*words]}:
            return ", ".join(f"`{word}`" for word in words)
        case {"items": items}:
            return f"list of {_shape(items) or 'anything'}"
        case {"type": "null"}:
            return ""
        case {"type": ["string", "number", "boolean"]}:
            return "text"
        case {"type": str(kind)}:
            return {"object": "mapping", "integer": "whole number", "boolean": "true, false"}.get(kind, kind)
        case {"type": [*kinds]}:
            return ", ".join(str(kind) for kind in kinds)
        case _:
            return "anything"


def _codes(words: tuple[str, ...]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def _cli() -> str:
    lines = [
        "# Commands",
        "",
        "`dfm COMMAND --help` tells the same. Commands that read a flow (`show`, `graph`, `validate`, `complete`) run",
        "nothing of it. What is asked for goes to stdout, all else to stderr; `--json` prints one JSON object with a",
        "`schema` of a name and a number: fields are added under the same number, only a new number takes one away.",
        "[Exit status](exit-codes.md) is the same for all.",
        "",
        "An option that is given twice: of those that say how much, where or how (`-j`, `--rundir`, `--root`,",
        "`--runner`, `-o`) the last one holds, so that an alias may hold defaults. Of `-D`, `-P` and `--runner-opt`",
        "all hold, and the last one of two for one name; of `--package-map` the first one. `--scope` and `--package`",
        "let through what any of them does, `--search`, `--regex`, `--tag` and `--produces` what all of them do. Two",
        "different values of `-c`, `--config-file`, `--base-rundir` or `--worker` are refused, for only one can hold.",
        "",
        "For TAB: `source <(dfm completion bash)` in `~/.bashrc`; zsh likewise; `dfm completion fish | source` in",
        "`config.fish`. The names of tasks come from a list in `$XDG_CACHE_HOME/dfm/complete`, which is made anew when",
        "a file of the flow is newer.",
    ]
    for name, command in _commands(dfm, click.Context(dfm, info_name="dfm")):
        lines += ["", f"## {name}", "", *_help(name, command)]
    return _HEAD + "\n".join(lines) + "\n"


def _commands(group: click.Group, context: click.Context, prefix: str = "dfm") -> Iterator[tuple[str, click.Command]]:
    for name in sorted(group.list_commands(context)):
        command = group.get_command(context, name)
        assert command is not None
        yield f"{prefix} {name}", command
        if isinstance(command, click.Group):
            yield from _commands(command, context, f"{prefix} {name}")


def _help(name: str, command: click.Command) -> Iterator[str]:
    """Yield what `--help` says, whichever version of click lays it out."""
    arguments = [item for item in command.params if isinstance(item, click.Argument)]
    words = [_argument(item) for item in arguments]
    if isinstance(command, click.Group):
        words.append("COMMAND")
    yield f"`{' '.join([name, *words])}`"
    yield ""
    yield inspect.cleandoc(command.help or "")
    options = [item for item in command.params if isinstance(item, click.Option)]
    if options:
        yield from ("", "| option | |", "|---|---|")
    for option in options:
        metavar = _metavar(option)
        shown = " ".join(part for part in (", ".join(option.opts), metavar) if part)
        yield f"| `{shown.replace('|', chr(92) + '|')}` | {option.help or ''} |"


def _argument(item: click.Argument) -> str:
    word = (item.name or "").upper() + ("..." if item.nargs == -1 else "")
    return word if item.required else f"[{word}]"


def _metavar(option: click.Option) -> str:
    if option.is_flag or option.count:
        return ""
    if isinstance(option.type, click.Choice):
        return "|".join(str(choice) for choice in option.type.choices)
    return option.metavar or (option.name or "").upper()


def main() -> None:
    """Write the pages."""
    for name, text in pages().items():
        (REFERENCE / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
