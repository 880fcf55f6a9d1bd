"""`dfm doctor`: is all well here, and if not, what mends it."""

import json
import os
import sys
from collections.abc import Iterator

import click

from dfm.api.batch import Finding, Standing
from dfm.api.errors import ExitCode
from dfm.core.__about__ import __version__
from dfm.core.canary import canary
from dfm.core.cli.options import root_option, settings_options
from dfm.core.config.faults import Faults
from dfm.core.config.layers import CliOptions
from dfm.core.config.load import Settings, load_with_faults
from dfm.core.doctor.check import Check, Checked, finding_of, run_check, well, worst
from dfm.core.doctor.runners import checks_of_chosen, look_at_installed
from dfm.core.doctor.surroundings import (
    look_at_jobserver,
    look_at_libyaml,
    look_at_python,
    look_at_runtime_directory,
    look_at_settings_files,
    look_at_shared_directory,
)
from dfm.core.reading import project_dir


@click.command(name="doctor")
@root_option
@settings_options
@click.option("--canary", "is_canary_sent", is_flag=True, help="Also send one small task through the runner.")
@click.option("--json", "is_json", is_flag=True, help="Print one JSON object.")
def command(*, root: str | None, settings: CliOptions, is_canary_sent: bool, is_json: bool) -> int:
    """Check the installation, and tell for each fault what mends it.

    Looks at Python, libyaml, the settings, the runners and the tools of the chosen one, the runtime directory, the
    jobserver, and the project's directory. `--canary` waits until the runner has run one task, in its queue if need be.

    Exit status: 0 where nothing is an error, else that of the first error: 3 settings, 6 this machine, 7 the runner.
    """
    faults = Faults()
    directory = project_dir(root, os.environ)
    loaded = load_with_faults(os.environ, directory, settings, faults)
    checked = []
    for check in _checks(loaded, faults, directory, is_canary_sent=is_canary_sent):
        checked.append(run_check(check))
        if not is_json:
            _print(checked[-1])
            sys.stdout.flush()
    if is_json:
        print(json.dumps(_as_json(checked, loaded), indent=2))
    return next((one.exit_code for one in checked if not one.is_well), ExitCode.OK)


def _checks(loaded: Settings, faults: Faults, directory: str, *, is_canary_sent: bool) -> Iterator[Check]:
    yield Check("python", look_at_python)
    yield Check("libyaml", look_at_libyaml)
    yield Check("settings", lambda: _look_at_settings(loaded, faults), ExitCode.FLOW_INVALID)
    yield Check("runtime directory", lambda: look_at_runtime_directory(os.environ))
    yield Check("jobserver", lambda: look_at_jobserver(os.environ))
    yield Check("project directory", lambda: look_at_shared_directory(directory))
    yield Check("runners", lambda: look_at_installed(loaded.runner_name), ExitCode.RUNNER_UNAVAILABLE)
    yield from checks_of_chosen(loaded, os.environ)
    if is_canary_sent:
        yield Check("canary", lambda: _send_canary(loaded, directory), ExitCode.RUNNER_UNAVAILABLE)


def _look_at_settings(loaded: Settings, faults: Faults) -> list[Finding]:
    found = look_at_settings_files([(file.layer.shown, file.path) for file in loaded.files if file.exists])
    return [*found, *(finding_of(fault) for fault in faults.found)]


def _send_canary(loaded: Settings, directory: str) -> list[Finding]:
    report = canary(loaded, directory)
    return [
        well(f"a task ran on {report.host} and its result was here after {report.total_seconds:.2f} s"),
        *report.findings,
    ]


_WORDS = {Standing.OK: "ok", Standing.WARNING: "warning", Standing.ERROR: "error", Standing.SKIPPED: "skipped"}


def _print(checked: Checked) -> None:
    for finding in checked.findings:
        print(f"{_WORDS[finding.standing]:<8} {checked.name}: {finding.text}")
        if finding.hint:
            print(f"         fix: {finding.hint}")


def _as_json(checked: list[Checked], loaded: Settings) -> dict[str, object]:
    return {
        "schema": "dfm-doctor/1",
        "version": __version__,
        "runner": loaded.runner_name,
        "ok": all(one.is_well for one in checked),
        "checks": [
            {
                "name": one.name,
                "standing": str(worst(one.findings)),
                "seconds": round(one.seconds, 3),
                "findings": [
                    {"standing": str(item.standing), "text": item.text, "fix": item.hint} for item in one.findings
                ],
            }
            for one in checked
        ],
    }
