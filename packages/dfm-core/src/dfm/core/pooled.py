"""From settings to pools: which pool a run uses, and what makes a daemon's.

A run uses the daemon of its project where one answers and serves the same runner; else it hosts a pool of its own for
as long as it lives.
"""

import os
import socket
from collections.abc import Callable, Iterator, Sequence

from msgspec import Struct

from dfm.api.batch import ARRAY_INDEX, ArrayDialect, BatchDialect
from dfm.api.errors import RunnerError
from dfm.api.runner import Resources
from dfm.core.config.load import Settings, usable_cpus
from dfm.core.daemon.client import DaemonLink, living_daemon
from dfm.core.daemon.endpoint import ASKING_SOCKET, Endpoint, state_directory, state_root
from dfm.core.daemon.serve import Place
from dfm.core.daemon.server import answering
from dfm.core.pool.batch import JobPlace, worker_job
from dfm.core.pool.host import PoolPlan
from dfm.core.pool.journal import Replay
from dfm.core.pool.link import HostedLink
from dfm.core.pool.processes import ProcessDialect
from dfm.core.pool.runner import PooledRunner, PoolLink, Traces, shape_of
from dfm.core.pool.trace import Trace, leave_trace, remove_trace
from dfm.core.runfacts import DaemonUse, RunFacts
from dfm.core.wire.access import ACCESS_FILE, access_directory, access_location, refuse_relative_places
from dfm.core.wire.environment import travelling
from dfm.core.wire.messages import Shape, ToClient

WORKERS_DIRECTORY = ".dfm-workers"


def local_dialect() -> ProcessDialect:
    """Return the dialect of worker processes on this host."""
    return ProcessDialect(max_cores=usable_cpus())


def pooled_runner(dialect: BatchDialect, settings: Settings, facts: RunFacts) -> PooledRunner:
    """Return the runner of a run: on the project's daemon where one answers, else on a pool of its own.

    Raises:
        RunnerError: a daemon is wanted and none answers.
        UsageError: a variable names a relative directory.
    """
    refuse_relative_places(os.environ)
    pool = settings.pool
    environment = travelling(facts.environ, pool.env_allow, pool.env_deny)
    endpoint = Endpoint(facts.project)
    obstacle = None if facts.use is DaemonUse.NEVER else _obstacle(endpoint, dialect.name)
    if facts.use is not DaemonUse.NEVER and obstacle is None:

        def connect(hear: Callable[[ToClient], None], broken: Callable[[str], None]) -> PoolLink:
            return DaemonLink(endpoint, facts.run_id, facts.root_rundir, hear, broken)

        traces = _traces(facts, has_own_pool=False)
        return PooledRunner(connect, facts.notice, environment, traces, facts.ask, facts.tell, facts.jobs)
    if facts.use is DaemonUse.ALWAYS and obstacle is not None:
        raise RunnerError(obstacle.what, hint=obstacle.hint)
    if obstacle is not None and not obstacle.is_absence:
        facts.notice(f"{obstacle.what}; this run has workers of its own")

    def host(hear: Callable[[ToClient], None], broken: Callable[[str], None]) -> PoolLink:
        path = os.path.join(own_pool_state(facts.run_id), ASKING_SOCKET)
        told: dict[str, object] = {"project": facts.project, "host": socket.gethostname(), "pid": os.getpid()}
        plan = run_plan(dialect, settings, facts)
        return HostedLink(plan, facts.run_id, hear, broken, lambda engine: answering(engine, path, told))

    traces = _traces(facts, has_own_pool=True)
    return PooledRunner(host, facts.notice, environment, traces, facts.ask, facts.tell, facts.jobs)


def _traces(facts: RunFacts, *, has_own_pool: bool) -> Traces:
    trace = Trace(run_id=facts.run_id, host=socket.gethostname(), project=facts.project, has_own_pool=has_own_pool)

    def remove() -> None:
        if not (has_own_pool and os.path.isdir(own_pool_state(facts.run_id))):  # else not all its jobs have ended
            remove_trace(facts.root_rundir)

    return Traces(leave=lambda: leave_trace(facts.root_rundir, trace), remove=remove)


def own_pool_state(run_id: str) -> str:
    """Return the directory on this host's own disk for the journal of a run's own pool; nothing is made."""
    return os.path.join(state_root(), f"run-{run_id[:16]}")


def own_pool_access(project: str, run_id: str, base: str | None) -> str:
    """Return the path of the access file of a run's own pool; nothing is made."""
    return os.path.join(access_location(_own_pool(project, run_id), base), ACCESS_FILE)


def own_pool_private(directory: str, found: Replay, base: str | None) -> str | None:
    """Return the private directory of a run's own pool from its journal; None where the journal is not a run's.

    Args:
        directory: of the journal.
        found: what the journal holds: the run is its only client.
        base: of private directories.
    """
    clients = (str(entry.fields.get("client", "")) for entry in found.entries if entry.kind == "client")
    run_id = next((name for name in clients if own_pool_state(name) == directory), None)
    if run_id is None or found.header is None:
        return None
    return os.path.dirname(own_pool_access(found.header.project, run_id, base))


def _own_pool(project: str, run_id: str) -> str:
    return os.path.join(project, run_id)


def own_pool_snapshot(root_rundir: str) -> str:
    """Return where other hosts see which jobs a run's own pool has."""
    return os.path.join(root_rundir, WORKERS_DIRECTORY, "jobs")


def run_plan(dialect: BatchDialect, settings: Settings, facts: RunFacts) -> PoolPlan:
    """Return what makes the pool of a single run.

    Raises:
        InfrastructureError: the private directories cannot be made.
    """
    access = access_directory(_own_pool(facts.project, facts.run_id), access_base(settings))
    return PoolPlan(
        dialect=dialect,
        settings=settings.pool,
        project=facts.project,
        instance=facts.run_id[:8],
        epoch=1,
        state_directory=state_directory(own_pool_state(facts.run_id)),
        access_path=os.path.join(access, ACCESS_FILE),
        log_directory=os.path.join(facts.root_rundir, WORKERS_DIRECTORY),
        default_shape=shape_of(settings.resolve_resources(None)),
        environ=os.environ,
        notice=facts.notice,
        is_on_this_host=isinstance(dialect, ProcessDialect),
        snapshot_path=own_pool_snapshot(facts.root_rundir),
        is_passing=True,
    )


def daemon_plan(dialect: BatchDialect, settings: Settings, endpoint: Endpoint, place: Place) -> PoolPlan:
    """Return what makes the pool of a daemon."""
    return PoolPlan(
        dialect=dialect,
        settings=settings.pool,
        project=endpoint.project,
        instance=endpoint.instance,
        epoch=place.epoch,
        state_directory=place.state_directory,
        access_path=endpoint.access_path(settings.pool.access_dir),
        log_directory=place.log_directory,
        default_shape=shape_of(settings.resolve_resources(None)),
        environ=os.environ,
        notice=lambda _: None,
        snapshot_path=endpoint.snapshot_path,
        is_on_this_host=isinstance(dialect, ProcessDialect),
    )


def shown_submissions(
    dialect: BatchDialect, settings: Settings, facts: RunFacts, asked: Sequence[tuple[str, Resources]]
) -> Iterator[tuple[list[str], str]]:
    """Yield the tasks of each shape, and how a worker for them would be submitted, exactly, for `--dry-run`.

    Args:
        dialect: of the batch system.
        settings: of the pool.
        facts: of the run.
        asked: tasks and what they ask of their machine, settled.

    Raises:
        RunnerError: the batch system would misread it.
    """
    tasks: dict[Shape, list[str]] = {}
    for name, resources in asked:
        tasks.setdefault(shape_of(resources), []).append(name)
    place = JobPlace(
        prefix=f"dfm-{facts.run_id[:8]}-",
        directory=facts.project,
        log_directory=os.path.join(facts.root_rundir, WORKERS_DIRECTORY),
        access=own_pool_access(facts.project, facts.run_id, access_base(settings)),
    )
    pool = settings.pool
    array_size = dialect.array_size if isinstance(dialect, ArrayDialect) else 1
    for number, (shape, names) in enumerate(tasks.items(), start=1):
        together = min(-(-len(names) // pool.worker_slots), array_size, pool.launch_batch_size, pool.max_workers)
        slot = f"s-1-{number}"
        job = worker_job(
            place,
            pool,
            name=f"{place.prefix}1-{number}-1",
            slot=slot if together == 1 else f"{slot}.{ARRAY_INDEX}",
            slots=pool.worker_slots,
            shape=shape,
            is_array=together > 1,
        )
        dialect.validate(job)
        if together > 1 and isinstance(dialect, ArrayDialect):
            yield names, dialect.shown_array(job, together)
        else:
            yield names, dialect.shown(job)


def access_base(settings: Settings) -> str | None:
    """Return where private directories that nodes share lie; None is the usual place."""
    return settings.pool.access_dir or os.environ.get("DFM_ACCESS_DIR") or None


class _Obstacle(Struct, frozen=True):
    """Why the daemon of the project cannot serve a run, and what to do.

    Attributes:
        is_absence: whether there simply is none.
    """

    what: str
    hint: str
    is_absence: bool = False


def _obstacle(endpoint: Endpoint, runner: str) -> _Obstacle | None:
    """Return why the project's daemon cannot serve a run of this runner; None where it can."""
    found, here = endpoint.read(), socket.gethostname()
    if found is not None and found.host != here:
        hint = f"run it there, or stop that daemon there; this is host {here}"
        return _Obstacle(f"the daemon of {endpoint.project} is on host {found.host}", hint)
    if found is None or living_daemon(endpoint) is None:
        hint = f"dfm daemon start --runner {runner} starts one"
        return _Obstacle(f"no daemon of {endpoint.project} runs", hint, is_absence=True)
    if found.runner != runner:
        hint = f"dfm run --daemon --runner {found.runner} uses it"
        return _Obstacle(f"the daemon of {endpoint.project} serves runner {found.runner}, not {runner}", hint)
    return None
