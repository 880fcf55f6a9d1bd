"""Options of the SLURM runner: `--runner-opt key=value`, or `runner.slurm.key` in a configuration file."""

import dataclasses
from dataclasses import dataclass

from dfm.api.errors import RunnerError
from dfm.api.options import Merge, Unit, option, spec_of
from dfm.runner.slurm import check


@dataclass(frozen=True, slots=True, kw_only=True)
class SlurmOptions:
    """What a person or a site may choose. A task's own queue, memory, cores and wall time come before these."""

    partition: str | None = option(
        None,
        doc="partition that jobs go to where a task names no queue; several may be joined with commas",
        aliases=("queue",),
        check=check.name_list,
    )
    account: str | None = option(None, doc="account that jobs are charged to", check=check.name_list)
    qos: str | None = option(None, doc="quality of service that jobs ask for", check=check.name_list)
    constraint: str | None = option(
        None, doc="features that nodes must have, such as `rhel8&(intel|amd)`", check=check.constraint
    )
    gres: tuple[str, ...] = option((), doc="generic resources of each job, such as `gpu:1`", check=check.gres)
    licenses: tuple[str, ...] = option(
        (), doc="licences that each worker holds for its whole life, such as `vcs:1`", check=check.licenses
    )
    reservation: str | None = option(None, doc="reservation that jobs run in", check=check.name_list)
    nice: int | None = option(None, doc="how far jobs step back; negative is for administrators")
    exclude: tuple[str, ...] = option((), doc="nodes that are not used, such as `n7` or `n[1-4]`", check=check.hosts)
    cluster: str | None = option(
        None,
        doc="cluster that jobs go to, where one controller's commands reach several",
        aliases=("clusters",),
        check=check.cluster,
    )
    memory_per_core: int | None = option(
        2 << 30,
        unit=Unit.MEMORY,
        doc="memory of a worker's job for each core, where its tasks ask for none; without any, SLURM may give the job"
        " the whole node's memory, so that no second worker fits",
        minimum=1,
    )
    requeue: bool = option(
        False,  # noqa: FBT003  (the default's value)
        doc="let SLURM start a job anew, under the same id, after a preemption or a node's failure; otherwise it ends"
        " and another worker takes its place",
    )
    accounting: bool = option(
        False,  # noqa: FBT003  (the default's value)
        doc="ask sacct how jobs ended that the controller has forgotten; needs accounting with slurmdbd",
    )
    worker_dfm_path: str | None = option(
        None,
        doc="program that runs `dfm` on the nodes, where it is not the one that runs here",
        check=check.absolute_path,
    )
    sbatch_cmd: tuple[str, ...] = option(
        ("sbatch",), unit=Unit.ARGV, doc="command that submits, such as `ssh login1 sbatch`", check=check.command
    )
    squeue_cmd: tuple[str, ...] = option(
        ("squeue",), unit=Unit.ARGV, doc="command that lists jobs", check=check.command
    )
    scancel_cmd: tuple[str, ...] = option(
        ("scancel",), unit=Unit.ARGV, doc="command that ends jobs", check=check.command
    )
    scontrol_cmd: tuple[str, ...] = option(
        ("scontrol",), unit=Unit.ARGV, doc="command that shows jobs and configuration", check=check.command
    )
    sacct_cmd: tuple[str, ...] = option(
        ("sacct",), unit=Unit.ARGV, doc="command that shows what accounting remembers", check=check.command
    )
    sbatch_extra: tuple[str, ...] = option(
        (), doc="further options of sbatch, each one word such as `--mail-type=FAIL`", check=check.extra_options
    )
    retry_on: tuple[str, ...] = option(
        (),
        merge=Merge.ACCUMULATE,
        doc="regular expressions; a refusal by sbatch whose words match is tried again later",
        check=check.patterns,
    )


def check_options(options: SlurmOptions) -> None:
    """Refuse what SLURM would misread.

    Raises:
        RunnerError: a value cannot be given to SLURM.
    """
    for field in dataclasses.fields(options):
        value, spec = getattr(options, field.name), spec_of(field.metadata)
        if value is not None and spec.check is not None and (complaint := spec.check(value)):
            raise RunnerError(f"option {field.name} of runner slurm: {complaint}")
