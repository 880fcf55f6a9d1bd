"""What the monitor shows, as plain rows: pure, so that the terminal program only paints.

A status is what the daemon answers to `status`; its form is described in docs/reference/daemon-status.md.
"""

import enum
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

Status = Mapping[str, Any]


class Order(enum.StrEnum):
    """What the running tasks are sorted by."""

    ELAPSED = "elapsed"
    NAME = "name"
    WORKER = "worker"
    HOST = "host"


@dataclass(frozen=True, slots=True)
class RunningRow:
    """A task that runs, for the upper table."""

    task: str
    worker: str
    host: str
    elapsed: str


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """A worker, or the job of one that has not come."""

    slot: str
    job: str
    state: str
    host: str
    since: str
    what: str


@dataclass(frozen=True, slots=True)
class RecentRow:
    """A task that has ended, for the lower table; `at` is the time of day here."""

    task: str
    outcome: str
    seconds: str
    host: str
    at: str


def headline(status: Status) -> str:
    """Return the counts in one line each for workers and tasks, then what keeps workers away, if anything does."""
    workers, tasks = status["workers_count"], status["tasks_count"]
    up = clock(float(status["uptime_seconds"]))
    counts = (
        f"workers {workers['total']}: {workers['busy']} busy, {workers['idle']} idle, {workers['pending']} pending   "
        f"tasks: {tasks['queued']} queued, {tasks['running']} running, {tasks['done']} done   "
        f"{float(status['tasks_per_second']):.1f}/s"
    )
    return "\n".join(
        [
            f"{status['runner']} daemon of {status['project']}  up {up}  epoch {status['epoch']}",
            counts,
            *_standing_lines(status),
            *_pending_lines(status),
        ]
    )


def status_lines(status: Status) -> list[str]:
    """Return what `dfm daemon status` prints: the counts, then a line for each worker, or its job before it came."""
    workers, tasks = status["workers_count"], status["tasks_count"]
    up = clock(float(status["uptime_seconds"]))
    connected = {worker["slot"]: worker["state"] for worker in status["workers"] if worker["state"] != "silent"}
    rows = []
    for job in status["jobs"]:
        state = connected.get(job["slot"])
        reason = f": {job['reason']}" if job["reason"] and state is None else ""
        rows.append(f"  {job['slot']}  job {job['id'] or '-'}  {state or job['state']}  {job['host'] or '-'}{reason}")
    return [
        f"daemon of {status['project']}: pid {status['pid']} on {status['host']}, up {up}",
        f"runner {status['runner']}, epoch {status['epoch']}",
        f"workers: {workers['total']}, {workers['busy']} busy, {workers['idle']} idle, {workers['pending']} pending",
        f"tasks: {tasks['queued']} queued, {tasks['running']} running, {tasks['done']} done",
        *_standing_lines(status),
        *rows,
    ]


def stop_lines(status: Status) -> list[str]:
    """Return what `dfm daemon stop` says of the runs that are connected and have tasks; nothing where none has."""
    clients = sum(client["unfinished"] > 0 for client in status["clients"])
    tasks = status["tasks_count"]
    cut = [
        _counted(
            tasks["running"], "running task is cut off and begins anew", "running tasks are cut off and begin anew"
        )
    ]
    cut += [_counted(tasks["queued"], "task waits", "tasks wait")]
    told = ", ".join(filter(None, cut))
    if not clients or not told:
        return []
    runs = _counted(clients, "run is connected", "runs are connected")
    who = (
        "it waits a minute for a new daemon and ends" if clients == 1 else "they wait a minute for a new daemon and end"
    )
    hint = ["  hint: `dfm daemon stop --drain` lets what runs finish first"] if tasks["running"] else []
    return [f"{runs}: {told}; {who} where none comes", *hint]


def _counted(count: int, one: str, many: str) -> str:
    return "" if count == 0 else f"{count} {one if count == 1 else many}"


def resumed_lines(before: Status) -> list[str]:
    """Return what `dfm daemon resume` has done to a daemon that stood so before."""
    pause = [f"workers are submitted again; until now: {before['paused']}"] if before["paused"] else []
    hosts = [
        f"work goes to host {host} again; until now it was avoided: {reason}"
        for host, reason in before["excluded_hosts"].items()
    ]
    return [*pause, *hosts] or ["nothing kept workers from being submitted"]


def _standing_lines(status: Status) -> list[str]:
    """Return why no workers are submitted, which hosts get no work, and which licences the workers hold."""
    pause = [f"no workers are submitted: {status['paused']}"] if status["paused"] else []
    hosts = [f"no work goes to host {host}: {reason}" for host, reason in status["excluded_hosts"].items()]
    tokens = [f"{count:g} {name}" for name, count in status["held_tokens"].items()]
    return [*pause, *hosts, *([f"licences held by workers: {', '.join(tokens)}"] if tokens else [])]


def _pending_lines(status: Status) -> list[str]:
    """Return what the jobs wait for whose workers have not come: a line for each reason, the most frequent first."""
    reasons = Counter(job["reason"] for job in status["jobs"] if job["reason"] and not job["is_connected"])
    return [f"{count} of the jobs wait: {reason}" for reason, count in reasons.most_common()]


def running_rows(status: Status, order: Order, needle: str = "") -> list[RunningRow]:
    """Return the running tasks that hold `needle` in their name, worker or host, longest first where that is asked."""
    found = [
        (
            float(task["seconds"]),
            RunningRow(task["task"], worker["slot"], worker["host"], clock(float(task["seconds"]))),
        )
        for worker in status["workers"]
        for task in worker["running"]
    ]
    kept = [(seconds, row) for seconds, row in found if _matches(needle, (row.task, row.worker, row.host))]
    match order:
        case Order.ELAPSED:
            kept.sort(key=lambda pair: (-pair[0], in_order(pair[1].task)))
        case Order.NAME:
            kept.sort(key=lambda pair: in_order(pair[1].task))
        case Order.WORKER:
            kept.sort(key=lambda pair: (in_order(pair[1].worker), in_order(pair[1].task)))
        case Order.HOST:
            kept.sort(key=lambda pair: (in_order(pair[1].host), in_order(pair[1].task)))
    return [row for _, row in kept]


def worker_rows(status: Status, needle: str = "") -> list[WorkerRow]:
    """Return a row for each worker job: what its worker runs, or why there is none yet."""
    connected = {worker["slot"]: worker for worker in status["workers"]}
    rows = []
    for job in sorted(status["jobs"], key=lambda job: in_order(job["slot"])):
        worker = connected.get(job["slot"])
        running = [] if worker is None else [task["task"] for task in worker["running"]]
        state = job["state"] if worker is None else worker["state"]
        host = job["host"] if worker is None else worker["host"]
        what = ", ".join(running) or ("" if job["is_connected"] else job["reason"])
        rows.append(WorkerRow(job["slot"], job["id"] or "-", state, host or "-", clock(job["since_seconds"]), what))
    return [row for row in rows if _matches(needle, (row.slot, row.job, row.state, row.host, row.what))]


def recent_rows(status: Status, needle: str = "") -> list[RecentRow]:
    """Return the tasks that ended last, newest first."""
    return [
        RecentRow(item["task"], item["outcome"], f"{float(item['seconds']):.2f}", item["host"], _time_of(item["at"]))
        for item in reversed(status["recent"])
        if _matches(needle, (item["task"], item["host"], item["outcome"]))
    ]


def in_order(name: str) -> list[tuple[int, str]]:
    """Return what sorts names as people count: `s-1-2` before `s-1-10`."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.findall(r"\d+|\D+", name)]


def _time_of(instant: str) -> str:
    """Return the time of day here of an instant in ISO 8601."""
    return datetime.fromisoformat(instant).astimezone().strftime("%H:%M:%S")


def clock(seconds: float) -> str:
    """Return a duration as `1:02:03`, or `2:03` below an hour."""
    whole = int(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def _matches(needle: str, texts: Sequence[str]) -> bool:
    return not needle or any(needle.lower() in text.lower() for text in texts)
