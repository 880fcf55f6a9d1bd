"""The settings of the core, declared once each: type, default, unit, rule of merging, documentation.

A configuration file holds them below `runner`: `runner.pool.idle_timeout`. What a runner itself declares lies below
`runner.<name>`.
"""

import os
from dataclasses import dataclass

from dfm.api.options import Merge, Unit, option
from dfm.api.units import parse_duration, parse_memory

DEFAULT_RUNNER = "local"


def _relative(path: str) -> str | None:
    """Return what is wrong with a path that is another one wherever dfm is called."""
    return None if not path or os.path.isabs(path) else f"{path!r} is no absolute path"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerChoice:
    """`runner`: which one."""

    default: str = option(
        DEFAULT_RUNNER, doc="runner that tasks go to, where neither `--runner` nor `DFM_RUNNER` says", aliases=("type",)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceDefaults:
    """`runner.defaults`: what a task gets where neither its class nor its own tag says."""

    cores: int = option(1, doc="cores of a task", minimum=1)
    memory: int | None = option(
        parse_memory("1G"), unit=Unit.MEMORY, doc="memory of a task; null leaves it to the batch system"
    )
    walltime: float | None = option(
        parse_duration("1:00"), unit=Unit.DURATION, doc="limit of a task's run time; null leaves it to the batch system"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceClass:
    """`runner.resource_classes.NAME`: what a task gets whose tag names the class; the tag says the rest."""

    cores: int | None = option(None, doc="cores of a task", minimum=1)
    memory: int | None = option(None, unit=Unit.MEMORY, doc="memory of a task")
    walltime: float | None = option(None, unit=Unit.DURATION, doc="limit of a task's run time")
    queue: str | None = option(None, doc="queue or partition of the task's worker; beats the runner's own option")
    resource_select: tuple[str, ...] = option(
        (), doc="predicates on hosts, each to hold, in the batch system's own words"
    )
    next: str | None = option(
        None,
        doc="class in which a task runs again that ran out of memory, where its tag says `may_grow: true`",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSettings:
    """`runner.pool`: how many workers, how long, how fast. Durations in seconds."""

    min_workers: int = option(0, doc="workers that are kept even when there is nothing to do", minimum=0)
    max_workers: int = option(
        16,
        doc="most workers at once, waiting ones included; see extra_workers; of worker processes on this host, where "
        "nobody says, as many as there are CPUs",
        minimum=1,
    )
    extra_workers: int | None = option(
        None,
        doc="most workers beyond max_workers, for tasks that those of a full pool wait for, but one for each size; "
        "null is a quarter of max_workers",
        minimum=0,
    )
    worker_slots: int = option(1, doc="tasks that one worker runs at once", minimum=1)
    idle_timeout: float = option(300.0, unit=Unit.DURATION, doc="a worker without work leaves after this time")
    licence_idle_timeout: float = option(
        30.0, unit=Unit.DURATION, doc="as idle_timeout, of workers that hold licences; the shorter of the two holds"
    )
    launch_batch_size: int = option(
        4, doc="most workers that may be on their way at once, not yet connected", minimum=1
    )
    max_submits_per_minute: int = option(30, doc="most submissions in a minute", minimum=1)
    poll_interval: float = option(
        15.0, unit=Unit.DURATION, doc="shortest time between two questions to the batch system, for all jobs at once"
    )
    start_timeout: float = option(
        120.0, unit=Unit.DURATION, doc="a worker whose job runs must have connected after this time"
    )
    heartbeat_interval: float = option(
        5.0, unit=Unit.DURATION, doc="how often daemon and worker tell that they are there"
    )
    lease_timeout: float = option(20.0, unit=Unit.DURATION, doc="a silent worker is given up after this time")
    lost_timeout: float = option(
        300.0, unit=Unit.DURATION, doc="a worker that cannot reach its daemon leaves after this time"
    )
    client_grace: float = option(
        60.0, unit=Unit.DURATION, doc="the tasks of a client that has gone are stopped after this time"
    )
    kill_grace: float = option(3.0, unit=Unit.DURATION, doc="time between SIGTERM and SIGKILL when a task is stopped")
    drain_grace: float = option(
        30.0, unit=Unit.DURATION, doc="a job that goes on for so long after its worker has left is cancelled"
    )
    walltime: float | None = option(
        None,
        unit=Unit.DURATION,
        doc="limit of a worker job, or what a task needs where that is more; null is time for four tasks, 30m to 4h, "
        "and no limit for tasks without one",
    )
    walltime_margin: float = option(
        120.0, unit=Unit.DURATION, doc="a worker takes no task that may reach into this time before its job's limit"
    )
    max_losses: int = option(3, doc="a task that lost this many workers without a known cause is given up", minimum=1)
    journal_sync: str = option(
        "group",
        choices=("group", "full"),
        doc="when records are on the disk: `group` 20 ms later, which a power loss may cost, `full` before they count",
    )
    addresses: tuple[str, ...] = option(
        (),
        merge=Merge.REPLACE,
        doc="addresses or names of this host that workers try, in order; empty takes what the host knows of itself",
    )
    bind: tuple[str, ...] = option(
        (),
        merge=Merge.REPLACE,
        doc="addresses to listen at; empty listens at those of `addresses`, or at every interface where there are none",
    )
    port: int = option(0, doc="port to listen at; 0 takes a free one", minimum=0, maximum=65535)
    require_encryption: bool = option(
        default=False, doc="links between daemon and workers must be encrypted; both need Python 3.13 or newer for it"
    )
    access_dir: str | None = option(
        None,
        doc="directory that all nodes share, for the file with the key: an absolute path; empty is ~/.dfm/run",
        check=_relative,
    )
    worker_command: tuple[str, ...] = option(
        (), unit=Unit.ARGV, doc="command that starts a worker on a node; empty is this Python with dfm"
    )
    env_allow: tuple[str, ...] = option(
        ("*",),
        merge=Merge.REPLACE,
        doc="patterns of variables that tasks on workers get from the environment of `dfm run`",
    )
    env_deny: tuple[str, ...] = option(
        (
            "*TOKEN*",
            "*SECRET*",
            "*PASSW*",
            "*CREDENTIAL*",
            "*PRIVATE_KEY*",
            "*API_KEY*",
            "*ACCESS_KEY*",
            "LSB_*",
            "LS_*",
            "SLURM_*",
            "SBATCH_*",
            "SRUN_*",
            "SSH_*",
            "DBUS_*",
            "XDG_SESSION_*",
            "XDG_RUNTIME_DIR",
            "DISPLAY",
            "XAUTHORITY",
            "TMUX*",
            "STY",
            "WINDOWID",
        ),
        doc="patterns of variables that never travel, whatever `env_allow` says",
    )
    time_scale: float = option(1.0, doc="factor on every time of the pool, for tests", minimum=0.0)
