"""`fakelsf`: what an administrator, a broken network or another user does to the cluster."""

import json
from collections.abc import Callable

from dfm.testing.fake_lsf import faults, processes
from dfm.testing.fake_lsf.commands import switch
from dfm.testing.fake_lsf.control import Control
from dfm.testing.fake_lsf.display import Answer
from dfm.testing.fake_lsf.jobs import STARTED, Job, State
from dfm.testing.fake_lsf.state import Cluster
from dfm.testing.fake_lsf.texts import TERM_REASONS

USAGE = """Usage: fakelsf VERB [ARGUMENT ...]
  suspend|resume|unknown|zombie|forget JOB      SSUSP, RUN again, UNKWN, ZOMBI, no more seen by bjobs
  recover JOB|HOST                              contact is back
  preempt JOB [suspend|requeue|kill]            as a job of a higher priority does
  kill JOB [TERM_ADMIN|...]                     as the administrator, or LSF itself, does
  lose-host HOST [--twin|--dies]                processes of its rerunnable jobs end, stay alive, or all end
  close-queue|open-queue|stop-queue|start-queue QUEUE
  close-host|open-host HOST
  break-host HOST [CODE] | mend-host HOST       each job on it exits at once with CODE
  inject COMMAND KIND [NAME=VALUE ...]          faults: see `fakelsf inject`
  faults | clear-faults | jobs [REVISION] | status | stop
"""


LISTED = (
    "serial", "id", "index", "label", "name", "state", "hosts", "pid", "start_count", "exit_code", "exit_signal",
    "reason", "pend_reason", "submitted_at", "started_at", "finished_at", "is_cleaned", "abandoned_pids",
)  # fmt: skip


class CtlError(ValueError):
    """A call that cannot be: the message says why."""


def ctl(cluster: Cluster, control: Control, words: list[str]) -> Answer:
    """Do what is asked.

    Raises:
        CtlError: an unknown verb, job, host or queue.
        faults.OrderError: a fault that makes no sense.
    """
    match words:
        case ["jobs", *_]:
            return Answer(listing(cluster))
        case ["status"]:
            return Answer(_status(cluster))
        case ["inject", *rest]:
            faults.add(cluster, faults.order(rest))
        case ["faults"]:
            return Answer(json.dumps(cluster.system.faults) + "\n")
        case ["clear-faults"]:
            cluster.system.faults.clear()
            cluster.save_system()
        case ["lose-host", host, *how] if set(how) <= {"--twin", "--dies"}:
            control.lose_host(_host(cluster, host), twin="--twin" in how, dies="--dies" in how)
        case ["recover", host] if host in cluster.hosts:
            control.recover_host(host)
        case ["break-host", host, *code] if len(code) < 2:
            cluster.system.broken_hosts[_host(cluster, host)] = int(code[0]) if code else 1
            cluster.save_system()
        case ["mend-host", host]:
            cluster.system.broken_hosts.pop(_host(cluster, host), None)
            cluster.save_system()
        case [verb, name] if verb in _SWITCHES:
            _switch(cluster, verb, name)
        case [verb, label, *rest] if verb in _JOB_VERBS:
            for job in _jobs(cluster, label):
                _JOB_VERBS[verb](cluster, control, job, rest)
        case _:
            raise CtlError(USAGE)
    return Answer()


_SWITCHES = {
    "close-queue": ("closed_queues", True),
    "open-queue": ("closed_queues", False),
    "stop-queue": ("inactive_queues", True),
    "start-queue": ("inactive_queues", False),
    "close-host": ("closed_hosts", True),
    "open-host": ("closed_hosts", False),
}


def _switch(cluster: Cluster, verb: str, name: str) -> None:
    attribute, is_listed = _SWITCHES[verb]
    if name not in (cluster.hosts if verb.endswith("host") else cluster.queues):
        raise CtlError(f"no {verb.partition('-')[2]} {name!r}")
    switch(getattr(cluster.system, attribute), name, is_listed=is_listed)
    cluster.save_system()


def _host(cluster: Cluster, name: str) -> str:
    if name not in cluster.hosts:
        raise CtlError(f"no host {name!r}; there are {', '.join(cluster.hosts)}")
    return name


def _jobs(cluster: Cluster, label: str) -> list[Job]:
    found = cluster.with_label(label)
    if not found:
        raise CtlError(f"no job {label!r}")
    return found


def _suspend(_cluster: Cluster, control: Control, job: Job, _rest: list[str]) -> None:
    control.suspend(job, State.SSUSP)


def _resume(_cluster: Cluster, control: Control, job: Job, _rest: list[str]) -> None:
    control.resume(job)


def _unknown(_cluster: Cluster, control: Control, job: Job, _rest: list[str]) -> None:
    if job.state in STARTED:
        control.lose_contact(job)


def _zombie(_cluster: Cluster, control: Control, job: Job, _rest: list[str]) -> None:
    if job.state in STARTED:
        control.make_zombie(job)


def _recover(_cluster: Cluster, control: Control, job: Job, _rest: list[str]) -> None:
    control.regain_contact(job)


def _forget(cluster: Cluster, _control: Control, job: Job, _rest: list[str]) -> None:
    job.is_hidden = True
    cluster.changed(job)


def _preempt(_cluster: Cluster, control: Control, job: Job, rest: list[str]) -> None:
    match rest:
        case [] | ["suspend"]:
            control.suspend(job, State.SSUSP)
        case ["requeue"]:
            control.kill(job, "TERM_PREEMPT", State.PEND)
        case ["kill"]:
            control.kill(job, "TERM_PREEMPT")
        case _:
            raise CtlError(f"a preempted job is suspended, requeued or killed, not {' '.join(rest)!r}")


def _kill(_cluster: Cluster, control: Control, job: Job, rest: list[str]) -> None:
    reason = rest[0] if rest else "TERM_ADMIN"
    if reason not in TERM_REASONS:
        raise CtlError(f"no reason {reason!r}; there are {', '.join(TERM_REASONS)}")
    control.kill(job, reason)


_JobVerb = Callable[[Cluster, Control, Job, list[str]], None]
_JOB_VERBS: dict[str, _JobVerb] = {
    "suspend": _suspend, "resume": _resume, "unknown": _unknown, "zombie": _zombie, "recover": _recover,
    "forget": _forget, "preempt": _preempt, "kill": _kill,
}  # fmt: skip


def listing(cluster: Cluster) -> str:
    """Return all jobs as one JSON document, with the revision that it shows."""
    rows = [{name: getattr(job, name) for name in LISTED} for job in cluster.jobs.values()]
    for row, job in zip(rows, cluster.jobs.values(), strict=True):
        row |= {"queue": job.submission.queue, "command": job.submission.command}
    return json.dumps({"revision": cluster.revision, "jobs": rows}) + "\n"


def _status(cluster: Cluster) -> str:
    counted: dict[str, int] = {}
    for job in cluster.jobs.values():
        counted[job.state] = counted.get(job.state, 0) + 1
    alive = sum(len(each) for each in processes.marked(cluster.directory).values())
    states = ", ".join(f"{count} {state}" for state, count in sorted(counted.items())) or "none"
    return (
        f"directory  {cluster.directory}\ndialect    {cluster.config.dialect}\nspeed      {cluster.config.speed:g}\n"
        f"hosts      {', '.join(cluster.hosts)}\nqueues     {', '.join(cluster.queues)}\n"
        f"jobs       {states}\nprocesses  {alive}\n"
    )
