"""The composition root: the only module that knows every concrete class, and how one command becomes one run."""

import asyncio
import contextlib
import functools
import gc
import os
import shlex
import shutil
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeGuard

from dfm.api.batch import BatchDialect, Finding, Standing
from dfm.api.errors import DfmError, ExitCode, FlowError, InfrastructureError, RunnerError, UsageError
from dfm.api.events import EventSink, RunFinished, RunnerNotice, RunStarted, Verdict
from dfm.api.runner import (
    Answer,
    Ask,
    Outcome,
    Question,
    Runner,
    RunnerContext,
    RunnerPlugin,
    ShellBody,
    TaskRequest,
    TaskResult,
)
from dfm.core.config.layers import CliOptions
from dfm.core.config.load import Settings as RunnerSettings
from dfm.core.config.load import load_settings
from dfm.core.config.settings import DEFAULT_RUNNER
from dfm.core.crashpoint import crash_point
from dfm.core.execute.guard import start_guard
from dfm.core.flow import cached
from dfm.core.flow.diagnostics import render
from dfm.core.flow.locate import FLOW_NAMES, find_root
from dfm.core.flow.model import Flow
from dfm.core.flow.overrides import Overrides, parse_overrides
from dfm.core.graph.build import Surroundings, build_growing
from dfm.core.graph.growth import Growth
from dfm.core.graph.node import Graph
from dfm.core.graph.select import override_targets, select
from dfm.core.plugins.dialect import dialect_of
from dfm.core.plugins.discovery import load_runner
from dfm.core.plugins.packages import PluginPackages, installed_packages
from dfm.core.record.cache import cache_from
from dfm.core.record.lock import RunLock
from dfm.core.record.store import RecordStore
from dfm.core.runfacts import DaemonUse, RunFacts
from dfm.core.schedule.lifecycle import Lifecycle, Settings
from dfm.core.schedule.policy import MAX_ATTEMPTS, FailurePolicy
from dfm.core.schedule.scheduler import Scheduler
from dfm.core.standalone.command import task_command
from dfm.core.std import FLOW_FILE as STANDARD_LIBRARY

if TYPE_CHECKING:
    from dfm.core.daemon.endpoint import Discovery, Endpoint
    from dfm.core.pool.runner import PooledRunner

_NOT_FOR_TASKS = (
    "MAKEFLAGS",
    "MFLAGS",
    "MAKELEVEL",
    "GNUMAKEFLAGS",
    "DFM_CRASHPOINT",
    "DFM_CRASHPOINT_ARMED",
)
_TICK_SECONDS = 0.2
"""How often reports are told that time passes: a clock on a status line that counts seconds needs no more."""
_CANARY_SKEW_SECONDS = 2.0
"""`date` tells whole seconds."""
_STOP_SIGNALS = {
    signal.SIGINT: ExitCode.INTERRUPTED,
    signal.SIGTERM: ExitCode.TERMINATED,
    signal.SIGHUP: ExitCode.TERMINATED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowOptions:
    """Which flow, and with which parameters."""

    root: str | None = None
    config: str | None = None
    definitions: Sequence[str] = ()
    parameter_files: Sequence[str] = ()
    package_maps: Sequence[str] = ()
    replacements: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What `dfm run` was asked for.

    Attributes:
        jobs: `-j`; None where it was not given.
        max_failures: how many failed tasks end the run; None never does.
        rundir: directory for all run directories; None means `rundir` in the current directory.
        daemon: whether a daemon's workers are used.
        base_rundir: that of another run whose results are taken as they are.
    """

    flow: FlowOptions = field(default_factory=FlowOptions)
    tasks: Sequence[str] = ()
    jobs: int | None = None
    rundir: str | None = None
    base_rundir: str | None = None
    is_clean: bool = False
    is_forced: bool = False
    is_dry: bool = False
    max_failures: int | None = 1
    settings: CliOptions = field(default_factory=CliOptions)
    daemon: DaemonUse = DaemonUse.AUTO


@dataclass(frozen=True, slots=True)
class LoadedFlow:
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
        UsageError: there is none.
    """
    start = os.path.abspath(root or environ.get("DV_FLOW_ROOT") or os.getcwd())
    if not os.path.exists(start):
        raise UsageError(f"--root {root!r} does not exist")
    found = find_root(start)
    if found is None:
        raise UsageError(
            f"there is no flow file in {start} or above it",
            hint=f"a flow file is named {', '.join(FLOW_NAMES)}; --root points to one",
        )
    return os.path.abspath(found)


def load(options: FlowOptions, environ: Mapping[str, str], *, is_thorough: bool = False) -> LoadedFlow:
    """Find and load the flow; where `is_thorough`, with the imports that nothing touches.

    Raises:
        UsageError: there is none, or -D or -P are malformed.
        FlowInvalid: it has faults.
    """
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
            Surroundings(environ=environ, root_rundir=root_rundir(rundir)),
            overrides,
        )


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


def root_rundir(rundir: str | None) -> str:
    """Return the absolute directory that all run directories of a run lie in."""
    return os.path.abspath(rundir or "rundir")


def project_dir(root: str | None, environ: Mapping[str, str]) -> str:
    """Return the directory whose `.dfm` is the project's: that of the root flow file, else the current one."""
    start = os.path.abspath(root or environ.get("DV_FLOW_ROOT") or os.getcwd())
    if root is not None and not os.path.exists(start):
        raise UsageError(f"--root {root!r} does not exist")
    found = find_root(start)
    return os.getcwd() if found is None else os.path.dirname(os.path.abspath(found))


def chosen_runner(settings: RunnerSettings) -> tuple[RunnerPlugin, object]:
    """Return the plugin of the chosen runner and its decoded options.

    Raises:
        UsageError: the runner or an option is unknown.
        FlowError: a settings file chose an unknown one, or has faults in the runner's options.
        RunnerError: its plugin cannot be loaded.
    """
    try:
        plugin = load_runner(settings.runner_name)
    except UsageError as error:
        origin = settings.runner.origin
        if origin.location is None:
            raise
        raise FlowError(error.message, hint=error.hint, location=origin.location) from error
    return plugin, settings.runner_options(plugin)


def run(options: RunOptions, loaded: LoadedFlow, sink: EventSink, environ: Mapping[str, str]) -> int:
    """Run the tasks and return the exit code.

    Raises:
        DfmError: the run could not begin or could not go on.
    """
    settings = load_settings(environ, loaded.flow.root.srcdir, options.settings)
    plugin, runner_options = chosen_runner(settings)
    growing = growing_graph_of(loaded, options.tasks, environ, options.rundir)
    directory = root_rundir(options.rundir)
    run_id = uuid.uuid4().hex
    crash_point("run.graph_built")
    desk = _Desk()
    facts = RunFacts(
        run_id=run_id,
        project=loaded.flow.root.srcdir,
        root_rundir=directory,
        environ=_task_environment(options, environ),
        notice=lambda text: sink.emit(RunnerNotice(text=text)),
        ask=desk.ask,
        use=options.daemon,
    )
    if options.is_dry:
        _show_submission(plugin, runner_options, settings, facts)
        return _run_graph(options, loaded.flow, growing, _NoRunner(), plugin.name, settings, facts, desk, sink)
    _make_root_rundir(directory)
    with RunLock(directory) as lock:
        crash_point("run.locked")
        if options.is_clean:
            _clean(directory)
        guard = start_guard(run_id, [lock.fd])
        try:
            crash_point("run.guarded")
            runner = open_runner(plugin, runner_options, settings, facts, options.jobs)
            return _run_graph(options, loaded.flow, growing, runner, plugin.name, settings, facts, desk, sink)
        finally:
            guard.dismiss()


def open_runner(
    plugin: RunnerPlugin, runner_options: object, settings: RunnerSettings, facts: RunFacts, jobs: int | None
) -> Runner:
    """Return the runner, not yet entered; the local one on the daemon's workers where that was asked for.

    Raises:
        RunnerError: it cannot be used.
    """
    if plugin.name == DEFAULT_RUNNER and facts.use is DaemonUse.ALWAYS:
        return _pooled_locally(settings, facts)
    context = lend(
        root_rundir=facts.root_rundir,
        run_id=facts.run_id,
        jobs=jobs,
        notice=facts.notice,
        pool=lambda dialect: _pooled(dialect, settings, facts),
        ask=facts.ask,
    )
    return plugin.open(context, runner_options)


def _pooled_locally(settings: RunnerSettings, facts: RunFacts) -> Runner:
    from dfm.core.pooled import local_dialect  # noqa: PLC0415  (a run without a pool must not load it)

    return _pooled(local_dialect(), settings, facts)


def _pooled(dialect: BatchDialect, settings: RunnerSettings, facts: RunFacts) -> Runner:
    from dfm.core.pooled import pooled_runner  # noqa: PLC0415  (a run without a pool must not load it)

    return pooled_runner(dialect, settings, facts)


def _environment(runner: Runner, facts: RunFacts) -> Mapping[str, str]:
    """Return what tasks begin with: on a pool, what of the run's environment travels."""
    return runner.environment if _is_pooled(runner) else facts.environ


def _is_pooled(runner: Runner) -> "TypeGuard[PooledRunner]":
    """Whether the runner hands its tasks to a pool, which tries again by itself what it loses."""
    pooled = sys.modules.get("dfm.core.pool.runner")  # what was never imported has made no runner
    return pooled is not None and isinstance(runner, pooled.PooledRunner)


def _show_submission(plugin: RunnerPlugin, runner_options: object, settings: RunnerSettings, facts: RunFacts) -> None:
    dialect = dialect_of(plugin, runner_options)
    if dialect is not None:
        from dfm.core.pooled import shown_submission  # noqa: PLC0415  (a run without a pool must not load it)

        facts.notice(f"a worker would be submitted with:\n{shown_submission(dialect, settings, facts)}")


def _run_graph(
    options: RunOptions,
    flow: Flow,
    growing: tuple[Graph, Growth],
    runner: Runner,
    runner_name: str,
    runner_settings: RunnerSettings,
    facts: RunFacts,
    desk: "_Desk",
    sink: EventSink,
) -> int:
    run_id, directory = facts.run_id, facts.root_rundir
    graph, growth = growing
    settings = Settings(
        run_id=run_id,
        root_rundir=directory,
        root_pkgdir=flow.root.srcdir,
        environ=_environment(runner, facts),
        rerun=_rerun_command(options),
        is_forced=options.is_forced,
        is_dry=options.is_dry,
        max_attempts=1 if _is_pooled(runner) else MAX_ATTEMPTS,
        cache=cache_from(os.environ),
        resolve_resources=functools.lru_cache(runner_settings.resolve_resources),
        base_rundir=_base_rundir(options.base_rundir),
    )
    sink.emit(
        RunStarted(
            run_id=run_id,
            tasks=[graph.nodes[index].name for index in graph.targets],
            nodes=sum(node.is_visible for node in graph.nodes),
            runner=runner_name,
            rundir=directory,
            at=datetime.now(UTC),
        )
    )
    started = time.monotonic()
    session = _Session(graph, growth, settings, runner, sink, FailurePolicy(options.max_failures))
    desk.session = session
    exit_code: int = ExitCode.INTERNAL
    try:
        exit_code = asyncio.run(session.run())
    except DfmError as error:
        exit_code = error.exit_code
        raise
    finally:
        sink.emit(
            RunFinished(
                run_id=run_id,
                exit_code=exit_code,
                seconds=time.monotonic() - started,
                counts=session.counts(),
                at=datetime.now(UTC),
            )
        )
    return exit_code


def lend(
    *,
    root_rundir: str,
    run_id: str,
    jobs: int | None,
    notice: Callable[[str], None],
    pool: Callable[[BatchDialect], Runner],
    ask: Ask,
) -> RunnerContext:
    """Return what the core lends to a runner; the directory exists."""
    return RunnerContext(
        root_rundir=root_rundir,
        run_id=run_id,
        jobs=jobs,
        notice=notice,
        pool=pool,
        task_command=task_command,
        ask=ask,
    )


@dataclass(frozen=True, slots=True)
class CanaryReport:
    """How one small task fared on its way through a runner.

    Attributes:
        total_seconds: from opening the runner to the result, waiting in a queue included.
    """

    host: str
    total_seconds: float
    findings: Sequence[Finding]


def canary(settings: RunnerSettings, directory: str) -> CanaryReport:
    """Send one small task through the chosen runner, just as a run would, and take it away again.

    Args:
        settings: which runner, with which options.
        directory: shared with the hosts of the runner; a directory is made in it and removed.

    Raises:
        RunnerError: the runner cannot be used, or the task did not come back well.
        InfrastructureError: nothing can be written in the directory.
    """
    plugin, options = chosen_runner(settings)
    try:
        with tempfile.TemporaryDirectory(prefix=".dfm-canary-", dir=directory) as place:
            return asyncio.run(_canary(settings, plugin, options, place))
    except OSError as error:
        raise InfrastructureError(f"cannot write in {directory}: {error.strerror}") from error


async def _canary(settings: RunnerSettings, plugin: RunnerPlugin, options: object, place: str) -> CanaryReport:
    run_id = uuid.uuid4().hex
    request = TaskRequest(
        run_id=run_id,
        task="canary",
        attempt=1,
        rundir=place,
        srcdir=place,
        root_pkgdir=place,
        root_rundir=place,
        artefact="canary",
        body=ShellBody("date +%s > clock", "sh"),
        params={},
        inputs=(),
        memento=None,
        env={name: value for name, value in os.environ.items() if name not in _NOT_FOR_TASKS},
    )
    notices: list[str] = []
    facts = RunFacts(
        run_id=run_id,
        project=place,
        root_rundir=place,
        environ=request.env,
        notice=notices.append,
        use=DaemonUse.NEVER,
    )
    started, started_at = time.monotonic(), time.time_ns()
    async with open_runner(plugin, options, settings, facts, 1) as runner:
        result = await runner.run(request)
    seconds = time.monotonic() - started
    if result.outcome is not Outcome.SUCCEEDED:
        raise RunnerError(f"the canary came back as {result.outcome}: {result.cause}", hint="; ".join(notices) or None)
    return CanaryReport(result.host, seconds, _canary_findings(os.path.join(place, "clock"), started_at))


def _canary_findings(path: str, started_at: int) -> list[Finding]:
    """Tell whether what the task wrote is seen here, and whether its host's clock is ours."""
    try:
        with open(path, encoding="utf-8") as file:
            clock = int(file.read())
    except (OSError, ValueError):
        hint = "the project must lie in a directory that all hosts share; NFS may need `actimeo=0` or `noac`"
        return [Finding(standing=Standing.ERROR, text="what the task wrote cannot be seen here", hint=hint)]
    skew = max(started_at / 1e9 - 1 - clock, clock - time.time_ns() / 1e9, 0.0)
    if skew < _CANARY_SKEW_SECONDS:
        return [Finding(standing=Standing.OK, text="what it wrote is seen here, and the clocks agree")]
    hint = "have both hosts take their time from one NTP server"
    return [Finding(standing=Standing.WARNING, text=f"the clock of its host differs by {skew:.0f} s", hint=hint)]


def _base_rundir(given: str | None) -> str | None:
    if given is None:
        return None
    path = os.path.abspath(given)
    if not os.path.isdir(path):
        raise UsageError(f"--base-rundir {given!r} is no directory")
    return path


def _task_environment(options: RunOptions, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment that tasks begin with."""
    result = {name: value for name, value in environ.items() if name not in _NOT_FOR_TASKS}
    base = _base_rundir(options.base_rundir)
    return result if base is None else result | {"DFM_BASE_RUNDIR": base}


class _Desk:
    """Takes questions of running bodies to the session, which begins after the runner is made."""

    def __init__(self) -> None:
        self.session: _Session | None = None

    async def ask(self, task: str, question: Question) -> Answer:
        """Return the session's answer."""
        assert self.session is not None, "a body runs inside a session"
        return await self.session.answer(task, question)


class _NoRunner(Runner):
    """The runner of a dry run: it opens nothing and is never asked."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        return None

    @property
    def max_in_flight(self) -> int:
        """One, so that the scheduler goes on."""
        return 1

    async def run(self, request: TaskRequest) -> TaskResult:
        raise AssertionError(f"a dry run does not run {request.task}")


class _Session:
    """One run of one graph inside one event loop, and what a signal does to it."""

    def __init__(
        self,
        graph: Graph,
        growth: Growth,
        settings: Settings,
        runner: Runner,
        sink: EventSink,
        policy: FailurePolicy,
    ) -> None:
        self._graph = graph
        self._growth = growth
        self._settings = settings
        self._runner = runner
        self._sink = sink
        self._policy = policy
        self._scheduler: Scheduler | None = None
        self._stopped_by: ExitCode | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def run(self) -> int:
        """Run to the end, or until a signal; return the exit code."""
        task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()
        for number, code in _STOP_SIGNALS.items():
            loop.add_signal_handler(number, self._stop, task, code)
        self._tick(loop)
        try:
            async with self._runner:
                crash_point("run.runner_open")
                store = RecordStore(self._settings.root_rundir)
                lifecycle = Lifecycle(self._settings, store, self._runner, self._sink)
                self._scheduler = Scheduler(
                    self._graph, lifecycle, self._runner.max_in_flight, self._policy, self._sink, self._growth
                )
                try:
                    await self._scheduler.run()
                finally:
                    if not self._settings.is_dry:
                        store.save_index()
        except asyncio.CancelledError:
            if self._stopped_by is None:
                raise
            return self._stopped_by
        except ExceptionGroup as group:
            raise _first_cause(group) from group
        finally:
            if self._timer is not None:
                self._timer.cancel()
            for number in _STOP_SIGNALS:
                loop.remove_signal_handler(number)
        crash_point("run.finished")
        return self._exit_code()

    async def answer(self, task: str, question: Question) -> Answer:
        """Answer what the body of a running task asks."""
        if self._scheduler is None:
            return {"error": "nothing runs"}
        return await self._scheduler.answer(task, question)

    def counts(self) -> dict[Verdict, int]:
        """Return how many visible nodes ended each way."""
        return {} if self._scheduler is None else self._scheduler.outcome.counts(self._graph)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self._sink.tick()
        self._timer = loop.call_later(_TICK_SECONDS, self._tick, loop)

    def _stop(self, task: "asyncio.Task[int]", code: ExitCode) -> None:
        if self._stopped_by is None:
            self._stopped_by = code
            self._sink.emit(RunnerNotice(text="stopping; once more kills what still runs"))
            task.cancel()
        elif self._scheduler is not None:
            self._scheduler.cancel_again()

    def _exit_code(self) -> ExitCode:
        failures = self._scheduler.outcome.failures if self._scheduler is not None else {}
        if failures.get(Verdict.FAILED):
            return ExitCode.TASK_FAILED
        if failures.get(Verdict.LOST):
            return ExitCode.INFRASTRUCTURE
        return ExitCode.OK


def _first_cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first plain exception inside a group: the others follow from it."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _rerun_command(options: RunOptions) -> "_RerunCommand":
    words = []
    if options.flow.root is not None:
        words += ["--root", options.flow.root]
    if options.rundir is not None:
        words += ["--rundir", options.rundir]
    if options.base_rundir is not None:
        words += ["--base-rundir", options.base_rundir]
    if options.flow.config is not None:
        words += ["-c", options.flow.config]
    for definition in options.flow.definitions:
        words += ["-D", definition]
    for source in options.flow.parameter_files:
        words += ["-P", source]
    for path in options.flow.package_maps:
        words += ["--package-map", path]
    for replacement in options.flow.replacements:
        words += ["--override", replacement]
    words += _settings_words(options.settings)
    return _RerunCommand(_program(), tuple(words))


def _settings_words(options: CliOptions) -> list[str]:
    words = [] if options.is_file_read else ["--no-config"]
    if options.config_file is not None:
        words += ["--config-file", options.config_file]
    if options.runner is not None:
        words += ["--runner", options.runner]
    for option in options.runner_options:
        words += ["--runner-opt", option]
    return words


def _program() -> str:
    """Return the word by which this person can call dfm: plain `dfm` where PATH leads here, else as it was called."""
    called = sys.argv[0]
    found = shutil.which("dfm")
    is_on_path = found is not None and os.path.exists(called) and os.path.samefile(found, called)
    return called if os.path.basename(called) == "dfm" and not is_on_path else "dfm"


@dataclass(frozen=True, slots=True)
class _RerunCommand:
    """Makes the command that runs one task again with the options of this run."""

    program: str
    words: tuple[str, ...]

    def __call__(self, task: str) -> str:
        return shlex.join([self.program, "run", task, *self.words])


_MARK = ".dfm-rundir"


def _make_root_rundir(directory: str) -> None:
    try:
        is_new = not os.path.isdir(directory)
        os.makedirs(directory, exist_ok=True)
        if is_new or not os.listdir(directory):
            with open(os.path.join(directory, _MARK), "x", encoding="utf-8") as mark:
                mark.write("DFM made this directory; `dfm run --clean` may empty it.\n")
    except FileExistsError:
        if not os.path.isdir(directory):
            raise InfrastructureError(f"{directory} exists and is not a directory") from None
    except OSError as error:
        raise InfrastructureError(
            f"cannot write in the run directory {directory}: {error.strerror}",
            hint="--rundir names another one",
        ) from error


def _clean(directory: str) -> None:
    """Empty the run directory, if it is one that DFM made."""
    if not os.path.isfile(os.path.join(directory, _MARK)):
        raise UsageError(
            f"--clean would empty {directory}, which DFM did not make",
            hint=f"remove it by hand, or create the file {_MARK} in it",
        )
    for entry in os.scandir(directory):
        if entry.name in (_MARK, ".dfm.lock"):
            continue
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            os.unlink(entry.path)


def validate(loaded: LoadedFlow, environ: Mapping[str, str]) -> Graph:
    """Build the graph of every task of the root package, so that every value in it is evaluated once.

    Raises:
        FlowInvalid: something cannot be evaluated.
    """
    names = [name for name, task in loaded.flow.root.tasks.items() if not task.is_template]
    return graph_of(loaded, names, environ, None)


def daemon_endpoint(root: str | None, environ: Mapping[str, str]) -> "Endpoint":
    """Return the places of the daemon of the project that `root`, or the current directory, belongs to.

    Raises:
        UsageError: there is no flow file.
    """
    from dfm.core.daemon.endpoint import Endpoint  # noqa: PLC0415  (a run without a pool must not load it)

    return Endpoint(os.path.dirname(locate_root(root, environ)))


def serve_daemon(
    endpoint: "Endpoint",
    cli_options: CliOptions,
    pool_size: int | None,
    environ: Mapping[str, str],
    ready: "Callable[[Discovery], None]",
) -> None:
    """Be the daemon of a project until it is told to stop.

    Raises:
        DfmError: it cannot be one.
    """
    from dfm.core.daemon.serve import serve  # noqa: PLC0415  (a run without a pool must not load it)
    from dfm.core.pooled import daemon_plan, local_dialect  # noqa: PLC0415  (a run without a pool must not load it)

    settings = load_settings(environ, endpoint.project, cli_options)
    if pool_size is not None:
        settings.pool = replace(
            settings.pool, max_workers=pool_size, min_workers=min(pool_size, settings.pool.min_workers)
        )
    plugin, options = chosen_runner(settings)
    dialect = local_dialect() if plugin.name == DEFAULT_RUNNER else dialect_of(plugin, options)
    if dialect is None:
        raise RunnerError(f"runner {plugin.name} has no workers that a daemon could keep warm")
    serve(endpoint, lambda place: daemon_plan(dialect, settings, endpoint, place), ready)


def reap_jobs(endpoint: "Endpoint", cli_options: CliOptions, environ: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Cancel what daemons and runs that are gone have left; return the names of jobs that ended, and of the others.

    Raises:
        DfmError: the runner cannot be used.
    """
    from dfm.core.daemon.endpoint import state_root  # noqa: PLC0415  (a run without a pool must not load it)
    from dfm.core.pool.reap import reap  # noqa: PLC0415  (a run without a pool must not load it)
    from dfm.core.pooled import local_dialect  # noqa: PLC0415  (a run without a pool must not load it)

    settings = load_settings(environ, endpoint.project, cli_options)
    plugin, options = chosen_runner(settings)
    dialect = local_dialect() if plugin.name == DEFAULT_RUNNER else dialect_of(plugin, options)
    if dialect is None:
        return [], []
    return asyncio.run(reap(dialect, environ, state_root()))
