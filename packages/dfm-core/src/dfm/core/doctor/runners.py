"""The runners: whether they load, and what the chosen one says of its tools and its surroundings."""

from collections.abc import Mapping, Sequence

from dfm.api.batch import Finding, Probe, Standing
from dfm.api.errors import DfmError, ExitCode
from dfm.api.runner import RunnerPlugin
from dfm.core.config.load import Settings, declared_options
from dfm.core.doctor.check import Check, fault, finding_of, findings_of, warning, well
from dfm.core.plugins.dialect import dialect_of
from dfm.core.plugins.discovery import LoadedRunner, load_all, load_runner
from dfm.core.pool.command import answer_to

_ASKED_OF_CLASSES = {
    "cores": "cores",
    "memory": "memory_bytes",
    "walltime": "wall_seconds",
    "queue": "queue",
    "resource_select": "resource_select",
}
"""Keys of a resource class, and the fields of Resources that they fill."""


def look_at_installed(chosen: str) -> list[Finding]:
    """Look which runners are installed; one that is broken is an error only where it is chosen."""
    found = []
    for runner in load_all():
        name = f"{runner.installed.name} ({runner.installed.distribution} {runner.installed.version})"
        problem = _problem_of(runner)
        if problem is None:
            is_chosen = runner.installed.name == chosen
            found.append(well(f"{name}: ready" + (", chosen" if is_chosen else "")))
        elif runner.installed.name != chosen:
            found.append(finding_of(problem, Standing.WARNING))
    return found


def _problem_of(runner: LoadedRunner) -> DfmError | None:
    if runner.plugin is None:
        return runner.problem
    try:
        declared_options(runner.plugin)
    except DfmError as problem:
        return problem
    return None


def checks_of_chosen(settings: Settings, environ: Mapping[str, str]) -> list[Check]:
    """Return the checks of the chosen runner: that it loads, and all that it asks about its surroundings."""
    name = settings.runner_name
    try:
        plugin = load_runner(name)
        options = settings.runner_options(plugin)
        dialect = dialect_of(plugin, options)
    except DfmError as error:
        found = findings_of(error)
        return [Check(f"runner {name}", lambda: found, ExitCode.RUNNER_UNAVAILABLE)]
    checks = [Check(f"runner {name}", lambda: _look_at_plugin(plugin, settings), ExitCode.RUNNER_UNAVAILABLE)]
    if plugin.checks is not None:
        checks.append(Check(f"{name}: own checks", lambda: _own(plugin, options), ExitCode.RUNNER_UNAVAILABLE))
    probes = dialect.probes() if dialect is not None else ()
    return [*checks, *(_check_of(name, probe, environ) for probe in probes)]


def _check_of(name: str, probe: Probe, environ: Mapping[str, str]) -> Check:
    return Check(f"{name}: {probe.name}", lambda: _probe(probe, environ), ExitCode.RUNNER_UNAVAILABLE)


def _look_at_plugin(plugin: RunnerPlugin, settings: Settings) -> list[Finding]:
    found = [well(f"{plugin.summary}; chosen by {settings.runner.origin}")]
    for name, item in settings.resource_classes.items() if plugin.resources else ():
        wanted = [key for key in _ASKED_OF_CLASSES if getattr(item, key)]
        asked = [key for key in wanted if _ASKED_OF_CLASSES[key] not in plugin.resources]
        if asked:
            text = f"resource class {name} asks for {', '.join(asked)}, which runner {plugin.name} does not heed"
            found.append(warning(text, "take it out, or choose a runner that does"))
    return found


def _own(plugin: RunnerPlugin, options: object) -> Sequence[Finding]:
    assert plugin.checks is not None, "asked only where there are checks"
    try:
        return plugin.checks(options)
    except DfmError:
        raise
    except Exception as error:  # noqa: BLE001  (a plugin's bug is a finding: the other checks must be told too)
        return [_broken(f"the checks of runner {plugin.name}", error)]


def _probe(probe: Probe, environ: Mapping[str, str]) -> Sequence[Finding]:
    try:
        return probe.judge(answer_to(probe.command, environ))
    except Exception as error:  # noqa: BLE001  (a dialect's bug is a finding: the other checks must be told too)
        return [_broken(f"the check {probe.name!r}", error)]


def _broken(what: str, error: Exception) -> Finding:
    return fault(f"{what} failed: {type(error).__name__}: {error}", "report it to the author of the runner")
