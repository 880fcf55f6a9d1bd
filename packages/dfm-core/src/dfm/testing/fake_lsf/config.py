"""What a fake cluster is made of: hosts, queues and the parameters that lsf.conf and lsb.params hold.

Times are in LSF seconds, which pass `speed` times as fast as the seconds of this machine.
"""

import dataclasses
import json
import os
from dataclasses import dataclass, field
from typing import Literal, TypeVar, get_args, get_origin, get_type_hints

Dialect = Literal["ibm10", "ibm10-consistent", "ibm9", "volclava"]
DIALECTS: tuple[Dialect, ...] = get_args(Dialect)
_Entry = TypeVar("_Entry", "Host", "Queue", "Params")
CONFIG_NAME = "config.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A simulated host; its jobs are processes of this machine.

    Attributes:
        memory_mb: what `rusage[mem]` is taken from.
        resources: names that hold in `select[...]`, such as `rhel8`.
        lacks: directories that are not mounted there: jobs whose directory lies in one start in /tmp.
        broken: exit code with which each job ends at once there (a black hole); None is a sound host.
    """

    name: str
    slots: int = 4
    memory_mb: int = 16_000
    resources: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    broken: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """A queue of lsb.queues.

    Attributes:
        run_limit_minutes: RUNLIMIT, the most that `-W` may ask for, and what a job without `-W` gets.
        task_limit: TASKLIMIT (PROCLIMIT), the most that `-n` may ask for.
        memory_limit_mb: MEMLIMIT, the most that `-M` may ask for.
        users: USERS; empty lets everyone in.
        hosts: HOSTS; empty is all of them.
        chunk_size: CHUNK_JOB_SIZE; jobs of a chunk share a slot and run one after another.
        rerunnable: RERUNNABLE, for jobs without `-rn`.
        requeue_exit_values: REQUEUE_EXIT_VALUES; a job that exits so is pending again, under the same id.
        terminate_control: a signal name instead of the usual INT, TERM, KILL (JOB_CONTROLS TERMINATE); empty for none.
    """

    name: str
    priority: int = 30
    run_limit_minutes: int | None = None
    task_limit: int | None = None
    memory_limit_mb: int | None = None
    users: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    chunk_size: int = 1
    rerunnable: bool = False
    requeue_exit_values: tuple[int, ...] = ()
    terminate_control: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """Parameters of lsf.conf and lsb.params, by their own names in lower case, and a few switches of the fake.

    Attributes:
        mbd_sleep_time: between two looks of the scheduler at what is pending.
        sbd_sleep_time: between two looks at limits.
        job_accept_interval: between two jobs that start on one host, in units of mbd_sleep_time.
        job_terminate_interval: between INT and TERM, and TERM and KILL.
        run_limit_grace: from USR2 at `-W` to KILL.
        clean_period: how long an ended job stays visible.
        newjob_refresh: how long a new job is not visible yet.
        max_pend_jobs: beyond it bsub waits; None for no limit.
        lsf_unit_for_limits: KB, MB, GB or empty, which is KB for limits and MB for rusage.
        resource_reserve_per_task: whether rusage counts per slot instead of per host.
        lsb_use_sequential_signal: whether jobs of several slots get INT and TERM before KILL.
        require_project: whether an esub asks for `-P`.
        esub_rejects: text of an esub that refuses each job; empty accepts.
        shared_roots: what execution hosts can see beside the system's own directories; empty is everything.
        daemon_retry: between two tries of a command while mbatchd is away.
        bjobs_not_found_status: status of bjobs for one id that is not found, of dialect ibm10 and ibm9.
        signal_escapees: whether signals and limits reach processes that left the job's session, as with cgroups.
        lsid_exists: some emulations have none.
        home: HOME on the execution hosts; empty is a directory inside FAKE_LSF_DIR.
    """

    mbd_sleep_time: float = 10
    sbd_sleep_time: float = 7
    job_accept_interval: float = 0
    job_terminate_interval: float = 10
    run_limit_grace: float = 600
    clean_period: float = 3600
    newjob_refresh: float = 0
    sub_try_interval: float = 60
    daemon_retry: float = 10
    max_pend_jobs: int | None = None
    first_jobid: int = 101
    max_jobid: int = 999_999
    max_job_array_size: int = 1000
    lsb_max_pack_jobs: int = 0
    lsf_unit_for_limits: str = ""
    resource_reserve_per_task: bool = False
    lsb_use_sequential_signal: bool = False
    lsb_stdout_direct: bool = False
    lsb_exit_if_cwd_notexist: bool = False
    lsb_bsub_parse_script: bool = False
    require_project: bool = False
    esub_rejects: str = ""
    default_queue: str = "normal"
    default_project: str = "default"
    shared_roots: tuple[str, ...] = ()
    service_classes: tuple[str, ...] = ()
    bjobs_not_found_status: int = 0
    signal_escapees: bool = False
    lsid_exists: bool = True
    cluster_name: str = "fake"
    submit_host: str = "login1"
    home: str = ""


def default_hosts() -> tuple[Host, ...]:
    """Return two hosts of four slots."""
    return (Host(name="hostA"), Host(name="hostB"))


def default_queues() -> tuple[Queue, ...]:
    """Return `normal`, `regr` of a higher priority, and `short`, whose jobs may last an hour."""
    return (
        Queue(name="normal"),
        Queue(name="regr", priority=40),
        Queue(name="short", priority=50, run_limit_minutes=60, task_limit=2),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterConfig:
    """A whole cluster.

    Attributes:
        speed: LSF seconds per second of this machine.
        licences: shared resources by name, as `rusage[name=1]` takes them.
    """

    dialect: Dialect = "ibm10"
    speed: float = 1.0
    hosts: tuple[Host, ...] = field(default_factory=default_hosts)
    queues: tuple[Queue, ...] = field(default_factory=default_queues)
    licences: dict[str, int] = field(default_factory=dict)
    params: Params = field(default_factory=Params)

    def seconds(self, lsf_seconds: float) -> float:
        """Return how long LSF seconds last on this machine."""
        return lsf_seconds / self.speed

    @property
    def is_volclava(self) -> bool:
        """Whether the older command set is spoken."""
        return self.dialect == "volclava"


class ConfigError(ValueError):
    """A cluster that cannot be: the message says what is wrong with it."""


def check(config: ClusterConfig) -> None:
    """Refuse what could not work.

    Raises:
        ConfigError: a speed that is not positive, an unknown dialect, no host, or a default queue that is not there.
    """
    if not config.speed > 0:
        raise ConfigError(f"speed must be more than 0, not {config.speed!r}")
    if config.dialect not in DIALECTS:
        raise ConfigError(f"dialect {config.dialect!r} is none of {', '.join(DIALECTS)}")
    for kind, names in (
        ("host", [host.name for host in config.hosts]),
        ("queue", [queue.name for queue in config.queues]),
    ):
        if not names or len(set(names)) != len(names):
            raise ConfigError(f"a cluster has one {kind} or more, and no two of one name: {', '.join(names) or 'none'}")
    if config.params.default_queue not in {queue.name for queue in config.queues}:
        raise ConfigError(f"default_queue {config.params.default_queue!r} is none of the queues")


def save(config: ClusterConfig, directory: str) -> None:
    """Write the configuration into FAKE_LSF_DIR."""
    path = os.path.join(directory, CONFIG_NAME)
    with open(path + ".new", "w", encoding="utf-8") as stream:
        json.dump(dataclasses.asdict(config), stream, indent=1)
    os.replace(path + ".new", path)


def load(directory: str) -> ClusterConfig:
    """Read the configuration of FAKE_LSF_DIR."""
    with open(os.path.join(directory, CONFIG_NAME), encoding="utf-8") as stream:
        return decode(json.load(stream))


def decode(document: dict[str, object]) -> ClusterConfig:
    """Return the cluster that a JSON document describes.

    Raises:
        ConfigError: a key that is not known, or a value that makes no sense.
    """
    known = {each.name for each in dataclasses.fields(ClusterConfig)}
    if unknown := sorted(set(document) - known):
        raise ConfigError(f"unknown key {unknown[0]!r}; known are {', '.join(sorted(known))}")
    values: dict[str, object] = dict(document)
    if not isinstance(values.get("speed", 1.0), int | float):
        raise ConfigError(f"speed must be a number, not {values['speed']!r}")
    if "hosts" in values:
        values["hosts"] = tuple(_entry(Host, each) for each in _list(values["hosts"]))
    if "queues" in values:
        values["queues"] = tuple(_entry(Queue, each) for each in _list(values["queues"]))
    if "params" in values:
        values["params"] = _entry(Params, values["params"])
    config = ClusterConfig(**values)  # type: ignore[arg-type]  # keys were checked, values come from our own JSON
    check(config)
    return config


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise ConfigError(f"expected a list, found {value!r}")
    return value


def _entry(kind: type[_Entry], value: object) -> _Entry:
    if not isinstance(value, dict):
        raise ConfigError(f"expected keys and values for a {kind.__name__.lower()}, found {value!r}")
    known = {each.name for each in dataclasses.fields(kind)}
    if unknown := sorted(set(value) - known):
        raise ConfigError(f"unknown key {unknown[0]!r} of a {kind.__name__.lower()}")
    values = {name: tuple(each) if isinstance(each, list) else each for name, each in value.items()}
    hints = get_type_hints(kind)
    for name, each in values.items():
        hint = tuple if get_origin(hints[name]) is tuple else hints[name]
        if not isinstance(each, int | float if hint is float else hint):
            raise ConfigError(f"{name} of a {kind.__name__.lower()} cannot be {each!r}")
    return kind(**values)  # type: ignore[arg-type]  # keys and types were checked
