"""From files to a graph: finds the flow, loads it or takes it from the cache, builds the graph of what was asked."""

import contextlib
import gc
import os
from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from dfm.api.errors import UsageError
from dfm.core.flow import cached
from dfm.core.flow.diagnostics import render
from dfm.core.flow.locate import FLOW_NAMES, find_root
from dfm.core.flow.model import Flow
from dfm.core.flow.overrides import Overrides, parse_overrides
from dfm.core.graph.build import Surroundings, build_growing
from dfm.core.graph.growth import Growth
from dfm.core.graph.layout import layout_from
from dfm.core.graph.node import Graph
from dfm.core.graph.select import override_targets, select
from dfm.core.plugins.packages import PluginPackages, installed_packages
from dfm.core.std import FLOW_FILE as STANDARD_LIBRARY


class FlowOptions(Struct, frozen=True, kw_only=True):
    """Which flow, and with which parameters."""

    root: str | None = None
    config: str | None = None
    definitions: Sequence[str] = ()
    parameter_files: Sequence[str] = ()
    package_maps: Sequence[str] = ()
    replacements: Sequence[str] = ()


class LoadedFlow(Struct, frozen=True):
    """A flow with the parameters of the command line that were met while it was loaded."""

    flow: Flow
    overrides: Overrides

    @property
    def warnings(self) -> list[str]:
        """What a person should know of the flow, as text."""
        return [render(warning) for warning in self.flow.warnings]


def locate_root(root: str | None, environ: Mapping[str, str]) -> str:
    """Return the root flow file: below or above `--root`, `DV_FLOW_ROOT` or the current directory.

    Raises:
        UsageError: there is none, or its path is not UTF-8.
    """
    start = os.path.abspath(root or environ.get("DV_FLOW_ROOT") or os.getcwd())
    if not os.path.exists(start):
        asked = f"DV_FLOW_ROOT {environ.get('DV_FLOW_ROOT')!r}" if root is None else f"--root {root!r}"
        raise UsageError(f"{asked} does not exist")
    found = find_root(start)
    if found is None:
        raise UsageError(
            f"there is no flow file in {start} or above it",
            hint=f"a flow file is named {', '.join(FLOW_NAMES)}; --root points to one",
        )
    return as_utf8(os.path.abspath(found), "the path of the flow file")


def as_utf8(text: str, what: str) -> str:
    """Return a path or a word of the command line that can be handed on as text: to tasks, records and workers.

    Raises:
        UsageError: it holds bytes that are no UTF-8.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        shown = os.fsencode(text).decode("utf-8", "backslashreplace")
        raise UsageError(
            f"{what} is not UTF-8: {shown}",
            hint="paths and parameters reach tasks, records and workers as UTF-8: choose another name",
        ) from None
    return text


def load(options: FlowOptions, environ: Mapping[str, str], *, is_thorough: bool = False) -> LoadedFlow:
    """Find and load the flow; where `is_thorough`, with the imports that nothing touches.

    Raises:
        UsageError: there is none, or -D or -P are malformed, or an option is not UTF-8.
        FlowInvalid: it has faults.
    """
    _refuse_other_than_utf8(options)
    overrides = parse_overrides(options.definitions, options.parameter_files, options.replacements)
    root_file = locate_root(options.root, environ)
    cache, plugins = cached.cache_from(environ), installed_packages()

    def load_anew(environ: Mapping[str, str], plugins: PluginPackages) -> Flow:
        from dfm.core.flow.load import load_flow  # noqa: PLC0415  (a flow from the cache needs none of it)

        return load_flow(
            root_file,
            environ=environ,
            overrides=overrides,
            config=options.config,
            standard_library=STANDARD_LIBRARY,
            package_maps=options.package_maps,
            plugins=plugins,
            is_thorough=is_thorough,
        )

    with _no_collection():
        if cache is None or is_thorough:
            return LoadedFlow(load_anew(environ, plugins), overrides)
        asked_for = [
            root_file,
            options.config,
            STANDARD_LIBRARY,
            list(options.package_maps),
            list(overrides.names.items()),
            [[task, list(values.items())] for task, values in overrides.tasks.items()],
            list(overrides.tasks_replaced.items()),
        ]
        return LoadedFlow(cache.flow(asked_for, environ, plugins, overrides, load_anew), overrides)


def _refuse_other_than_utf8(options: FlowOptions) -> None:
    given = {
        "-c": [] if options.config is None else [options.config],
        "-D": options.definitions,
        "-P": options.parameter_files,
        "--package-map": options.package_maps,
        "--override": options.replacements,
    }
    for option, words in given.items():
        for word in words:
            as_utf8(word, f"the value of {option}")


def graph_of(loaded: LoadedFlow, tasks: Sequence[str], environ: Mapping[str, str], rundir: str | None) -> Graph:
    """Build the graph of the named tasks.

    Raises:
        UsageError: a task or an override means nothing.
        FlowInvalid: values cannot be evaluated.
    """
    return growing_graph_of(loaded, tasks, environ, rundir)[0]


def growing_graph_of(
    loaded: LoadedFlow, tasks: Sequence[str], environ: Mapping[str, str], rundir: str | None
) -> tuple[Graph, Growth]:
    """Build the graph of the named tasks, with what adds to it while it runs; raises as `graph_of` does."""
    targets = [select(loaded.flow, name) for name in tasks]
    overrides = override_targets(loaded.flow, loaded.overrides, targets)
    with _no_collection():
        return build_growing(
            loaded.flow,
            targets,
            Surroundings(environ=environ, root_rundir=root_rundir(rundir), layout=layout_from(environ)),
            overrides,
        )


def validate(loaded: LoadedFlow, environ: Mapping[str, str]) -> Graph:
    """Build the graph of every task of the root package, so that every value in it is evaluated once.

    Raises:
        FlowInvalid: something cannot be evaluated.
    """
    names = [name for name, task in loaded.flow.root.tasks.items() if not task.is_template]
    return graph_of(loaded, names, environ, None)


def root_rundir(rundir: str | None) -> str:
    """Return the absolute directory that all run directories of a run lie in.

    Raises:
        UsageError: its path is not UTF-8.
    """
    return as_utf8(os.path.abspath(rundir or "rundir"), "the path of the run directory")


def project_dir(root: str | None, environ: Mapping[str, str]) -> str:
    """Return the directory whose `.dfm` is the project's: that of the root flow file, else the current one."""
    start = os.path.abspath(root or environ.get("DV_FLOW_ROOT") or os.getcwd())
    if root is not None and not os.path.exists(start):
        raise UsageError(f"--root {root!r} does not exist")
    found = find_root(start)
    return os.getcwd() if found is None else os.path.dirname(os.path.abspath(found))


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Keep the garbage collector away while a great many objects come into being that all stay.

    What there is at the end is never looked at again: else the first thing it did would be to look at all of it.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.freeze()
            gc.enable()
