"""All commands but bsub and bjobs: each is a function from the cluster and a read command line to an answer."""

import signal
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from datetime import datetime

from dfm.testing.fake_lsf import display, options, texts
from dfm.testing.fake_lsf.config import Queue
from dfm.testing.fake_lsf.control import Control
from dfm.testing.fake_lsf.display import Answer, lines
from dfm.testing.fake_lsf.jobfile import login_name
from dfm.testing.fake_lsf.jobs import ENDED, PENDING, SUSPENDED, Job, State
from dfm.testing.fake_lsf.options import Parsed
from dfm.testing.fake_lsf.state import Cluster
from dfm.testing.fake_lsf.supervise import now

Command = Callable[[Cluster, Control, Parsed], Answer]
_Act = Callable[[Job], tuple[bool, str]]


def bkill(cluster: Cluster, control: Control, parsed: Parsed) -> Answer:
    """Kill, or send one signal."""
    name = parsed.last("-s")
    number = signal.SIGKILL if name is None else _signal_number(name)
    if number is None:
        return Answer("", lines(texts.BAD_SIGNAL.format(value=name)), texts.STATUS_ANY_FAILED)

    def act(job: Job) -> tuple[bool, str]:
        if job.state in ENDED:
            return False, texts.ALREADY_FINISHED
        if "-r" in parsed.flags:
            control.remove(job)
            return True, texts.BEING_TERMINATED
        if number == signal.SIGKILL:
            if job.kill_stage is not None:
                return False, texts.IN_PROGRESS
            control.kill(job, "TERM_OWNER")
            return True, texts.BEING_TERMINATED
        if job.state in PENDING and number not in {signal.SIGSTOP, signal.SIGTSTP, signal.SIGCONT}:
            return False, texts.NOT_STARTED
        control.send(job, number)
        return True, texts.BEING_SIGNALED

    return _for_each(cluster, parsed, act)


def bstop(cluster: Cluster, control: Control, parsed: Parsed) -> Answer:
    """Suspend."""
    return _for_each(cluster, parsed, _unless_ended(lambda job: control.suspend(job, State.USUSP), texts.BEING_STOPPED))


def bresume(cluster: Cluster, control: Control, parsed: Parsed) -> Answer:
    """Let suspended jobs go on."""
    return _for_each(cluster, parsed, _unless_ended(control.resume, texts.BEING_RESUMED))


def brequeue(cluster: Cluster, control: Control, parsed: Parsed) -> Answer:
    """Kill and queue again under the same id; jobs that ended only with -d (DONE), -e (EXIT) or -a."""

    def act(job: Job) -> tuple[bool, str]:
        revived = {"-d": State.DONE, "-e": State.EXIT}
        if job.state in ENDED:
            if "-a" not in parsed.flags and not any(job.state is revived.get(flag) for flag in parsed.flags):
                return False, texts.CANNOT_REQUEUE
            control.requeue(job)
        elif job.state in PENDING:
            return False, texts.CANNOT_REQUEUE
        else:
            control.kill(job, "TERM_REQUEUE_OWNER", State.PEND)
        return True, texts.BEING_REQUEUED

    return _for_each(cluster, parsed, act)


def _unless_ended(do: Callable[[Job], None], text: str) -> _Act:
    def act(job: Job) -> tuple[bool, str]:
        if job.state in ENDED:
            return False, texts.ALREADY_FINISHED
        do(job)
        return True, text

    return act


def _for_each(cluster: Cluster, parsed: Parsed, act: _Act) -> Answer:
    """Act on each job that is named, and say for each what came of it."""
    stdout: list[str] = []
    stderr: list[str] = []
    if not parsed.words or parsed.words == ["0"]:
        found = _without_ids(cluster, parsed)
        if not found:
            return Answer("", lines(texts.NOTHING_TO_KILL), texts.STATUS_ANY_FAILED)
        targets = [(job.label, [job]) for job in found]
    else:
        targets = [(word, cluster.with_label(word)) for word in parsed.words]
    for label, jobs in targets:
        live = [job for job in jobs if job.is_live] or jobs[:1]
        if not live:
            stderr.append(texts.NO_MATCHING_JOB.format(job=label))
            continue
        results = [act(job) for job in live]
        succeeded = any(is_done for is_done, _ in results)
        text = next(text for is_done, text in results if is_done == succeeded).format(job=label)
        (stdout if succeeded else stderr).append(text)
    return Answer(lines(*stdout), lines(*stderr), texts.STATUS_ANY_FAILED if stderr else 0)


def _without_ids(cluster: Cluster, parsed: Parsed) -> list[Job]:
    """Return all jobs that `0` means; without it only the last one submitted, as LSF does."""
    pattern, queue = parsed.last("-J"), parsed.last("-q")
    found = [job for job in (cluster.live() if pattern is None else cluster.named(pattern)) if job.is_live]
    found = [job for job in found if queue is None or job.submission.queue == queue]
    return found if parsed.words == ["0"] else found[-1:]


def _signal_number(name: str) -> int | None:
    if name.isdigit():
        return int(name) if 0 < int(name) < signal.NSIG else None
    number = signal.Signals.__members__.get(f"SIG{name.upper().removeprefix('SIG')}")
    return None if number is None else int(number)


def bhist(cluster: Cluster, _control: Control, parsed: Parsed) -> Answer:
    """Tell the history of jobs, also of those that bjobs forgot."""
    found = _in_history(cluster, parsed)
    if not found:
        return Answer(lines(texts.NO_HISTORY), "", texts.STATUS_NO_HISTORY)
    if "-l" in parsed.flags:
        return Answer("\n".join(_history(cluster, job) for job in found))
    rows = [_times_row(cluster, job) for job in found]
    return Answer(lines(texts.BHIST_HEADER, texts.BHIST_COLUMNS, *rows))


def _in_history(cluster: Cluster, parsed: Parsed) -> list[Job]:
    if parsed.words:
        return [job for word in parsed.words for job in cluster.with_label(word, cleaned=True)]
    found = list(cluster.jobs.values())
    if (pattern := parsed.last("-J")) is not None:
        found = [job for job in cluster.named(pattern) if job in found]
    if "-a" in parsed.flags:
        return found
    return [job for job in found if job.is_live != ("-d" in parsed.flags)]


def _history(cluster: Cluster, job: Job) -> str:
    submission = job.submission
    head = display.wrapped(display.introduction(job) + f", Command <{submission.command}>")
    submitted = texts.EVENT_SUBMITTED.format(host=submission.from_host, queue=submission.queue, cwd=submission.cwd)
    events = [(job.submitted_at, submitted), *job.history]
    if reason := display.exit_reason(job):
        events.append((job.finished_at, texts.EVENT_COMPLETED_REASON.format(reason=reason)))
    told = [display.event_line(when, text) for when, text in events]
    stamp = datetime.now().astimezone().strftime(texts.TIME_EVENT)
    times = " ".join(f"{_times(cluster, job)[state]:<8.0f}" for state in _TIMED)
    columns = "  " + texts.BHIST_COLUMNS.partition("JOB_NAME")[2].strip()
    total = f"{sum(_times(cluster, job).values()):.0f}"
    return lines("", head, *told, "", f"Summary of time in seconds spent in various states by  {stamp}",
                 columns, f"  {times} {total}")  # fmt: skip


_TIMED = ("PEND", "PSUSP", "RUN", "USUSP", "SSUSP", "UNKWN")


def _times(cluster: Cluster, job: Job) -> Counter[str]:
    spent: Counter[str] = Counter()
    ends = [when for when, _ in job.spells[1:]] + [now()]
    for (since, state), until in zip(job.spells, ends, strict=True):
        if state in _TIMED:
            spent[state] += round((until - since) * cluster.config.speed)
    return spent


def _times_row(cluster: Cluster, job: Job) -> str:
    spent = _times(cluster, job)
    cells = [job.label, job.submission.user[:7], job.name[:9]]
    cells += [str(spent[state]) for state in _TIMED] + [str(sum(spent.values()))]
    return " ".join(f"{cell:<{width}}" for cell, width in zip(cells, (7, 7, 9, 7, 7, 7, 7, 7, 7, 7), strict=True))


def bacct(cluster: Cluster, _control: Control, parsed: Parsed) -> Answer:
    """Account for jobs that ended."""
    words = parsed.words
    found = [job for word in words for job in cluster.with_label(word, cleaned=True)] if words else list(
        cluster.jobs.values()
    )  # fmt: skip
    found = [job for job in found if job.state in ENDED]
    if words and not found:
        return Answer(lines(texts.NO_HISTORY), "", texts.STATUS_NO_HISTORY)
    told = [texts.BACCT_SUMMARY.format(user=login_name())]
    if "-l" in parsed.flags:
        told += [_history(cluster, job) for job in found]
    counted = Counter(job.state for job in found)
    return Answer(lines(*told, texts.BACCT_TOTALS.format(done=counted[State.DONE], exited=counted[State.EXIT])))


def bpeek(cluster: Cluster, _control: Control, parsed: Parsed) -> Answer:
    """Show what a running job wrote so far."""
    named = [job for word in parsed.words for job in cluster.with_label(word)] or cluster.live()[-1:]
    if not named:
        return Answer("", lines(texts.NO_UNFINISHED), texts.STATUS_ANY_FAILED)
    job = named[-1]
    try:
        with open(f"{job.run_directory}/out", encoding="utf-8", errors="replace") as stream:
            return Answer(texts.PEEK_STDOUT + stream.read())
    except OSError:
        return Answer("", lines(texts.NO_BPEEK.format(job=job.label)), texts.STATUS_ANY_FAILED)


def bhosts(cluster: Cluster, _control: Control, parsed: Parsed) -> Answer:
    """List hosts."""
    unknown = [name for name in parsed.words if name not in cluster.hosts]
    rows = [_host_row(cluster, name) for name in cluster.hosts if not parsed.words or name in parsed.words]
    stderr = lines(*(texts.NO_SUCH_HOST.format(host=name) for name in unknown))
    return Answer(lines(texts.BHOSTS_HEADER, *rows) if rows else "", stderr, texts.STATUS_ANY_FAILED if unknown else 0)


def _host_row(cluster: Cluster, name: str) -> str:
    slots = Counter(dict.fromkeys(State, 0))
    for job in cluster.live():
        if job.state is not State.WAIT:
            slots[job.state] += job.hosts.count(name)
    status = "ok"
    if name in cluster.system.lost_hosts:
        status = "unreach"
    elif name in cluster.system.closed_hosts:
        status = "closed_Adm"
    elif sum(slots.values()) >= cluster.hosts[name].slots:
        status = "closed_Full"
    return texts.BHOSTS_ROW.format(
        name=name, status=status, max=cluster.hosts[name].slots, njobs=sum(slots.values()),
        run=slots[State.RUN] + slots[State.UNKWN], ssusp=slots[State.SSUSP], ususp=slots[State.USUSP], rsv=0,
    )  # fmt: skip


def bqueues(cluster: Cluster, _control: Control, parsed: Parsed) -> Answer:
    """List queues, with -l in prose."""
    user = parsed.last("-u")
    unknown = [name for name in parsed.words if name not in cluster.queues]
    found = [
        queue
        for queue in sorted(cluster.queues.values(), key=lambda queue: -queue.priority)
        if (not parsed.words or queue.name in parsed.words) and (user is None or not queue.users or user in queue.users)
    ]
    stderr = lines(*(texts.NO_QUERY_QUEUE.format(queue=name) for name in unknown))
    status = texts.STATUS_ANY_FAILED if unknown else 0
    if "-l" in parsed.flags:
        return Answer("\n".join(_queue_prose(cluster, queue) for queue in found), stderr, status)
    rows = [texts.BQUEUES_ROW.format(**_queue_numbers(cluster, queue)) for queue in found]
    return Answer(lines(texts.BQUEUES_HEADER, *rows) if rows else "", stderr, status)


def _queue_numbers(cluster: Cluster, queue: Queue) -> dict[str, object]:
    counted = Counter(dict.fromkeys(State, 0))
    for job in cluster.live():
        if job.submission.queue == queue.name:
            counted[job.state] += job.submission.slots
    first = "Closed" if queue.name in cluster.system.closed_queues else "Open"
    second = "Inact" if queue.name in cluster.system.inactive_queues else "Active"
    return {
        "name": queue.name, "prio": queue.priority, "status": f"{first}:{second}", "njobs": sum(counted.values()),
        "pend": sum(counted[state] for state in PENDING), "run": counted[State.RUN] + counted[State.UNKWN],
        "susp": sum(counted[state] for state in SUSPENDED - PENDING), "ssusp": counted[State.SSUSP],
        "ususp": counted[State.USUSP],
    }  # fmt: skip


def _queue_prose(cluster: Cluster, queue: Queue) -> str:
    limits: list[str] = []
    if queue.run_limit_minutes is not None:
        limits += [" RUNLIMIT", f" {queue.run_limit_minutes:.1f} min"]
    if queue.memory_limit_mb is not None:
        limits += [" MEMLIMIT", f"    {queue.memory_limit_mb} M"]
    if queue.task_limit is not None:
        limits += [" TASKLIMIT", f" {queue.task_limit}"]
    extra = [f"CHUNK_JOB_SIZE:  {queue.chunk_size}"] if queue.chunk_size > 1 else []
    extra += ["RERUNNABLE :  yes"] if queue.rerunnable else []
    if queue.requeue_exit_values:
        extra.append(f"REQUEUE_EXIT_VALUES:  {' '.join(map(str, queue.requeue_exit_values))}")
    return texts.BQUEUES_LONG.format(
        **_queue_numbers(cluster, queue),
        limits=lines(*limits), users=" ".join(queue.users) or "all", hosts=" ".join(queue.hosts) or "all",
        extra=lines(*extra),
    )  # fmt: skip


def busers(cluster: Cluster, _control: Control, _parsed: Parsed) -> Answer:
    """Count the jobs of the one user there is."""
    counted = Counter(dict.fromkeys(State, 0))
    for job in cluster.live():
        counted[job.state] += job.submission.slots
    row = texts.BUSERS_ROW.format(
        name=login_name(), njobs=sum(counted.values()), pend=counted[State.PEND] + counted[State.PSUSP],
        run=counted[State.RUN] + counted[State.UNKWN], ssusp=counted[State.SSUSP], ususp=counted[State.USUSP],
    )  # fmt: skip
    return Answer(lines(texts.BUSERS_HEADER, row))


def bparams(cluster: Cluster, _control: Control, parsed: Parsed) -> Answer:
    """Show parameters of lsb.params."""
    params = cluster.config.params
    if "-a" in parsed.flags:
        return Answer(lines(*(f"{name.upper()} = {_shown(value)}" for name, value in asdict(params).items())))
    return Answer(
        lines(
            texts.BPARAMS.format(
                queue=params.default_queue, mbd=params.mbd_sleep_time, sbd=params.sbd_sleep_time,
                accept=params.job_accept_interval,
            )
        )
    )  # fmt: skip


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "Y" if value else "N"
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def badmin(cluster: Cluster, _control: Control, parsed: Parsed) -> Answer:
    """Show the configuration of mbatchd, open and close queues and hosts."""
    system = cluster.system
    switches: dict[str, tuple[list[str], bool, Iterable[str], str]] = {
        "qclose": (system.closed_queues, True, cluster.queues, "Queue <{}> is closed"),
        "qopen": (system.closed_queues, False, cluster.queues, "Queue <{}> is opened"),
        "qinact": (system.inactive_queues, True, cluster.queues, "Queue <{}> is inactivated"),
        "qact": (system.inactive_queues, False, cluster.queues, "Queue <{}> is activated"),
        "hclose": (system.closed_hosts, True, cluster.hosts, "Close <{}> ...... done"),
        "hopen": (system.closed_hosts, False, cluster.hosts, "Open <{}> ...... done"),
    }
    match parsed.words:
        case ["showconf", "mbd"] if not cluster.config.is_volclava:
            return _showconf(cluster, "MBD")
        case [verb, name] if verb in switches and name in switches[verb][2]:
            names, is_listed, _, text = switches[verb]
            switch(names, name, is_listed=is_listed)
            cluster.save_system()
            return Answer(lines(text.format(name)))
    raise options.UsageError(options.usage("badmin"))


def switch(names: list[str], name: str, *, is_listed: bool) -> None:
    """Put a name into a list, or take it out."""
    if is_listed and name not in names:
        names.append(name)
    if not is_listed and name in names:
        names.remove(name)


def lsadmin(cluster: Cluster, _control: Control, parsed: Parsed) -> Answer:
    """Show the configuration of lim."""
    if parsed.words == ["showconf", "lim"] and not cluster.config.is_volclava:
        return _showconf(cluster, "LIM")
    raise options.UsageError(options.usage("lsadmin"))


def _showconf(cluster: Cluster, daemon: str) -> Answer:
    params = cluster.config.params
    head = texts.SHOWCONF.format(daemon=daemon, ctime=datetime.now().astimezone().strftime(texts.TIME_CTIME))
    settings = {
        "LSB_SHAREDIR": cluster.path("work"),
        "LSF_ENVDIR": cluster.directory,
        "LSF_UNIT_FOR_LIMITS": params.lsf_unit_for_limits,
        "LSF_STRICT_RESREQ": "Y",
        "RESOURCE_RESERVE_PER_TASK": "Y" if params.resource_reserve_per_task else "N",
        "LSB_MAX_PACK_JOBS": str(params.lsb_max_pack_jobs),
    }
    return Answer(lines(head, *(f"        {name} = {value}" for name, value in settings.items() if value)))


def lsid(cluster: Cluster, _control: Control, _parsed: Parsed) -> Answer:
    """Tell product, cluster and master."""
    params = cluster.config.params
    product = texts.PRODUCT[cluster.config.dialect]
    return Answer(lines(texts.LSID.format(product=product, cluster=params.cluster_name, master=params.submit_host)))


def lsclusters(cluster: Cluster, _control: Control, _parsed: Parsed) -> Answer:
    """List the one cluster there is."""
    params = cluster.config.params
    row = texts.LSCLUSTERS_ROW.format(
        name=params.cluster_name, master=params.submit_host, admin="lsfadmin", hosts=len(cluster.hosts)
    )
    return Answer(lines(texts.LSCLUSTERS_HEADER, row))


COMMANDS: dict[str, Command] = {
    "bkill": bkill, "bstop": bstop, "bresume": bresume, "brequeue": brequeue, "bhist": bhist, "bacct": bacct,
    "bpeek": bpeek, "bhosts": bhosts, "bqueues": bqueues, "busers": busers, "bparams": bparams, "badmin": badmin,
    "lsadmin": lsadmin, "lsid": lsid, "lsclusters": lsclusters,
}  # fmt: skip
NAMES: Sequence[str] = ("bsub", "bjobs", *COMMANDS)
