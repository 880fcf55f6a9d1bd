"""`dfm runners`: what `--runner` can take here."""

import json

import click

from dfm.api.errors import DfmError
from dfm.core.config.explain import declaration_json
from dfm.core.config.load import declared_options
from dfm.core.config.merge import shown
from dfm.core.config.schema import Setting
from dfm.core.plugins.discovery import LoadedRunner, load_all


@click.command(name="runners")
@click.option("--json", "is_json", is_flag=True, help="Print one JSON object.")
def command(*, is_json: bool) -> None:
    """List the installed runners: distribution, version, state, and options.

    A runner that cannot be loaded is listed as broken with the reason; it harms nobody who does not choose it.
    """
    loaded = load_all()
    if is_json:
        print(json.dumps({"schema": "dfm-runners/1", "runners": [_row(runner) for runner in loaded]}, indent=2))
        return
    print("\n\n".join(_text(runner) for runner in loaded))


def _options(runner: LoadedRunner) -> tuple[tuple[Setting, ...], DfmError | None]:
    if runner.plugin is None:
        return (), runner.problem
    try:
        return declared_options(runner.plugin), None
    except DfmError as problem:
        return (), problem


def _row(runner: LoadedRunner) -> dict[str, object]:
    options, problem = _options(runner)
    plugin = runner.plugin
    return {
        "name": runner.installed.name,
        "distribution": runner.installed.distribution,
        "version": runner.installed.version,
        "state": "ready" if problem is None else "broken",
        "problem": None if problem is None else problem.message,
        "hint": None if problem is None else problem.hint,
        "summary": "" if plugin is None else plugin.summary,
        "help": "" if plugin is None else plugin.help,
        "resources": [] if plugin is None else sorted(plugin.resources),
        "options": [declaration_json(option) for option in options],
    }


def _text(runner: LoadedRunner) -> str:
    options, problem = _options(runner)
    plugin = runner.plugin
    head = f"{runner.installed.name} ({runner.installed.distribution} {runner.installed.version})"
    if problem is not None or plugin is None:
        hint = f"\n    hint: {problem.hint}" if problem is not None and problem.hint else ""
        return f"{head}: broken: {problem}{hint}"
    lines = [f"{head}: {plugin.summary}"]
    lines += [f"  {line}" for line in plugin.help.splitlines()]
    if plugin.resources:
        lines.append(f"  understands of a task's resources: {', '.join(sorted(plugin.resources))}")
    width = max((len(_assigned(option)) for option in options), default=0)
    lines += [f"    {_assigned(option):<{width}}  {_described(option)}" for option in options]
    return "\n".join(lines)


def _assigned(option: Setting) -> str:
    return f"{option.name}={shown(option.written(option.default))}"


def _described(option: Setting) -> str:
    parts = [f"{option.spec.doc} ({option.kind}"]
    parts += [f", one of {', '.join(option.spec.choices)}"] if option.spec.choices else []
    parts += [f", also {', '.join(option.spec.aliases)}"] if option.spec.aliases else []
    return "".join(parts) + ")"
