"""The settings of one call of dfm: all layers read, held against the declarations, and decided.

Files are checked whole before anything else is done, but for the options of runners that are not chosen: only the
chosen runner's plugin is imported. `dfm config validate` imports all of them.
"""

import dataclasses
import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeVar

from msgspec import Struct, structs

from dfm.api.errors import DfmError, FlowError, RunnerError, UsageError
from dfm.api.runner import Resources, RunnerPlugin
from dfm.api.units import format_memory
from dfm.core.config.faults import ConfigInvalid, Faults
from dfm.core.config.layers import RUNNER_VARIABLE, CliOptions, Layer, LayerFile, Origin, layer_files
from dfm.core.config.merge import Effective, Layered, Path
from dfm.core.config.read import read_layer
from dfm.core.config.resources import ResourceRules
from dfm.core.config.schema import Setting, settings_of
from dfm.core.config.sections import (
    CHOICE,
    CLASS,
    CLASSES,
    SECTIONS,
    SectionReader,
    adopt_options,
    split_option,
)
from dfm.core.config.settings import DEFAULT_RUNNER, PoolSettings, ResourceClass, ResourceDefaults
from dfm.core.plugins.discovery import OUR_DISTRIBUTIONS, installed_runners, load_all
from dfm.core.suggest import did_you_mean

D = TypeVar("D")

LEAST_WORKERS = ("runner", "pool", "min_workers")
MOST_WORKERS = ("runner", "pool", "max_workers")
POOL_SIZE_OPTION = "--pool-size"


class ReadFile(Struct, frozen=True):
    """A file that was looked for."""

    layer: Layer
    path: str
    exists: bool


class Settings:
    """What holds for this call, and where each value comes from.

    Attributes:
        runner_name: the chosen runner.
        pool: `runner.pool`.
        rules: `runner.defaults` and `runner.resource_classes`.
        files: those looked for, weakest first.
    """

    def __init__(self, layered: Layered, files: Sequence[ReadFile], faults: Faults) -> None:
        self._layered = layered
        self.files = tuple(files)
        self._core: dict[Path, Effective] = {}
        for setting in CHOICE:
            self._decide(("runner", setting.name), setting, faults)
        self.pool = self._pool(faults)
        defaults = self._section(ResourceDefaults, ("runner", "defaults"), faults)
        classes = {
            name: self._section(ResourceClass, ("runner", CLASSES, name), faults)
            for name in layered.below(("runner", CLASSES))
        }
        self.rules = ResourceRules(defaults, classes)
        self._check_pool(faults)
        self._check_next(faults)

    @property
    def runner(self) -> Effective:
        """Which runner, and what chose it."""
        return self._core["runner", "default"]

    @property
    def runner_name(self) -> str:
        """The chosen runner."""
        return str(self.runner.value)

    @property
    def resource_classes(self) -> Mapping[str, ResourceClass]:
        """The resource classes by name."""
        return self.rules.classes

    @property
    def core(self) -> Sequence[Effective]:
        """Every setting of DFM itself: all but the options of runners."""
        return tuple(self._core.values())

    def resolve_resources(self, asked: Resources | None) -> Resources:
        """Return what a task gets; `dfm.core.config.resources.ResourceRules.resolve` says by which rules.

        Raises:
            FlowError: the tag names a class that the settings do not have.
        """
        return self.rules.resolve(asked)

    def runner_options(self, plugin: RunnerPlugin) -> Any:  # noqa: ANN401  (the plugin's own dataclass)
        """Return the options of a runner as its own dataclass.

        Raises:
            UsageError: `--runner-opt` is wrong.
            ConfigInvalid: a file is.
            RunnerError: the plugin declares options that settings cannot have.
        """
        found = self.runner_settings(plugin)
        try:
            return plugin.options(**{item.setting.name: item.value for item in found})
        except (TypeError, ValueError) as error:
            raise RunnerError(f"runner {plugin.name} refuses its options: {error}") from error

    def runner_settings(self, plugin: RunnerPlugin, faults: Faults | None = None) -> list[Effective]:
        """Return each option of a runner with its origin; with `faults`, what is wrong is told there.

        Raises:
            UsageError: `--runner-opt` is wrong.
            ConfigInvalid: a file is.
            RunnerError: the plugin declares options that settings cannot have.
        """
        told = faults if faults is not None else Faults()
        settings = declared_options(plugin)
        adopt_options(self._layered, plugin.name, settings, told)
        found = [self._layered.effective(("runner", plugin.name, item.name), item, told) for item in settings]
        if faults is None:
            told.raise_if_any()
        return found

    def undeclared(self, runner: str) -> list[Effective]:
        """Return what the layers say of a runner that is not installed, as it is written; the nearest layer wins."""
        prefix = ("runner", runner)
        return [self._layered.unchecked((*prefix, key)) for key in self._layered.below(prefix)]

    def configured_runners(self) -> list[str]:
        """Return the names below `runner` that are runners."""
        ours = {*(setting.name for setting in CHOICE), *SECTIONS, CLASSES}
        return [name for name in self._layered.below(("runner",)) if name not in ours]

    def _pool(self, faults: Faults) -> PoolSettings:
        pool = self._section(PoolSettings, ("runner", "pool"), faults)
        if self.runner_name == DEFAULT_RUNNER:  # its workers are processes on this host
            declared = self._core[MOST_WORKERS].setting
            setting = structs.replace(declared, default=max(usable_cpus(), pool.min_workers))
            pool = dataclasses.replace(pool, max_workers=self._decide(MOST_WORKERS, setting, faults).value)
        least, most = self._core[LEAST_WORKERS], self._core[MOST_WORKERS]
        if most.origin.text != POOL_SIZE_OPTION or least.lock is not None or least.value <= most.value:
            return pool
        self._core[LEAST_WORKERS] = structs.replace(least, value=most.value, cap=most.origin)
        return dataclasses.replace(pool, min_workers=pool.max_workers)

    def _section(self, declaration: type[D], path: Path, faults: Faults) -> D:
        values = {
            setting.name: self._decide((*path, setting.name), setting, faults).value
            for setting in (CLASS if declaration is ResourceClass else settings_of(declaration))
        }
        return declaration(**values)

    def _decide(self, path: Path, setting: Setting, faults: Faults) -> Effective:
        found = self._core[path] = self._layered.effective(path, setting, faults)
        return found

    def _check_pool(self, faults: Faults) -> None:
        least, most = self._core[LEAST_WORKERS], self._core[MOST_WORKERS]
        if least.value > most.value:
            nearer = max(least, most, key=lambda item: item.origin.layer)
            message = f"runner.pool: min_workers {least.value} is more than max_workers {most.value} ({most.origin})"
            faults.add(nearer.origin, message)

    def _check_next(self, faults: Faults) -> None:
        for name, item in self.resource_classes.items():
            origin = self._core["runner", CLASSES, name, "next"].origin
            seen = [name]
            following = item.next
            while following is not None:
                if following not in self.resource_classes:
                    faults.add(origin, f"runner.{CLASSES}.{name}.next: there is no resource class {following!r}")
                    break
                if following in seen:
                    circle = " -> ".join([*seen, following])
                    faults.add(origin, f"runner.{CLASSES}.{name}.next: the classes go round in a circle: {circle}")
                    break
                seen.append(following)
                following = self.resource_classes[following].next
            self._check_growth(name, item, origin, faults)

    def _check_growth(self, name: str, item: ResourceClass, origin: Origin, faults: Faults) -> None:
        larger = self.resource_classes.get(item.next or "")
        if larger is None or item.memory is None or larger.memory is None or larger.memory > item.memory:
            return
        message = f"{item.next} has {format_memory(larger.memory)}, no more memory than {format_memory(item.memory)}"
        faults.add(origin, f"runner.{CLASSES}.{name}.next: {message}")


def load_settings(
    environ: Mapping[str, str], project_dir: str | None = None, cli_options: CliOptions | None = None
) -> Settings:
    """Read all layers and decide.

    Args:
        environ: names the files, and may choose the runner.
        project_dir: directory of the root flow file; None leaves out the project's layer.
        cli_options: what the command line says.

    Raises:
        ConfigInvalid: files have faults; all of them are told.
        UsageError: the command line or a variable has one.
    """
    faults = Faults()
    settings = load_with_faults(environ, project_dir, cli_options or CliOptions(), faults)
    faults.raise_if_any()
    return settings


def load_with_faults(
    environ: Mapping[str, str], project_dir: str | None, options: CliOptions, faults: Faults
) -> Settings:
    """Read all layers and decide as far as that is possible; what is wrong in files is told to `faults`.

    Raises:
        UsageError: the command line or a variable has a fault.
    """
    layered = Layered()
    reader = SectionReader(layered, faults, configurable_runners)
    files = [_read(file, reader, faults) for file in layer_files(environ, project_dir, options)]
    if environ.get(RUNNER_VARIABLE):
        reader.add_word(Layer.ENVIRONMENT, ("runner", "default"), environ[RUNNER_VARIABLE], RUNNER_VARIABLE)
    if options.runner is not None:
        if not options.runner:
            raise UsageError("--runner names no runner", hint="`dfm runners` lists what is installed")
        reader.add_word(Layer.COMMAND_LINE, ("runner", "default"), options.runner, "--runner")
    if options.pool_size is not None:
        reader.add_word(Layer.COMMAND_LINE, MOST_WORKERS, str(options.pool_size), POOL_SIZE_OPTION)
    words = [split_option(word) for word in options.runner_options]
    settings = Settings(layered, files, faults)
    for key, text in words:
        reader.add_word(Layer.COMMAND_LINE, ("runner", settings.runner_name, key), text, "--runner-opt")
    return settings


def usable_cpus() -> int:
    """Return how many processors of this host this process may use."""
    return len(os.sched_getaffinity(0))


def declared_options(plugin: RunnerPlugin) -> tuple[Setting, ...]:
    """Return the options that a runner declares.

    Raises:
        RunnerError: they are declared in a way that settings cannot have.
    """
    try:
        return settings_of(plugin.options)
    except TypeError as error:
        raise RunnerError(f"runner {plugin.name} declares its options wrongly: {error}") from error


def declared_runners() -> tuple[list[RunnerPlugin], list[DfmError]]:
    """Return every installed runner whose options can be known, and what is wrong with the others."""
    plugins: list[RunnerPlugin] = []
    problems: list[DfmError] = []
    for runner in load_all():
        if runner.plugin is None:
            assert runner.problem is not None, "what is not loaded has a problem"
            problems.append(runner.problem)
            continue
        try:
            declared_options(runner.plugin)
        except RunnerError as problem:
            problems.append(problem)
        else:
            plugins.append(runner.plugin)
    return plugins, problems


def check_file(path: str, plugins: Sequence[RunnerPlugin]) -> list[FlowError]:
    """Return every fault of one settings file, the options of the given runners included."""
    faults = Faults()
    layered = Layered()
    reader = SectionReader(layered, faults, configurable_runners)
    try:
        table = read_layer(LayerFile(Layer.PROJECT, path, "the command line"))
    except ConfigInvalid as invalid:
        return list(invalid.faults)
    assert table is not None, "a file that must exist has a table or a fault"
    reader.add_file(Layer.PROJECT, table)
    settings = Settings(layered, [], faults)
    for plugin in plugins:
        settings.runner_settings(plugin, faults)
    known = configurable_runners()
    if settings.runner_name not in known:
        message = f"there is no runner {settings.runner_name!r}"
        faults.add(settings.runner.origin, message, did_you_mean(settings.runner_name, known))
    return list(faults.found)


def configurable_runners() -> Collection[str]:
    """Return the names that may stand below `runner`: the installed runners and ours, installed or not."""
    return sorted({*(runner.name for runner in installed_runners()), *OUR_DISTRIBUTIONS})


def _read(file: LayerFile, reader: SectionReader, faults: Faults) -> ReadFile:
    try:
        table = read_layer(file)
    except ConfigInvalid as invalid:
        for fault in invalid.faults:
            faults.add_error(fault)
        return ReadFile(file.layer, file.path, exists=True)
    if table is not None:
        reader.add_file(file.layer, table)
    return ReadFile(file.layer, file.path, exists=table is not None)
