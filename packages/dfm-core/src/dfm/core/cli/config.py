"""`dfm config`: what is set, by whom and why; what may be set; whether a file is well."""

import json
import os
import sys
from collections.abc import Sequence

import click

from dfm.api.errors import DfmError, ExitCode, UsageError
from dfm.api.runner import RunnerPlugin
from dfm.core.cli.errors import shown
from dfm.core.cli.options import root_option, settings_options
from dfm.core.config.document import file_schema
from dfm.core.config.explain import as_json, as_nested, as_text, as_yaml
from dfm.core.config.faults import ConfigInvalid, Faults
from dfm.core.config.layers import CliOptions
from dfm.core.config.load import (
    Settings,
    check_file,
    configurable_runners,
    declared_options,
    declared_runners,
    load_with_faults,
)
from dfm.core.config.merge import Effective
from dfm.core.reading import project_dir
from dfm.core.suggest import did_you_mean


@click.group(name="config")
def command() -> None:
    """Show, explain and check settings.

    Settings come from four layers, the nearer one winning: the installation (/etc/dfm/config.yaml, or the file that
    DFM_INSTALL_CONFIG names), the site (~/.config/dfm/site.yaml), the project (.dfm/config.yaml beside the root flow
    file), and variables and the command line.
    """


@command.command()
@root_option
@settings_options
@click.option("--origin", "is_with_origin", is_flag=True, help="Tell for each value the layer and the place.")
@click.option("--json", "is_json", is_flag=True, help="Print one JSON object.")
def show(*, root: str | None, settings: CliOptions, is_with_origin: bool, is_json: bool) -> int:
    """Print the settings that hold here, as a settings file that says the same.

    Exit status 3 where files have faults; what could be decided is printed all the same.
    """
    faults = Faults()
    loaded, found = _everything(root, settings, faults)
    if is_json:
        print(json.dumps(_shown_json(loaded, found, faults, is_with_origin=is_with_origin), indent=2))
    else:
        print(as_yaml(found, is_with_origin=is_with_origin))
        if is_with_origin:
            _print_files(loaded)
    return _told(faults)


@command.command()
@click.argument("key")
@root_option
@settings_options
@click.option("--json", "is_json", is_flag=True, help="Print one JSON object.")
def explain(*, key: str, root: str | None, settings: CliOptions, is_json: bool) -> int:
    """Tell all layers' values of KEY, which one holds, and why; KEY may be a section.

    Exit status 3 where files have faults.
    """
    faults = Faults()
    _, found = _everything(root, settings, faults)
    chosen = _matching(key, found)
    if is_json:
        print(json.dumps({"schema": "dfm-config-explain/1", "settings": [as_json(item) for item in chosen]}, indent=2))
    else:
        print("\n\n".join(as_text(item) for item in chosen))
    return _told(faults)


@command.command()
def schema() -> None:
    """Print the JSON Schema of a settings file, with the options of the installed runners."""
    known = {plugin.name: declared_options(plugin) for plugin in _plugins()}
    print(json.dumps(file_schema({name: known.get(name) for name in configurable_runners()}), indent=2))


@command.command()
@click.argument("file")
@click.option("--json", "is_json", is_flag=True, help="Print one JSON object.")
def validate(*, file: str, is_json: bool) -> int:
    """Check the settings FILE alone: every fault with its place, the options of installed runners included.

    Exit status 0 when it is valid, 3 when it is not.
    """
    found = check_file(os.path.abspath(file), _plugins())
    if is_json:
        errors = [_fault_json(fault) for fault in found]
        print(json.dumps({"schema": "dfm-validate/1", "valid": not found, "errors": errors, "error_count": len(found)}))
    elif found:
        print(shown(ConfigInvalid(found)), file=sys.stderr)
    else:
        print(f"{file}: no faults")
    return ExitCode.FLOW_INVALID if found else ExitCode.OK


def _everything(root: str | None, options: CliOptions, faults: Faults) -> tuple[Settings, list[Effective]]:
    settings = load_with_faults(os.environ, project_dir(root, os.environ), options, faults)
    found = list(settings.core)
    loaded = {plugin.name: plugin for plugin in _plugins()}
    for name in sorted({*loaded, *settings.configured_runners()}):
        found += settings.runner_settings(loaded[name], faults) if name in loaded else settings.undeclared(name)
    return settings, found


def _plugins() -> Sequence[RunnerPlugin]:
    """Return the runners that can be loaded; one that cannot is told and harms no other."""
    plugins, problems = declared_runners()
    for problem in problems:
        print(f"dfm: warning: {problem}", file=sys.stderr)
    return plugins


def _matching(key: str, found: Sequence[Effective]) -> list[Effective]:
    wanted = tuple(key.split("."))
    chosen = [
        item
        for item in found
        if item.path[: len(wanted)] == wanted
        or (item.path[:-1] == wanted[:-1] and wanted[-1] in item.setting.spec.aliases)
    ]
    if not chosen:
        keys = [item.key for item in found]
        raise UsageError(
            f"there is no setting {key!r}", hint=did_you_mean(key, keys) or "`dfm config show` lists all of them"
        )
    return chosen


def _shown_json(
    settings: Settings, found: Sequence[Effective], faults: Faults, *, is_with_origin: bool
) -> dict[str, object]:
    answer: dict[str, object] = {
        "schema": "dfm-config/1",
        "files": [{"layer": file.layer.shown, "path": file.path, "exists": file.exists} for file in settings.files],
        "settings": as_nested(found),
        "errors": [_fault_json(fault) for fault in faults.found],
    }
    if is_with_origin:
        answer["origins"] = {item.key: as_json(item) for item in found}
    return answer


def _fault_json(fault: DfmError) -> dict[str, object]:
    where = fault.location
    return {
        "message": fault.message,
        "hint": fault.hint,
        "location": None if where is None else {"file": where.file, "line": where.line, "column": where.column},
    }


def _print_files(settings: Settings) -> None:
    for file in settings.files:
        print(f"# {file.layer.shown}: {file.path}" + ("" if file.exists else " (does not exist)"))


def _told(faults: Faults) -> int:
    if not faults.found:
        return ExitCode.OK
    print(shown(ConfigInvalid(faults.found)), file=sys.stderr)
    return ExitCode.FLOW_INVALID
