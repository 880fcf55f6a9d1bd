"""Which runners are installed, by name, without importing any of them.

Two distributions that claim one name are refused, since taking either would be a guess. The chosen one alone is
imported.
"""

from collections.abc import Sequence

import pluggy
from msgspec import Struct

from dfm.api import hookspecs
from dfm.api.errors import DfmError, RunnerError, UsageError
from dfm.api.runner import API_VERSION, RunnerPlugin
from dfm.core.plugins.announced import EntryPoint, announced
from dfm.core.suggest import did_you_mean

OUR_DISTRIBUTIONS = {"local": "dfm-core", "lsf": "dfm-runner-lsf", "slurm": "dfm-runner-slurm"}
"""Runners of ours by the distribution that brings them, to tell a person what to install."""

RESERVED_NAMES = ("default", "type", "pool", "defaults", "resource_classes")
"""Keys below `runner` in settings files that are no runners."""


class InstalledRunner(Struct, frozen=True):
    """A runner as its distribution's metadata announce it."""

    name: str
    distribution: str
    version: str
    entry_point: EntryPoint


def installed_runners() -> list[InstalledRunner]:
    """Return every announced runner, in order of names."""
    found = [
        InstalledRunner(
            name=announcement.point.name,
            distribution=announcement.distribution,
            version=announcement.version,
            entry_point=announcement.point,
        )
        for announcement in announced(hookspecs.RUNNER_GROUP)
    ]
    unique = {(r.name, r.distribution, r.entry_point.value): r for r in found}
    return sorted(unique.values(), key=lambda runner: (runner.name, runner.distribution))


class LoadedRunner(Struct, frozen=True):
    """An announced runner, with its plugin or with what keeps it from being loaded."""

    installed: InstalledRunner
    plugin: RunnerPlugin | None = None
    problem: DfmError | None = None


def load_all() -> list[LoadedRunner]:
    """Import every announced runner; what is wrong with one harms no other."""
    known = installed_runners()
    return [_loaded(runner, known) for runner in known]


def _loaded(runner: InstalledRunner, known: Sequence[InstalledRunner]) -> LoadedRunner:
    try:
        return LoadedRunner(runner, plugin=load_runner(runner.name, known))
    except DfmError as problem:
        return LoadedRunner(runner, problem=problem)


def load_runner(name: str, runners: Sequence[InstalledRunner] | None = None) -> RunnerPlugin:
    """Import the runner called `name` and return what it brings.

    Raises:
        UsageError: no such runner is installed.
        RunnerError: two distributions claim the name, or the plugin cannot be loaded.
    """
    known = installed_runners() if runners is None else runners
    claims = [runner for runner in known if runner.name == name]
    if not claims:
        raise UsageError(f"there is no runner {name!r}", hint=_hint(name, known))
    if len(claims) > 1:
        owners = " and ".join(f"{runner.distribution} {runner.version}" for runner in claims)
        raise RunnerError(f"two distributions claim the runner {name!r}: {owners}", hint="uninstall one of them")
    return _import(claims[0])


def _import(runner: InstalledRunner) -> RunnerPlugin:
    what = f"runner {runner.name!r} of {runner.distribution} {runner.version}"
    if runner.name in RESERVED_NAMES:
        raise RunnerError(f"{what} cannot be used: `runner.{runner.name}` is the name of a setting")
    try:
        module = runner.entry_point.load()
    except Exception as error:
        raise RunnerError(f"{what} cannot be imported: {type(error).__name__}: {error}") from error
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.register(module, name=runner.name)
    answers = manager.hook.dfm_runner()
    if len(answers) != 1 or not isinstance(answers[0], RunnerPlugin):
        raise RunnerError(f"{what} does not implement the hook dfm_runner")
    plugin = answers[0]
    if plugin.name != runner.name:
        raise RunnerError(f"{what} calls itself {plugin.name!r}", hint="its entry point and its name must be the same")
    if plugin.api_version != API_VERSION:
        raise RunnerError(
            f"{what} was written for version {plugin.api_version} of DFM's runner API; this is {API_VERSION}",
            hint="update the older of the two distributions",
        )
    return plugin


def _hint(name: str, known: Sequence[InstalledRunner]) -> str:
    names = sorted({runner.name for runner in known})
    installed = f"installed are: {', '.join(names) or 'none'}"
    if name in OUR_DISTRIBUTIONS:
        return f"pip install {OUR_DISTRIBUTIONS[name]} ({installed})"
    near = did_you_mean(name, [*names, *OUR_DISTRIBUTIONS])
    return f"{near} ({installed})" if near else installed
