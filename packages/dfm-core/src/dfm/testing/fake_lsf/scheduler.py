"""The scheduler: at each tick, which pending job starts where, and why the others do not.

Queues by priority, in a queue by user priority and then first come, first served; a job that does not fit does not
hold up the ones behind it. Hosts have slots and memory, the cluster has licences. Jobs of a chunk queue are sent out
together to one slot, the first to run, the others to WAIT.
"""

import os
import re
from collections import Counter
from collections.abc import Sequence

from dfm.testing.fake_lsf import jobfile, resreq, supervise, texts
from dfm.testing.fake_lsf.config import Host
from dfm.testing.fake_lsf.jobs import ENDED, PENDING, STARTED, Job, State
from dfm.testing.fake_lsf.state import Cluster
from dfm.testing.fake_lsf.supervise import now

CHUNK_EXEMPT_SECONDS = 30 * 60
_DEPENDENCY = re.compile(r"\s*(done|ended|exit|started)\(\s*\"?([^()\"]+)\"?\s*\)\s*")


class Scheduler:
    """Starts pending jobs of a cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._next_tick = 0.0
        self._last_start: dict[str, float] = {}
        self._holders: list[Job] = []

    def look(self) -> None:
        """Tick when it is time; between ticks only let the next member of a chunk run."""
        at = now()
        self._advance_chunks()
        if at >= self._next_tick:
            self._next_tick = at + self._cluster.config.seconds(self._cluster.config.params.mbd_sleep_time)
            self._tick(at)

    def _tick(self, at: float) -> None:
        queues = self._cluster.queues
        self._holders = [job for job in self._cluster.live() if job.hosts]
        pending = [job for job in self._cluster.live() if job.state is State.PEND]
        pending.sort(
            key=lambda job: (
                -queues[job.submission.queue].priority, -job.submission.user_priority, job.submitted_at, job.serial
            )
        )  # fmt: skip
        for job in pending:
            if job.state is not State.PEND:
                continue
            reason = self._why_not_now(job, at)
            hosts: list[str] = []
            if not reason:
                hosts, reason = self._place(job, at)
            if hosts:
                self._dispatch(job, hosts)
                self._fill_chunk(job, pending)
            elif job.pend_reason != reason:
                job.pend_reason = reason
                self._cluster.changed(job)

    def _why_not_now(self, job: Job, at: float) -> str:
        submission = job.submission
        if submission.queue in self._cluster.system.inactive_queues:
            return "queue"
        if submission.not_before > at:
            return "begin"
        if submission.depends and not self._depends_hold(submission.depends):
            return "depend"
        if submission.array_limit and self._running_elements(job) >= submission.array_limit:
            return "array"
        return ""

    def _running_elements(self, job: Job) -> int:
        return sum(each.batch == job.batch and each.state in STARTED | {State.WAIT} for each in self._cluster.live())

    def _depends_hold(self, condition: str) -> bool:
        parts = dependencies(condition) or []
        return all(any(self._dependency_holds(kind, name) for kind, name in either) for either in parts)

    def _dependency_holds(self, kind: str, name: str) -> bool:
        named = self._cluster.with_label(name) if name[:1].isdigit() else self._cluster.named(name)[-1:]
        match kind:
            case "done":
                holds = [job.state is State.DONE for job in named]
            case "exit":
                holds = [job.state is State.EXIT for job in named]
            case "ended":
                holds = [job.state in ENDED for job in named]
            case _:
                holds = [job.state not in PENDING for job in named]
        return bool(holds) and all(holds)

    def _place(self, job: Job, at: float) -> tuple[list[str], str]:
        """Return a host name for each slot; or none, and the reason."""
        submission = job.submission
        usable = [host for host in self._candidates(job) if self._fits_select(job, host)]
        if not usable:
            return [], "select"
        if not self._licences_suffice(job, at):
            return [], "resources"
        rested = [host for host in usable if self._is_rested(host, at)]
        if not rested:
            return [], "accept"
        room = {host.name: self._room(job, host) for host in rested}
        if submission.single_host:
            rested = [host for host in rested if room[host.name] >= submission.slots]
        placed: list[str] = []
        for host in sorted(rested, key=lambda each: -room[each.name]):
            most = submission.tasks_per_host or submission.most_slots
            placed += [host.name] * min(room[host.name], most, submission.most_slots - len(placed))
            if submission.single_host or len(placed) >= submission.most_slots:
                break
        if len(placed) >= submission.slots:
            return placed, ""
        return [], "hosts" if submission.single_host and submission.slots > 1 else "slots"

    def _candidates(self, job: Job) -> list[Host]:
        system, queue = self._cluster.system, self._cluster.queues[job.submission.queue]
        out_of_use = {*system.lost_hosts, *system.closed_hosts}
        return [
            host
            for host in self._cluster.hosts.values()
            if host.name not in out_of_use
            and (not queue.hosts or host.name in queue.hosts)
            and (not job.submission.wanted_hosts or host.name in job.submission.wanted_hosts)
        ]

    def _fits_select(self, job: Job, host: Host) -> bool:
        attributes: dict[str, resreq.Value] = {
            "hname": host.name, "type": "X86_64", "model": "Fake", "ncpus": float(host.slots), "cpuf": 1.0,
            "mem": self._free_memory(host), "maxmem": float(host.memory_mb), "tmp": 10_000.0, "swp": 10_000.0,
            "ut": 0.0, "r15s": 0.0, "r1m": 0.0, "r15m": 0.0, "pg": 0.0, "ls": 1.0, "it": 100.0,
            "slots": float(self._free_slots(host)), "any": True, **dict.fromkeys(host.resources, True),
        }  # fmt: skip
        return all(resreq.matches(select, attributes) for select in job.submission.selects)

    def _is_rested(self, host: Host, at: float) -> bool:
        params = self._cluster.config.params
        if params.job_accept_interval == 0:
            return True
        pause = self._cluster.config.seconds(params.job_accept_interval * params.mbd_sleep_time)
        return at >= self._last_start.get(host.name, 0) + pause

    def _room(self, job: Job, host: Host) -> int:
        """Return how many of the job's slots the host can take now."""
        free = self._free_slots(host)
        if job.submission.is_exclusive and free < host.slots:
            return 0
        for name, amount, per, _ in job.submission.usages:
            if name != "mem" or amount == 0:
                continue
            available = self._free_memory(host)
            if per == "task":
                free = min(free, int(available // amount))
            elif available < amount:
                return 0
        return free

    def _free_slots(self, host: Host) -> int:
        # A job that was preempted holds none.
        holders = [job for job in self._holders if host.name in job.hosts]
        if any(job.submission.is_exclusive and job.state in STARTED for job in holders):
            return 0
        held = sum(job.hosts.count(host.name) for job in holders if job.state in STARTED - {State.SSUSP})
        return max(0, host.slots - held)

    def _free_memory(self, host: Host) -> float:
        free = float(host.memory_mb)
        for job in self._holders:
            if host.name not in job.hosts or job.state not in STARTED:
                continue
            tasks = job.hosts.count(host.name)
            for name, amount, per, _ in job.submission.usages:
                if name == "mem":
                    free -= amount * (tasks if per == "task" else 1)
        return free

    def _licences_suffice(self, job: Job, at: float) -> bool:
        free = Counter(self._cluster.config.licences)
        for running in self._holders:
            if running.state in STARTED - {State.SSUSP}:
                free.subtract(self._licences_of(running, at))
        wanted = self._licences_of(job, at)
        return all(free[name] >= amount for name, amount in wanted.items())

    def _licences_of(self, job: Job, at: float) -> Counter[str]:
        taken: Counter[str] = Counter()
        elapsed = (at - job.started_at) * self._cluster.config.speed if job.started_at else 0.0
        for name, amount, per, minutes in job.submission.usages:
            if name in self._cluster.config.licences and (minutes is None or elapsed < minutes * 60):
                taken[name] += int(amount) * (job.submission.slots if per == "task" else 1)
        return taken

    def _fill_chunk(self, first: Job, pending: Sequence[Job]) -> None:
        queue = self._cluster.queues[first.submission.queue]
        if queue.chunk_size < 2 or not _is_chunked(first):
            return
        members = [first]
        for job in pending:
            if len(members) == queue.chunk_size:
                return
            if job.state is State.PEND and job.submission.queue == queue.name and _is_chunked(job):
                job.waits_for = [each.serial for each in members]
                job.hosts = list(first.hosts)
                job.enter(State.WAIT, now())
                self._cluster.note(job, texts.EVENT_DISPATCHED.format(host=first.hosts[0]))
                self._cluster.changed(job)
                members.append(job)

    def _advance_chunks(self) -> None:
        for job in [job for job in self._cluster.live() if job.state is State.WAIT]:
            before = [self._cluster.jobs.get(serial) for serial in job.waits_for]
            if not any(each is not None and each.is_live and each.state is not State.PEND for each in before):
                self._dispatch(job, job.hosts)

    def _dispatch(self, job: Job, hosts: list[str]) -> None:
        at = now()
        job.hosts, job.started_at, job.waits_for = hosts, at, []
        job.start_count += 1
        self._last_start[hosts[0]] = at
        self._cluster.note(job, texts.EVENT_DISPATCHED.format(host=hosts[0]))
        os.makedirs(job.run_directory, mode=0o700)
        self._holders.append(job)
        job.supervisor = supervise.start(jobfile.plan(self._cluster, job))
        job.enter(State.RUN, at)
        self._cluster.changed(job)


def dependencies(condition: str) -> list[list[tuple[str, str]]] | None:
    """Read a `-w` condition: what must hold together, each a list of what may hold instead; None if it is not one."""
    together: list[list[tuple[str, str]]] = []
    for part in condition.split("&&"):
        bare = part.strip()
        bare = bare[1:-1] if bare.startswith("(") and bare.endswith(")") else bare
        found = [_DEPENDENCY.fullmatch(each) for each in bare.split("||")]
        names = [(match[1], match[2]) for match in found if match is not None]
        if len(names) != len(found):
            return None
        together.append(names)
    return together


def _is_chunked(job: Job) -> bool:
    limit = job.submission.run_limit_seconds
    return job.submission.slots == 1 and (limit is None or limit <= CHUNK_EXEMPT_SECONDS)
