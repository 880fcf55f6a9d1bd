"""SLURM as a batch dialect: the contract's questions, each answered in a module of its own."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

from dfm.api.batch import (
    CancelAnswer,
    Command,
    CommandOutput,
    FormatRefused,
    JobKey,
    JobStatus,
    Probe,
    QueryAnswer,
    SubmitAnswer,
    WorkerJob,
)
from dfm.runner.slurm import cancel, history, probes, query, submit
from dfm.runner.slurm.options import SlurmOptions
from dfm.runner.slurm.query import Form


@dataclass(frozen=True, slots=True)
class SlurmDialect:
    """How SLURM is spoken to, with a person's options."""

    options: SlurmOptions = field(default_factory=SlurmOptions)
    form: Form = Form.FULL

    @property
    def name(self) -> str:
        return "slurm"

    def validate(self, job: WorkerJob) -> None:
        submit.validate(self.options, job)

    def submit(self, job: WorkerJob) -> Command:
        return submit.submit(self.options, job)

    def parse_submit(self, job: WorkerJob, output: CommandOutput) -> SubmitAnswer:  # noqa: ARG002  (the contract's)
        return submit.parse_submit(self.options, output)

    def query(self, prefix: str, jobs: Sequence[JobKey]) -> Sequence[Command]:  # noqa: ARG002  (full names are asked)
        return query.query(self.options, self.form, jobs)

    def parse_query(self, command: Command, output: CommandOutput) -> QueryAnswer:
        if self.form is Form.FULL and query.is_form_refused(output):
            return FormatRefused(text=output.stderr.strip(), next=dataclasses.replace(self, form=Form.PLAIN))
        return query.parse_query(self.options, command.asked, output)

    def find(self, name: str) -> Command:
        return query.query(self.options, self.form, [JobKey(name=name)])[0]

    def history(self, job: JobKey) -> Command | None:
        return history.history(self.options, job)

    def parse_history(self, job: JobKey, output: CommandOutput) -> JobStatus | None:
        return history.parse_history(self.options, job, output)

    def cancel(self, jobs: Sequence[JobKey]) -> Sequence[Command]:
        return cancel.cancel(self.options, jobs)

    def parse_cancel(self, command: Command, output: CommandOutput) -> CancelAnswer:
        return cancel.parse_cancel(command.asked, output)

    def probes(self) -> Sequence[Probe]:
        return probes.probes(self.options)

    def shown(self, job: WorkerJob) -> str:
        return submit.shown(self.options, job)
