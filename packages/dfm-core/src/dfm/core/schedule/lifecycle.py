"""The life of one node, written once for every runner.

1. What its needs hand on is gathered, and what it consumes selected.
2. What is left of `${{ }}` is evaluated; an `iff` that is false ends it here.
3. The fingerprint is taken and held against the record: up to date, or not, with the reasons.
4. The intent is written, the body runs, the record is written; only then does anybody see its outputs.

Steps 1 to 3 start nothing and write nothing. Built-in tasks run here, in this process; those that only look at the file
system (`std.FileSet`, `std.SetEnv`) are asked anew in every run, for what they say is an input of the others.
"""

import contextlib
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from time import monotonic

from msgspec import Struct, field, structs

from dfm.api.errors import InfrastructureError
from dfm.api.events import EventSink, RunnerNotice, TaskFinished, TaskOutputText, TaskStarted, Verdict
from dfm.api.items import Item
from dfm.api.runner import (
    Body,
    BuiltinBody,
    Outcome,
    PythonBody,
    PythonCall,
    Resources,
    Runner,
    ShellBody,
    TaskRequest,
    TaskResult,
    log_name,
)
from dfm.api.task import Marker, Severity
from dfm.core.crashpoint import crash_point
from dfm.core.flow.diagnostics import Diagnostics, FlowInvalid
from dfm.core.flow.model import Script
from dfm.core.flow.values import Deferred, ValueFault, evaluate, evaluate_text, is_true, runs_programs
from dfm.core.graph import dataflow
from dfm.core.graph.names import NodeNames
from dfm.core.graph.node import Kind, Node
from dfm.core.graph.parameters import LateParameters
from dfm.core.record.cache import ActionCache, NotCacheableError
from dfm.core.record.fingerprint import TaskFacts
from dfm.core.record.store import Begun, ExecRecord, MissingOutputsError, RecordStore
from dfm.core.record.uptodate import Assessment
from dfm.core.schedule.policy import MAX_ATTEMPTS
from dfm.core.schedule.programs import Programs
from dfm.core.schedule.request import body_of, facts_of
from dfm.core.std.run import run_builtin

_FAILURES = (Verdict.FAILED, Verdict.LOST, Verdict.REFUSED)
_WITHOUT_RECORD = {Outcome.LOST: Verdict.LOST, Outcome.REFUSED: Verdict.REFUSED}
_OF_INPUTS = ("item", "file", "order")
"""Reasons that say nothing where a dry run does not know the inputs."""
_PROBES = frozenset({"FileSet", "SetEnv"})
"""Built-in tasks whose result depends on the file system alone: they are always asked, and cost no intent."""


class Settings(Struct, frozen=True, kw_only=True):
    """What holds for all nodes of a run.

    Attributes:
        root_rundir: absolute.
        environ: of the tasks, before `std.Env` items.
        rerun: the command that runs just the named node again.
        is_forced: `--force`: nothing is up to date.
        is_dry: `--dry-run`: nothing runs and nothing is written.
        max_attempts: at a task that the runner lost; 1 where the runner itself tries again.
        cache: keeps results of tasks that want it.
        base_rundir: absolute, a root run directory of another run whose results are taken as they are.
        grant: what a node gets of its machine, by what it asks for and the project's settings.
    """

    run_id: str
    root_rundir: str
    root_pkgdir: str
    environ: Mapping[str, str]
    rerun: Callable[[str], str]
    is_forced: bool = False
    is_dry: bool = False
    max_attempts: int = MAX_ATTEMPTS
    grant: Callable[[Node], Resources] = lambda node: replace(node.resources, cores=max(1, node.resources.cores))
    cache: ActionCache | None = None
    base_rundir: str | None = None


class Ended(Struct, frozen=True):
    """How a node ended, and what it hands on."""

    verdict: Verdict
    outputs: Sequence[Item] = ()
    is_changed: bool = False
    cause: str | None = None
    result: TaskResult | None = None
    log: str | None = None


class Call(Struct, frozen=True, kw_only=True):
    """What a node's body would be given, all of it known.

    Attributes:
        inputs: the items it consumes.
        passed_on: those that go on to whoever needs the node.
    """

    body: Body
    params: Mapping[str, object]
    inputs: Sequence[Item]
    passed_on: Sequence[Item]
    env: Mapping[str, str]


class Pending(Struct, frozen=True, kw_only=True):
    """A node whose body must run, and why; without a reason, its function of `uptodate` is asked first.

    Attributes:
        cached_as: the key of its result in the cache, None where it is not cached.
        is_marked: whether something that it receives counts as changed, whatever it is.
    """

    call: Call
    assessment: Assessment[ExecRecord]
    reasons: Sequence[str]
    facts: TaskFacts | None = None
    cached_as: str | None = None
    may_restore: bool = True
    is_marked: bool = False

    @property
    def is_changed(self) -> bool:
        """Whether anything is another than in its last run."""
        return self.is_marked or bool(self.assessment.reasons)

    @property
    def memento(self) -> object:
        """What the last finished run left."""
        record = self.assessment.record
        return None if record is None else record.memento


class Unfolding(Struct, frozen=True, kw_only=True):
    """A node whose sub-tasks are made now.

    Attributes:
        params: all known.
        items: what the sub-tasks receive.
        call: of a task of the standard library that runs others, None for a compound task.
    """

    params: Mapping[str, object]
    items: Sequence[Item]
    is_input_changed: bool
    call: Call | None = None


class Lifecycle(Struct, eq=False):
    """Leads nodes through their lives.

    Attributes:
        makers: those whose body has asked for tasks in this run. Their results are judged by no record of their own,
            which knows nothing of those tasks: they run always, and the tasks are judged each by its own record.
    """

    settings: Settings
    store: RecordStore
    runner: Runner
    sink: EventSink
    makers: set[Node] = field(default_factory=set)

    def prepare(
        self,
        node: Node,
        handed_on: Sequence[Sequence[Item]],
        *,
        is_input_changed: bool,
        marked_by: str | None = None,
        failures: Sequence[Item] = (),
        unmet: Sequence[str] = (),
    ) -> Ended | Pending | Unfolding:
        """Settle the node where that needs no runner; else return what must run.

        Args:
            node: whose turn has come.
            handed_on: what each of the nodes before it hands on.
            is_input_changed: whether something of that was made anew.
            marked_by: the one of them whose items count as changed, whatever they are.
            failures: of a compound task that takes them upon itself, those of its sub-tasks, as items.
            unmet: names of the nodes before it that did not end well.
        """
        items = dataflow.gather(handed_on)
        try:
            match node.kind:
                case Kind.TASK:
                    seen = dataflow.consumed(items, node.consumes)
                    passed_on = dataflow.handed_on(items, seen, node.passthrough)
                    return self._prepare_task(
                        node, seen, passed_on, is_input_changed=is_input_changed, marked_by=marked_by
                    )
                case Kind.DISABLED:
                    return Ended(Verdict.DISABLED)
                case Kind.ENTRY:
                    return Ended(Verdict.UP_TO_DATE, items, is_input_changed)
                case Kind.COLLECTOR:
                    return self.collect(node, node.params, items, failures, unmet, is_input_changed=is_input_changed)
                case Kind.UNFOLDING:
                    return self._prepare_unfolding(node, items, is_input_changed=is_input_changed)
        except FlowInvalid as error:
            return Ended(Verdict.FAILED, cause=str(error), is_changed=True)

    def collect(
        self,
        node: Node,
        params: Mapping[str, object],
        items: Sequence[Item],
        failures: Sequence[Item],
        unmet: Sequence[str],
        *,
        is_input_changed: bool,
    ) -> Ended | Pending:
        """Say what becomes of a compound task whose sub-tasks have ended; its `on_error` may have the last word."""
        handler = node.task.on_error
        if node.opens is None or (handler is None and not unmet):
            return self._handed_on(items, is_changed=is_input_changed)
        if handler is None or self.settings.is_dry:
            return (
                Ended(Verdict.FAILED, cause=_told(failures, unmet), is_changed=True)
                if unmet
                else self._would_run(node, ["its `on_error` decides"], items)
            )
        received = [*items, *failures]
        seen = dataflow.consumed(received, node.consumes)
        call = Call(
            body=body_of(handler, handler.text.value),
            params=params,
            inputs=seen,
            passed_on=dataflow.handed_on(received, seen, node.passthrough),
            env=dataflow.environment(self.settings.environ, seen),
        )
        facts = facts_of(node, call.body, call.params, call.inputs, call.env)
        assessment = self.store.assess(facts, rundir=self._rundir(node), artefact=node.artefact)
        return Pending(call=call, assessment=assessment, reasons=["its sub-tasks have ended"])

    def _handed_on(self, items: Sequence[Item], *, is_changed: bool) -> Ended:
        """Return the end of a node that runs nothing itself: it is as new as what it hands on."""
        is_new = is_changed and not self.settings.is_dry
        return Ended(Verdict.SUCCEEDED if is_new else Verdict.UP_TO_DATE, items, is_changed)

    def log(self, node: Node) -> str:
        """Return the path of the log that a body of this node writes."""
        return f"{self._rundir(node)}/{log_name(node.artefact)}"

    def names(self, node: Node, params: Mapping[str, object], items: Sequence[Item]) -> NodeNames:
        """Return what expressions of a node see, all of it known."""
        return self._late_names(node, node.names, items).with_own(params)

    async def generate(self, node: Node, step: Unfolding, script: Script, text: str) -> tuple[TaskResult, str]:
        """Run the code that says which sub-tasks a node has; nothing of it is recorded.

        Returns:
            How it ended, with the items of a Python function; and what a script printed on its standard output.
        """
        body = body_of(script, text)
        printed = os.path.join(self._rundir(node), f".{node.name}.tasks.yaml")
        if isinstance(body, PythonBody):
            body = replace(body, call=PythonCall.GENERATE)
        elif isinstance(body, ShellBody):
            body = replace(body, text=f"exec >{shlex.quote(printed)}; {text}")
        seen = dataflow.consumed(step.items, node.consumes)
        env = dataflow.environment(self.settings.environ, seen)
        call = Call(body=body, params=step.params, inputs=seen, passed_on=(), env=env)
        self._started(node, ["it makes its sub-tasks"])
        self.store.make_directory(self._rundir(node))
        result = await self.runner.run(self._request(node, call, attempt=1))
        return result, _text_of(printed) if isinstance(body, ShellBody) else ""

    async def execute(self, node: Node, pending: Pending) -> Ended:
        """Run the body and record how it ended.

        Raises:
            InfrastructureError: a record or a directory cannot be written.
        """
        if not pending.reasons:
            answer = await self._ask_uptodate(node, pending)
            if isinstance(answer, Ended):
                return answer
            pending = structs.replace(pending, reasons=[answer])
        restored = self._restored(node, pending)
        if restored is not None:
            return restored
        attempt = 0
        while True:
            attempt += 1
            ended = await self._attempt(node, pending, attempt)
            if ended.verdict is not Verdict.LOST or attempt == self.settings.max_attempts:
                break
        if ended.verdict is Verdict.SUCCEEDED and ended.result is not None:
            self._keep(node, pending, ended.result)
        return ended

    def event(self, node: Node, ended: Ended) -> TaskFinished:
        """Return what a report is told of a node's end."""
        result = ended.result
        return TaskFinished(
            task=node.name,
            verdict=ended.verdict,
            is_visible=node.is_visible,
            cause=ended.cause,
            exit_status=None if result is None else result.status,
            seconds=0.0 if result is None else result.seconds,
            cpu_seconds=0.0 if result is None else result.cpu_seconds,
            max_rss_bytes=0 if result is None else result.max_rss_bytes,
            markers=() if result is None else result.markers,
            rundir=self._rundir(node) if node.kind is Kind.TASK or result is not None else "",
            log=ended.log,
            rerun=self.settings.rerun(node.origin or node.name) if ended.verdict in _FAILURES else None,
        )

    def _prepare_unfolding(self, node: Node, items: Sequence[Item], *, is_input_changed: bool) -> Ended | Unfolding:
        diagnostics = Diagnostics()
        if self.settings.is_dry:
            return self._would_run(node, ["its sub-tasks are only known when it runs"])
        params = self._late_values(node, items, diagnostics)
        if node.condition is not None and not self._holds(node, items, params, diagnostics):
            return Ended(Verdict.DISABLED)
        diagnostics.raise_if_errors()
        return Unfolding(params=params, items=items, is_input_changed=is_input_changed)

    def _prepare_task(
        self,
        node: Node,
        seen: Sequence[Item],
        passed_on: Sequence[Item],
        *,
        is_input_changed: bool,
        marked_by: str | None,
    ) -> Ended | Pending | Unfolding:
        diagnostics = Diagnostics()
        if self.settings.is_dry and is_input_changed and self._waits_for_inputs(node):
            return self._would_run(node, ["its parameters wait for inputs that are made anew"])
        if self.settings.is_dry and _runs_programs(node):
            return self._would_run(node, ["an expression of it runs a program"], passed_on)
        params = self._late_values(node, seen, diagnostics)
        if node.condition is not None and not self._holds(node, seen, params, diagnostics):
            return Ended(Verdict.DISABLED)
        text = self._text(node, seen, params, diagnostics)
        diagnostics.raise_if_errors()
        if node.task.emits is not None and node.task.script is None:
            item = {**params, "type": node.task.emits, "src": node.name, "seq": 0}
            return self._handed_on([*passed_on, item], is_changed=is_input_changed)
        if text is None or node.task.script is None:
            return self._handed_on(passed_on, is_changed=is_input_changed)
        call = Call(
            body=body_of(node.task.script, text),
            params=params,
            inputs=seen,
            passed_on=passed_on,
            env=dataflow.environment(self.settings.environ, seen),
        )
        if node.task.script.is_run_tasks:
            if self.settings.is_dry:
                return self._would_run(node, ["its tasks are only known when it runs"], passed_on)
            return Unfolding(params=params, items=seen, is_input_changed=is_input_changed, call=call)
        if isinstance(call.body, BuiltinBody) and call.body.name in _PROBES:
            return self._probe(node, call)
        return self._assess(node, call, is_input_changed=is_input_changed, marked_by=marked_by)

    def _assess(self, node: Node, call: Call, *, is_input_changed: bool, marked_by: str | None) -> Ended | Pending:
        facts = facts_of(node, call.body, call.params, call.inputs, call.env)
        assessment = self.store.assess(facts, rundir=self._rundir(node), artefact=node.artefact)
        is_open = self.settings.is_dry and is_input_changed
        reasons = [reason.text for reason in assessment.reasons if not (is_open and reason.code in _OF_INPUTS)]
        if self.settings.is_forced:
            reasons.insert(0, "forced")
        if node.always_runs:
            reasons.insert(0, "it always runs (`uptodate: false`)")
        elif marked_by is not None:
            reasons.insert(0, f"what {marked_by} hands on counts as changed (`uptodate: false`)")
        if is_open and not reasons:
            reasons.append("its inputs are made anew; it runs if they come out different")
        if not reasons and node.task.uptodate is None:
            return _stands(call, assessment)
        if reasons and (found := self._in_base(node, call)) is not None:
            return found
        if self.settings.is_dry:
            return self._would_run(node, reasons or ["its `uptodate` function decides"], call.passed_on, assessment)
        pending = Pending(
            call=call,
            assessment=assessment,
            reasons=reasons,
            facts=facts,
            cached_as=self._cache_key(node, call, facts, assessment),
            may_restore=not self.settings.is_forced and not node.always_runs and marked_by is None,
            is_marked=marked_by is not None,
        )
        return self._run_builtin(node, pending) if isinstance(call.body, BuiltinBody) else pending

    def _in_base(self, node: Node, call: Call) -> Ended | None:
        """Return the node's end where the base run directory has its result; that one is trusted, not compared."""
        base = self.settings.base_rundir
        if base is None or self.settings.is_forced:
            return None
        outputs = self.store.finished_elsewhere(base, node.rundir, node.artefact)
        if outputs is None:
            return None
        return Ended(Verdict.UP_TO_DATE, [*call.passed_on, *outputs], cause=f"its result in {base} is taken")

    def _cache_key(self, node: Node, call: Call, facts: TaskFacts, assessment: Assessment[ExecRecord]) -> str | None:
        rule = node.cache
        if rule is None or not rule.is_enabled or self.settings.cache is None or node.task.inherits_rundir:
            return None
        diagnostics = Diagnostics()
        names = self.names(node, call.params, call.inputs)
        added = []
        for value in rule.hash:
            with contextlib.suppress(ValueFault):
                added.append(evaluate(value, names, diagnostics))
        diagnostics.raise_if_errors()
        roots = (self._rundir(node), self.settings.root_rundir, self.settings.root_pkgdir, node.task.srcdir)
        return self.store.portable_key(facts, assessment.fingerprint, roots, added)

    def _restored(self, node: Node, pending: Pending) -> Ended | None:
        """Return the node's end where the cache has its result."""
        cache, key = self.settings.cache, pending.cached_as
        if cache is None or key is None or not pending.may_restore:
            return None
        rundir = self._rundir(node)
        self.store.make_directory(rundir)
        begun = self._intend(node, pending, attempt=1)
        result = cache.restore(key, rundir, self._notice)
        if result is None:
            return None
        ended = self._commit(node, pending, begun, result, log=None)
        if ended.verdict is not Verdict.SUCCEEDED:
            return None
        return Ended(Verdict.UP_TO_DATE, ended.outputs, cause="its result was in the cache", result=result)

    def _keep(self, node: Node, pending: Pending, result: TaskResult) -> None:
        """Put a result into the cache; that this is not possible harms nobody but the next run."""
        cache, key = self.settings.cache, pending.cached_as
        if cache is None or key is None or pending.facts is None:
            return
        if node in self.makers:
            self._notice(f"{node.name} is not cached: it makes tasks while it runs")
            return
        moved = self.store.moved_inputs(pending.facts, pending.assessment.fingerprint)
        if moved:
            self._notice(f"{node.name} is not cached: while it ran, {moved[0].text}")
            return
        rule = node.cache
        try:
            cache.store(key, self._rundir(node), node.name, result, rule.compression if rule else "no")
        except NotCacheableError as error:
            self._notice(f"{node.name} is not cached: {error}")
        except OSError as error:
            self._notice(f"{node.name} is not cached: {error.filename}: {error.strerror}")

    def _notice(self, text: str) -> None:
        self.sink.emit(RunnerNotice(text=text))

    async def _ask_uptodate(self, node: Node, pending: Pending) -> Ended | str:
        """Return the end of a node whose last result stands, else why it runs."""
        script = node.task.uptodate
        assert script is not None, "a node without a reason to run has a function that may know one"
        body = body_of(script, script.text.value)
        assert isinstance(body, PythonBody)
        call = structs.replace(pending.call, body=replace(body, call=PythonCall.UPTODATE))
        request = self._request(node, call, attempt=1, memento=pending.memento, is_changed=False)
        result = await self.runner.run(replace(request, artefact=f"{node.name}.uptodate"))
        if result.outcome is not Outcome.SUCCEEDED:
            cause = f"its `uptodate` function {script.text.value} failed: {result.cause}"
            return Ended(Verdict.FAILED, cause=cause, is_changed=True, result=result)
        if result.memento is True:
            return _stands(pending.call, pending.assessment)
        return "its `uptodate` function says so"

    def _would_run(
        self,
        node: Node,
        reasons: Sequence[str],
        passed_on: Sequence[Item] = (),
        assessment: Assessment[ExecRecord] | None = None,
    ) -> Ended:
        """Tell what a dry run found; old outputs stand in for the new ones."""
        self._started(node, reasons)
        record = None if assessment is None else assessment.record
        return Ended(Verdict.WOULD_RUN, [*passed_on, *(record.outputs if record else ())], is_changed=True)

    def _probe(self, node: Node, call: Call) -> Ended:
        result = run_builtin(self._request(node, call, attempt=1))
        if result.outcome is not Outcome.SUCCEEDED:
            return Ended(Verdict.FAILED, cause=result.cause, result=result, is_changed=True)
        return Ended(Verdict.UP_TO_DATE, [*call.passed_on, *_signed(node, result.outputs)], result=result)

    def _run_builtin(self, node: Node, pending: Pending) -> Ended:
        begun = self._begin(node, pending, attempt=1)
        crash_point("task.builtin.begun")
        started = monotonic()
        result = run_builtin(self._request(node, pending.call, attempt=1, memento=pending.memento))
        crash_point("task.builtin.done")
        return self._commit(node, pending, begun, replace(result, seconds=monotonic() - started), log=None)

    async def _attempt(self, node: Node, pending: Pending, attempt: int) -> Ended:
        begun = self._begin(node, pending, attempt)
        crash_point("task.begun")
        request = self._request(
            node,
            pending.call,
            attempt=attempt,
            memento=pending.memento,
            is_changed=pending.is_changed,
        )
        log = self.log(node)
        if os.access(log, os.F_OK, follow_symlinks=False):
            _remove_log(log)
        result = await self.runner.run(request)
        if result.resource_class is None and request.resources.resource_class is not None:
            result = replace(result, resource_class=request.resources.resource_class)
        crash_point("task.ended")
        return self._commit(node, pending, begun, result, log=log)

    def _begin(self, node: Node, pending: Pending, attempt: int) -> Begun:
        """Tell the start, make the run directory, and write the intent: nothing of the body happens before."""
        self._started(node, pending.reasons)
        self.store.make_directory(self._rundir(node))
        crash_point("task.rundir.made")
        return self._intend(node, pending, attempt)

    def _intend(self, node: Node, pending: Pending, attempt: int) -> Begun:
        return self.store.begin(
            pending.assessment,
            rundir=self._rundir(node),
            artefact=node.artefact,
            task=node.name,
            run_id=self.settings.run_id,
            attempt=attempt,
        )

    def _commit(self, node: Node, pending: Pending, begun: Begun, result: TaskResult, log: str | None) -> Ended:
        """Record how the body ended; only then may others see its outputs."""
        if result.text:
            self.sink.emit(TaskOutputText(task=node.name, text=result.text))
        if result.outcome in _WITHOUT_RECORD:
            log = log if log is not None and os.path.exists(log) else None
            return Ended(_WITHOUT_RECORD[result.outcome], cause=result.cause, result=result, log=log, is_changed=True)
        outputs = _signed(node, result.outputs)
        try:
            self._record(node, pending, begun, result, outputs, log)
        except MissingOutputsError as missing:
            result = _failed(result, f"{missing.paths[0]} is declared as output and does not exist")
            self._record(node, pending, begun, result, [], log)
        crash_point("task.committed")
        if result.outcome is not Outcome.SUCCEEDED:
            return Ended(Verdict.FAILED, cause=result.cause, result=result, log=log, is_changed=True)
        return Ended(Verdict.SUCCEEDED, [*pending.call.passed_on, *outputs], is_changed=True, result=result, log=log)

    def _record(
        self,
        node: Node,
        pending: Pending,
        begun: Begun,
        result: TaskResult,
        outputs: Sequence[Item],
        log: str | None,
    ) -> None:
        self.store.commit(
            begun,
            params=pending.call.params,
            inputs=pending.call.inputs,
            outputs=outputs,
            srcdir=node.task.srcdir,
            logfile=log,
            result=result,
            makes_tasks=node in self.makers,
        )

    def _request(
        self, node: Node, call: Call, *, attempt: int, memento: object = None, is_changed: bool = True
    ) -> TaskRequest:
        return TaskRequest(
            run_id=self.settings.run_id,
            task=node.name,
            attempt=attempt,
            rundir=self._rundir(node),
            srcdir=node.task.srcdir,
            root_pkgdir=self.settings.root_pkgdir,
            root_rundir=self.settings.root_rundir,
            artefact=node.artefact,
            body=call.body,
            params=call.params,
            inputs=call.inputs,
            memento=memento,
            env=call.env,
            changed=is_changed,
            resources=self.settings.grant(node),
        )

    def _started(self, node: Node, reasons: Sequence[str]) -> None:
        self.sink.emit(
            TaskStarted(
                task=node.name,
                rundir=self._rundir(node),
                reason="; ".join(reasons),
                at=datetime.now(UTC),
            )
        )

    def _rundir(self, node: Node) -> str:
        return f"{self.settings.root_rundir}/{node.rundir}" if node.rundir else self.settings.root_rundir

    def _waits_for_inputs(self, node: Node) -> bool:
        return node.condition is not None or any(isinstance(value, Deferred) for value in node.params.values())

    def _late_values(self, node: Node, seen: Sequence[Item], diagnostics: Diagnostics) -> Mapping[str, object]:
        """Return all parameters of a node whose inputs are known.

        Raises:
            FlowInvalid: one cannot be evaluated.
        """
        if not any(isinstance(value, Deferred) for value in node.params.values()):
            return node.params
        late = LateParameters(node.params, diagnostics)
        late.scope = self._late_names(node, node.names.with_own(late), seen).seen_from
        params = late.all()
        diagnostics.raise_if_errors()
        return params

    def _holds(self, node: Node, seen: Sequence[Item], params: Mapping[str, object], diagnostics: Diagnostics) -> bool:
        assert node.condition is not None
        names = self._late_names(node, node.names, seen).with_own(params)
        try:
            return is_true(evaluate(node.condition, names, diagnostics))
        except ValueFault:
            diagnostics.raise_if_errors()
            return False

    def _text(
        self,
        node: Node,
        seen: Sequence[Item],
        params: Mapping[str, object],
        diagnostics: Diagnostics,
    ) -> str | None:
        script = node.task.script
        if node.text is not None or script is None:
            return node.text
        names = self._late_names(node, node.names.seen_from(script.scope), seen).with_own(params)
        try:
            return evaluate_text(script.text.value, script.text.node, names, diagnostics)
        except ValueFault:
            return None

    def _late_names(self, node: Node, names: NodeNames, seen: Sequence[Item]) -> NodeNames:
        late = {"inputs": list(seen), "memento": self._memento(node)}
        programs = None if self.settings.is_dry else Programs(self.settings.environ, node.task.srcdir)
        return names.knowing(late, programs)

    def _memento(self, node: Node) -> object:
        record = self.store.load(self._rundir(node), node.artefact)
        return None if record is None else record.memento


def _runs_programs(node: Node) -> bool:
    """Whether an expression that is evaluated now runs a program."""
    script = node.task.script
    waiting = [value.node for value in node.params.values() if isinstance(value, Deferred)]
    waiting += [] if node.condition is None else [node.condition]
    waiting += [script.text.node] if script is not None and node.text is None else []
    return any(runs_programs(value, node.task.package) for value in waiting)


def _stands(call: Call, assessment: Assessment[ExecRecord]) -> Ended:
    assert assessment.record is not None, "what stands has been recorded"
    since = assessment.record.started_at or "its last run"
    cause = f"nothing that it depends on changed since {since}"
    return Ended(Verdict.UP_TO_DATE, [*call.passed_on, *assessment.record.outputs], cause=cause)


def _remove_log(log: str) -> None:
    """Remove the log of an earlier run: it must not explain an attempt that never begins.

    Raises:
        InfrastructureError: it cannot be removed.
    """
    try:
        os.unlink(log)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise InfrastructureError(f"cannot write the log {log}: {error.strerror}") from error


def _signed(node: Node, outputs: Sequence[Item]) -> list[Item]:
    """Return the node's own items with who made them and their place; a relative base directory is refused earlier."""
    return [{**item, "src": node.name, "seq": index} for index, item in enumerate(outputs)]


def _text_of(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _told(failures: Sequence[Item], unmet: Sequence[str]) -> str:
    """Return which sub-tasks of a compound task did not end well."""
    names = [str(item["task_name"]) for item in failures] or list(unmet)
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"{len(names)} of its sub-tasks failed: {', '.join(names[:5])}{more}"


def _failed(result: TaskResult, cause: str) -> TaskResult:
    return replace(
        result,
        outcome=Outcome.FAILED,
        cause=cause,
        status=result.status or 1,
        outputs=(),
        markers=[*result.markers, Marker(Severity.ERROR, cause)],
    )
