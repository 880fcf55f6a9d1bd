"""The composition root: the only module that knows every concrete class, and how one command becomes one run."""

import asyncio
import os
import shlex
import shutil
import signal
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from dfm.api.batch import BatchDialect
from dfm.api.errors import DfmError, ExitCode, InfrastructureError, RunnerError, UsageError
from dfm.api.events import EventSink, RunFinished, RunnerNotice, RunStarted, Verdict
from dfm.api.runner import Answer, Question, Runner, RunnerContext, RunnerPlugin, TaskRequest, TaskResult
from dfm.core.config.runner import choose_runner
from dfm.core.crashpoint import crash_point
from dfm.core.execute.guard import start_guard
from dfm.core.flow.diagnostics import render
from dfm.core.flow.load import load_flow
from dfm.core.flow.locate import FLOW_NAMES, find_root
from dfm.core.flow.model import Flow
from dfm.core.flow.overrides import Overrides, parse_overrides
from dfm.core.graph.build import Surroundings, build_growing
from dfm.core.graph.growth import Growth
from dfm.core.graph.node import Graph
from dfm.core.graph.select import override_targets, select
from dfm.core.plugins.discovery import load_runner
from dfm.core.plugins.options import decode_options, split_options
from dfm.core.plugins.packages import installed_packages
from dfm.core.record.cache import cache_from
from dfm.core.record.lock import RunLock
from dfm.core.record.store import RecordStore
from dfm.core.schedule.lifecycle import Lifecycle, Settings
from dfm.core.schedule.policy import FailurePolicy
from dfm.core.schedule.scheduler import Scheduler
from dfm.core.std import FLOW_FILE as STANDARD_LIBRARY

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
    runner: str | None = None
    runner_options: Sequence[str] = ()


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


def load(options: FlowOptions, environ: Mapping[str, str]) -> LoadedFlow:
    """Find and load the flow.

    Raises:
        UsageError: there is none, or -D or -P are malformed.
        FlowInvalid: it has faults.
    """
    overrides = parse_overrides(options.definitions, options.parameter_files, options.replacements)
    flow = load_flow(
        locate_root(options.root, environ),
        environ=environ,
        overrides=overrides,
        config=options.config,
        standard_library=STANDARD_LIBRARY,
        package_maps=options.package_maps,
        plugins=installed_packages(),
    )
    return LoadedFlow(flow, overrides)


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
    return build_growing(
        loaded.flow,
        targets,
        Surroundings(environ=environ, root_rundir=root_rundir(rundir)),
        overrides,
    )


def root_rundir(rundir: str | None) -> str:
    """Return the absolute directory that all run directories of a run lie in."""
    return os.path.abspath(rundir or "rundir")


def chosen_runner(options: RunOptions, environ: Mapping[str, str]) -> tuple[RunnerPlugin, object]:
    """Return the runner's plugin and its decoded options.

    Raises:
        UsageError: the runner or an option is unknown.
        RunnerError: its plugin cannot be loaded.
    """
    chosen = choose_runner(options.runner, environ)
    given = split_options(options.runner_options)
    plugin = load_runner(chosen.name)
    return plugin, decode_options(plugin, given)


def run(options: RunOptions, loaded: LoadedFlow, sink: EventSink, environ: Mapping[str, str]) -> int:
    """Run the tasks and return the exit code.

    Raises:
        DfmError: the run could not begin or could not go on.
    """
    plugin, runner_options = chosen_runner(options, environ)
    growing = growing_graph_of(loaded, options.tasks, environ, options.rundir)
    directory = root_rundir(options.rundir)
    run_id = uuid.uuid4().hex
    crash_point("run.graph_built")
    if options.is_dry:
        return _run_graph(options, loaded.flow, growing, plugin, runner_options, sink, environ, run_id)
    _make_root_rundir(directory)
    with RunLock(directory) as lock:
        crash_point("run.locked")
        if options.is_clean:
            _clean(directory)
        guard = start_guard(run_id, [lock.fd])
        try:
            crash_point("run.guarded")
            return _run_graph(options, loaded.flow, growing, plugin, runner_options, sink, environ, run_id)
        finally:
            guard.dismiss()


def _run_graph(
    options: RunOptions,
    flow: Flow,
    growing: tuple[Graph, Growth],
    plugin: RunnerPlugin,
    runner_options: object,
    sink: EventSink,
    environ: Mapping[str, str],
    run_id: str,
) -> int:
    directory = root_rundir(options.rundir)
    graph, growth = growing
    desk = _Desk()
    context = RunnerContext(
        root_rundir=directory,
        run_id=run_id,
        jobs=options.jobs,
        notice=lambda text: sink.emit(RunnerNotice(text=text)),
        pool=_no_pool,
        ask=desk.ask,
    )
    settings = Settings(
        run_id=run_id,
        root_rundir=directory,
        root_pkgdir=flow.root.srcdir,
        environ=_task_environment(options, environ),
        rerun=_rerun_command(options),
        is_forced=options.is_forced,
        is_dry=options.is_dry,
        cache=cache_from(environ),
        base_rundir=_base_rundir(options.base_rundir),
    )
    sink.emit(
        RunStarted(
            run_id=run_id,
            tasks=[graph.nodes[index].name for index in graph.targets],
            nodes=sum(node.is_visible for node in graph.nodes),
            runner=plugin.name,
            rundir=directory,
            at=datetime.now(UTC),
        )
    )
    started = time.monotonic()
    runner = _NoRunner() if options.is_dry else plugin.open(context, runner_options)
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


def _no_pool(dialect: BatchDialect) -> Runner:
    raise RunnerError(
        f"the worker pool is not part of this version, and runner {dialect.name} needs it",
        hint="run on this machine with --runner local",
    )


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
                lifecycle = Lifecycle(self._settings, RecordStore(), self._runner, self._sink)
                self._scheduler = Scheduler(
                    self._graph, lifecycle, self._runner.max_in_flight, self._policy, self._sink, self._growth
                )
                await self._scheduler.run()
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
    if options.runner is not None:
        words += ["--runner", options.runner]
    for option in options.runner_options:
        words += ["--runner-opt", option]
    return _RerunCommand(_program(), tuple(words))


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
