"""The life of one node, written once for every runner.

1. What its needs hand on is gathered, and what it consumes selected.
2. What is left of `${{ }}` is evaluated; an `iff` that is false ends it here.
3. The fingerprint is taken and held against the record: up to date, or not, with the reasons.
4. The intent is written, the body runs, the record is written; only then does anybody see its outputs.

Steps 1 to 3 start nothing and write nothing. Built-in tasks run here, in this process; those that only look at the file
system (`std.FileSet`, `std.SetEnv`) are asked anew in every run, for what they say is an input of the others.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from time import monotonic

from dfm.api.events import EventSink, TaskFinished, TaskOutputText, TaskStarted, Verdict
from dfm.api.items import Item
from dfm.api.runner import Body, BuiltinBody, Outcome, Runner, TaskRequest, TaskResult
from dfm.api.task import Marker, Severity
from dfm.core.crashpoint import crash_point
from dfm.core.flow.diagnostics import Diagnostics, FlowInvalid
from dfm.core.flow.values import Deferred, ValueFault, coerce, evaluate, evaluate_text, is_true
from dfm.core.graph import dataflow
from dfm.core.graph.names import NodeNames
from dfm.core.graph.node import Kind, Node
from dfm.core.record.store import Begun, ExecRecord, MissingOutputsError, RecordStore
from dfm.core.record.uptodate import Assessment
from dfm.core.schedule.policy import MAX_ATTEMPTS
from dfm.core.schedule.programs import Programs
from dfm.core.schedule.request import body_of, facts_of
from dfm.core.std.run import run_builtin

_PROBES = frozenset({"FileSet", "SetEnv"})
"""Built-in tasks whose result depends on the file system alone: they are always asked, and cost no intent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What holds for all nodes of a run.

    Attributes:
        root_rundir: absolute.
        environ: of the tasks, before `std.Env` items.
        rerun: the command that runs just the named node again.
        is_forced: `--force`: nothing is up to date.
        is_dry: `--dry-run`: nothing runs and nothing is written.
        max_attempts: at a task that the runner lost; 1 where the runner itself tries again.
    """

    run_id: str
    root_rundir: str
    root_pkgdir: str
    environ: Mapping[str, str]
    rerun: Callable[[str], str]
    is_forced: bool = False
    is_dry: bool = False
    max_attempts: int = MAX_ATTEMPTS


@dataclass(frozen=True, slots=True)
class Ended:
    """How a node ended, and what it hands on."""

    verdict: Verdict
    outputs: Sequence[Item] = ()
    is_changed: bool = False
    cause: str | None = None
    result: TaskResult | None = None
    log: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """A node whose body must run, and why."""

    call: Call
    assessment: Assessment[ExecRecord]
    reasons: Sequence[str]

    @property
    def memento(self) -> object:
        """What the last finished run left."""
        record = self.assessment.record
        return None if record is None else record.memento


@dataclass(slots=True)
class Lifecycle:
    """Leads nodes through their lives."""

    settings: Settings
    store: RecordStore
    runner: Runner
    sink: EventSink

    def prepare(self, node: Node, handed_on: Sequence[Sequence[Item]], *, is_input_changed: bool) -> Ended | Pending:
        """Settle the node where that needs no runner; else return what must run."""
        items = dataflow.gather(handed_on)
        if node.kind is Kind.DISABLED:
            return Ended(Verdict.DISABLED)
        if node.kind is not Kind.TASK:
            return Ended(Verdict.UP_TO_DATE, items, is_input_changed)
        seen = dataflow.consumed(items, node.consumes)
        passed_on = dataflow.handed_on(items, seen, node.passthrough)
        try:
            return self._prepare_task(node, seen, passed_on, is_input_changed=is_input_changed)
        except FlowInvalid as error:
            return Ended(Verdict.FAILED, cause=str(error), is_changed=True)

    async def execute(self, node: Node, pending: Pending) -> Ended:
        """Run the body and record how it ended.

        Raises:
            InfrastructureError: a record or a directory cannot be written.
        """
        attempt = 0
        while True:
            attempt += 1
            ended = await self._attempt(node, pending, attempt)
            if ended.verdict is not Verdict.LOST or attempt == self.settings.max_attempts:
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
            rundir=self._rundir(node) if node.kind is Kind.TASK else "",
            log=ended.log,
            rerun=self.settings.rerun(node.name) if ended.verdict in (Verdict.FAILED, Verdict.LOST) else None,
        )

    def _prepare_task(
        self, node: Node, seen: Sequence[Item], passed_on: Sequence[Item], *, is_input_changed: bool
    ) -> Ended | Pending:
        diagnostics = Diagnostics()
        if self.settings.is_dry and is_input_changed and self._waits_for_inputs(node):
            return self._would_run(node, ["its parameters wait for inputs that are made anew"])
        params = self._late_values(node, seen, diagnostics)
        if node.condition is not None and not self._holds(node, seen, diagnostics):
            return Ended(Verdict.DISABLED)
        text = self._text(node, seen, params, diagnostics)
        diagnostics.raise_if_errors()
        if node.task.emits is not None and node.task.script is None:
            item = {**params, "type": node.task.emits, "src": node.name, "seq": 0}
            return Ended(Verdict.UP_TO_DATE, [*passed_on, item], is_input_changed)
        if text is None or node.task.script is None:
            return Ended(Verdict.UP_TO_DATE, passed_on, is_input_changed)
        call = Call(
            body=body_of(node.task.script, text),
            params=params,
            inputs=seen,
            passed_on=passed_on,
            env=dataflow.environment(self.settings.environ, seen),
        )
        if isinstance(call.body, BuiltinBody) and call.body.name in _PROBES:
            return self._probe(node, call)
        return self._assess(node, call, is_input_changed=is_input_changed)

    def _assess(self, node: Node, call: Call, *, is_input_changed: bool) -> Ended | Pending:
        facts = facts_of(node, call.body, call.params, call.inputs, call.env)
        assessment = self.store.assess(facts, rundir=self._rundir(node), artefact=node.name)
        reasons = [reason.text for reason in assessment.reasons]
        if self.settings.is_forced:
            reasons.insert(0, "forced")
        if node.task.always_runs:
            reasons.insert(0, "it always runs (`uptodate: false`)")
        if self.settings.is_dry and not reasons and is_input_changed:
            reasons.append("its inputs are made anew; it runs if they come out different")
        if not reasons:
            assert assessment.record is not None
            since = assessment.record.started_at or "its last run"
            cause = f"nothing that it depends on changed since {since}"
            return Ended(Verdict.UP_TO_DATE, [*call.passed_on, *assessment.record.outputs], cause=cause)
        if self.settings.is_dry:
            return self._would_run(node, reasons, call.passed_on, assessment)
        pending = Pending(call=call, assessment=assessment, reasons=reasons)
        return self._run_builtin(node, pending) if isinstance(call.body, BuiltinBody) else pending

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
            is_changed=bool(pending.assessment.reasons),
        )
        result = await self.runner.run(request)
        crash_point("task.ended")
        return self._commit(node, pending, begun, result, log=os.path.join(request.rundir, f"{node.name}.log"))

    def _begin(self, node: Node, pending: Pending, attempt: int) -> Begun:
        """Tell the start, make the run directory, and write the intent: nothing of the body happens before."""
        self._started(node, pending.reasons)
        rundir = self._rundir(node)
        self.store.make_directory(rundir)
        crash_point("task.rundir.made")
        return self.store.begin(
            pending.assessment,
            rundir=rundir,
            artefact=node.name,
            task=node.name,
            run_id=self.settings.run_id,
            attempt=attempt,
        )

    def _commit(self, node: Node, pending: Pending, begun: Begun, result: TaskResult, log: str | None) -> Ended:
        """Record how the body ended; only then may others see its outputs."""
        if result.text:
            self.sink.emit(TaskOutputText(task=node.name, text=result.text))
        if result.outcome is Outcome.LOST:
            return Ended(Verdict.LOST, cause=result.cause, result=result, log=log, is_changed=True)
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
            artefact=node.name,
            body=call.body,
            params=call.params,
            inputs=call.inputs,
            memento=memento,
            env=call.env,
            changed=is_changed,
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
        return os.path.join(self.settings.root_rundir, node.rundir) if node.rundir else self.settings.root_rundir

    def _waits_for_inputs(self, node: Node) -> bool:
        return node.condition is not None or any(isinstance(value, Deferred) for value in node.params.values())

    def _late_values(self, node: Node, seen: Sequence[Item], diagnostics: Diagnostics) -> dict[str, object]:
        waiting = {name: value for name, value in node.params.items() if isinstance(value, Deferred)}
        if not waiting:
            return node.params
        params = dict(node.params)
        names = self._late_names(node, node.names, seen)
        for name, value in waiting.items():
            try:
                params[name] = coerce(evaluate(value.node, names, diagnostics), value.type)
            except ValueFault:
                continue
            except ValueError as error:
                diagnostics.error("wrong-type", f"parameter {name!r}: {error}", value.node)
        return params

    def _holds(self, node: Node, seen: Sequence[Item], diagnostics: Diagnostics) -> bool:
        assert node.condition is not None
        names = self._late_names(node, node.names, seen)
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
        record = self.store.load(self._rundir(node), node.name)
        return None if record is None else record.memento


def _signed(node: Node, outputs: Sequence[Item]) -> list[Item]:
    """Return the node's own items with who made them and their place; a relative base directory is refused earlier."""
    return [{**item, "src": node.name, "seq": index} for index, item in enumerate(outputs)]


def _failed(result: TaskResult, cause: str) -> TaskResult:
    return replace(
        result,
        outcome=Outcome.FAILED,
        cause=cause,
        status=result.status or 1,
        outputs=(),
        markers=[*result.markers, Marker(Severity.ERROR, cause)],
    )
