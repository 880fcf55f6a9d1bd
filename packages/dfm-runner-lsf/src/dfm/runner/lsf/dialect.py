"""How LSF is spoken to: the four questions of a batch system, for one site. Immutable; nothing here starts anything."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from dfm.api.batch import (
    CancelAnswer,
    Command,
    CommandOutput,
    FormatRefused,
    JobKey,
    JobStatus,
    Probe,
    QueryAnswer,
    QueryFailed,
    SubmitAnswer,
    WorkerJob,
)
from dfm.runner.lsf import cancel, history, probes, query, submit
from dfm.runner.lsf.commands import Commands
from dfm.runner.lsf.grammar import held_tokens
from dfm.runner.lsf.options import LsfOptions
from dfm.runner.lsf.query import Form, Refused


@dataclass(frozen=True, slots=True)
class LsfDialect:
    """The dialect of one site; `form` is how its bjobs is asked."""

    options: LsfOptions
    form: Form = Form.JSON

    @property
    def name(self) -> str:
        return "lsf"

    def validate(self, job: WorkerJob) -> None:
        submit.validate(job, self.options)

    def submit(self, job: WorkerJob) -> Command:
        return submit.submission(job, self._commands)

    def parse_submit(self, job: WorkerJob, output: CommandOutput) -> SubmitAnswer:  # noqa: ARG002  (the contract's)
        return submit.parse(output, self.options)

    @property
    def array_size(self) -> int:
        return self.options.max_array_size if self.options.use_arrays else 1

    @property
    def held_tokens(self) -> Mapping[str, float]:
        return held_tokens(self.options.resource_requirements)

    def submit_array(self, job: WorkerJob, count: int) -> Command:
        return submit.submission(job, self._commands, count)

    def parse_submit_array(self, job: WorkerJob, count: int, output: CommandOutput) -> Sequence[SubmitAnswer]:  # noqa: ARG002
        return submit.elements(submit.parse(output, self.options), count)

    def query(self, prefix: str, jobs: Sequence[JobKey]) -> Sequence[Command]:
        return query.questions(prefix, jobs, self.form, self._commands)

    def parse_query(self, command: Command, output: CommandOutput) -> QueryAnswer:
        answer = query.parse(command, output, self.form)
        if not isinstance(answer, Refused):
            return answer
        simpler = self.form.simpler()
        if simpler is None:
            return QueryFailed(text=f"bjobs refuses even its plainest form: {answer.text}")
        return FormatRefused(text=answer.text, next=replace(self, form=simpler))

    def find(self, name: str) -> Command:
        return query.question_by_name(JobKey(name=name), self.form, self._commands)

    def history(self, job: JobKey) -> Command | None:
        if self.options.history == "never" or not query.is_id(job.id):
            return None
        return history.question(job, self._commands)

    def parse_history(self, job: JobKey, output: CommandOutput) -> JobStatus | None:
        return history.parse(job, output)

    def cancel(self, jobs: Sequence[JobKey]) -> Sequence[Command]:
        return cancel.commands_for(jobs, self._commands)

    def parse_cancel(self, command: Command, output: CommandOutput) -> CancelAnswer:
        return cancel.parse(command, output)

    def probes(self) -> Sequence[Probe]:
        return probes.probes(self._commands, self.form)

    def shown(self, job: WorkerJob) -> str:
        return _typed(self.submit(job))

    def shown_array(self, job: WorkerJob, count: int) -> str:
        return _typed(self.submit_array(job, count))

    @property
    def _commands(self) -> Commands:
        return Commands(self.options)


def _typed(command: Command) -> str:
    """Return a submission as a person would type it."""
    line = shlex.join(command.argv)
    if command.stdin is not None:
        return f"{line} <<'END'\n{command.stdin}END"
    files = "".join(f"cat > {shlex.quote(path)} <<'END'\n{text}END\n" for path, text in command.files.items())
    return files + line
