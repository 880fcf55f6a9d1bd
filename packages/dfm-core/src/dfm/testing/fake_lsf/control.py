"""What happens to started jobs: signals, limits, suspension, lost hosts, and their ends.

Kill sequence (one slot): CONT and INT, then TERM, then KILL, JOB_TERMINATE_INTERVAL apart; bjobs shows RUN meanwhile.
Several slots: KILL at once. Run limit: USR2, and KILL ten minutes later. Memory limit: the kill sequence. CPU limit:
XCPU, then the kill sequence. What is due is kept in the job's record, so that a restarted mbatchd goes on with it.
"""

import json
import os
import signal

from dfm.testing.fake_lsf import processes, texts
from dfm.testing.fake_lsf.jobs import PENDING, STARTED, Job, State
from dfm.testing.fake_lsf.processes import Process
from dfm.testing.fake_lsf.state import Cluster
from dfm.testing.fake_lsf.supervise import now, write_whole

KILL_SEQUENCE = ((signal.SIGCONT, signal.SIGINT), (signal.SIGTERM,), (signal.SIGKILL,))
KILL_ONLY = ((signal.SIGKILL,),)


class Control:
    """Acts on started jobs of a cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._next_limits = 0.0

    # What commands and `ctl` ask for.

    def kill(self, job: Job, reason: str, after: State = State.EXIT) -> None:
        """Begin the kill sequence, or end a pending job at once."""
        if job.state in PENDING or job.state is State.WAIT:
            self._end_without_process(job, reason, after)
            return
        if job.kill_stage is not None:
            return
        job.kill_stage, job.next_signal_at, job.after_kill, job.reason = 0, now(), after, reason
        self._advance_kill(job)
        self._cluster.changed(job)

    def remove(self, job: Job) -> None:
        """`bkill -r`: forget about the job without a look at its processes, which go on."""
        if job.state in PENDING or job.state is State.WAIT:
            self._end_without_process(job, "TERM_FORCE_OWNER", State.EXIT)
            return
        if job.state is State.UNKWN and not self._cluster.config.is_volclava:
            job.enter(State.ZOMBI, now())
            self._cluster.changed(job)
            return
        self._abandon(job)
        self._cluster.note(job, texts.EVENT_FORCED)
        self._set_ended(job, State.EXIT, "TERM_FORCE_OWNER")

    def make_zombie(self, job: Job) -> None:
        """Let the job be ZOMBI, its processes going on."""
        job.is_unreachable = True
        job.enter(State.ZOMBI, now())
        self._cluster.changed(job)

    def send(self, job: Job, number: int) -> None:
        """Send one signal to the whole job."""
        if number in {signal.SIGSTOP, signal.SIGTSTP}:
            self.suspend(job, State.USUSP)
        elif number == signal.SIGCONT:
            self.resume(job)
        else:
            self._signal(job, number)

    def suspend(self, job: Job, state: State) -> None:
        """Hold a pending job, or stop a running one: STOP for one slot, TSTP for several."""
        at = now()
        if job.state is State.PEND:
            job.pend_reason = "held"
            job.enter(State.PSUSP, at)
        elif job.state is State.RUN:
            job.suspended_at = at
            job.enter(state, at)
            self._signal(job, signal.SIGSTOP if len(job.hosts) == 1 else signal.SIGTSTP)
            self._cluster.note(job, texts.EVENT_SUSPENDED.format(reason=suspend_reason(job)))
        self._cluster.changed(job)

    def resume(self, job: Job) -> None:
        """Let a suspended job go on."""
        at = now()
        if job.state is State.PSUSP:
            job.pend_reason = "new"
            job.enter(State.PEND, at)
        elif job.state in {State.USUSP, State.SSUSP}:
            self._signal(job, signal.SIGCONT)
            job.suspended_seconds += at - job.suspended_at
            job.enter(State.RUN, at)
            self._cluster.note(job, texts.EVENT_RUNNING_AGAIN)
        self._cluster.changed(job)

    def lose_contact(self, job: Job) -> None:
        """UNKWN: nothing is heard of the job, and it hears nothing."""
        job.is_unreachable = True
        job.enter(State.UNKWN, now())
        self._cluster.note(job, texts.EVENT_UNKNOWN)
        self._cluster.changed(job)

    def regain_contact(self, job: Job) -> None:
        """The host answers again: an UNKWN job is what it was, a ZOMBI one is over."""
        job.is_unreachable = False
        if job.state is State.ZOMBI:
            self._abandon(job)
            self._set_ended(job, State.EXIT, "TERM_ZOMBIE")
        elif job.state is State.UNKWN:
            job.enter(State.RUN, now())
            self._cluster.note(job, texts.EVENT_RUNNING_AGAIN)
            self._cluster.changed(job)

    def lose_host(self, host: str, *, twin: bool, dies: bool) -> None:
        """Contact to a host is lost; rerunnable jobs start anew, with or without the old processes staying alive.

        Args:
            host: its name.
            twin: whether the processes of rerunnable jobs go on.
            dies: whether the processes of all jobs end with the host.
        """
        self._cluster.system.lost_hosts.append(host)
        self._cluster.save_system()
        for job in [job for job in self._cluster.live() if host in job.hosts]:
            if job.state is State.WAIT:
                self.requeue(job)
            elif job.submission.is_rerunnable and job.state in STARTED:
                if twin and not dies:
                    self._abandon(job)
                else:
                    processes.kill_session(job.pid or self._read_pid(job))
                self.requeue(job)
            elif job.state in STARTED:
                if dies:
                    processes.kill_session(job.pid or self._read_pid(job))
                self.lose_contact(job)

    def recover_host(self, host: str) -> None:
        """Contact to a host is back."""
        if host in self._cluster.system.lost_hosts:
            self._cluster.system.lost_hosts.remove(host)
            self._cluster.save_system()
        for job in [job for job in self._cluster.live() if host in job.hosts and job.is_unreachable]:
            self.regain_contact(job)

    def requeue(self, job: Job) -> None:
        """Back to PEND under the same id."""
        at = now()
        job.hosts, job.pid, job.supervisor, job.started_at, job.finished_at = [], 0, 0, 0, 0
        job.kill_stage, job.reason, job.is_unreachable, job.warned = None, "", False, False
        job.limit_signaled_at = job.suspended_at = job.suspended_seconds = 0
        job.exit_code = job.exit_signal = None
        job.waits_for = []
        job.pend_reason = "requeued"
        job.enter(State.PEND, at)
        self._cluster.note(job, texts.EVENT_PENDING.format(reason=texts.PEND_REASONS["requeued"]))
        self._cluster.changed(job)

    # What time brings.

    def look(self) -> None:
        """See what became of started jobs, go on with kill sequences, and now and then look at limits."""
        at = now()
        looks_at_limits = at >= self._next_limits
        if looks_at_limits:
            self._next_limits = at + self._cluster.config.seconds(self._cluster.config.params.sbd_sleep_time)
        for job in self._cluster.live():
            if job.state in STARTED and not job.is_unreachable:
                self._look_at(job, at, looks_at_limits=looks_at_limits)

    def _look_at(self, job: Job, at: float, *, looks_at_limits: bool) -> None:
        if job.pid == 0:
            job.pid = self._read_pid(job)
            if job.pid:
                self._cluster.note(job, texts.EVENT_STARTING.format(pid=job.pid))
                self._cluster.changed(job)
        if self._collect(job):
            return
        if job.kill_stage is not None and at >= job.next_signal_at:
            self._advance_kill(job)
        if looks_at_limits and job.state is State.RUN and job.pid:
            self._look_at_limits(job, at)

    def _read_pid(self, job: Job) -> int:
        try:
            with open(f"{job.run_directory}/pid", encoding="utf-8") as stream:
                return int(stream.read())
        except FileNotFoundError:
            return 0

    def _collect(self, job: Job) -> bool:
        """Take in the end of a job, if it has come."""
        is_gone = not processes.is_alive(job.supervisor)
        try:
            with open(f"{job.run_directory}/end", encoding="utf-8") as stream:
                end = json.load(stream)
        except FileNotFoundError:
            if not is_gone:
                return False
            end = {"code": None, "signal": signal.SIGKILL, "cpu": 0, "memory_mb": 0, "finished": now(), "reason": ""}
        job.exit_code, job.exit_signal = end["code"], end["signal"]
        job.cpu_seconds, job.memory_mb = end["cpu"], end["memory_mb"]
        reason = job.reason or end["reason"]
        values = self._cluster.queues[job.submission.queue].requeue_exit_values
        if (job.kill_stage is not None and job.after_kill is State.PEND) or job.exit_code in values:
            self.requeue(job)
            return True
        self._note_end(job)
        self._set_ended(job, State.DONE if job.exit_code == 0 else State.EXIT, reason, at=end["finished"])
        return True

    def _note_end(self, job: Job) -> None:
        if job.exit_signal is not None:
            text = texts.EVENT_EXIT_SIGNAL.format(signal=job.exit_signal, cpu=job.cpu_seconds)
        elif job.exit_code:
            text = texts.EVENT_EXIT_CODE.format(code=job.exit_code, cpu=job.cpu_seconds)
        else:
            text = texts.EVENT_DONE.format(cpu=job.cpu_seconds)
        self._cluster.note(job, text)

    def _end_without_process(self, job: Job, reason: str, after: State) -> None:
        if after is State.PEND:
            self.requeue(job)
            return
        self._cluster.note(job, texts.EVENT_EXITED)
        self._set_ended(job, State.EXIT, reason)

    def _set_ended(self, job: Job, state: State, reason: str, *, at: float | None = None) -> None:
        job.finished_at = at if at is not None else now()
        job.kill_stage, job.is_unreachable = None, False
        job.reason = reason if state is State.EXIT else ""
        job.enter(state, job.finished_at)
        self._cluster.changed(job)

    def _abandon(self, job: Job) -> None:
        pid = job.pid or self._read_pid(job)
        if pid:
            job.abandoned_pids.append(pid)

    def _advance_kill(self, job: Job) -> None:
        if job.is_unreachable or job.kill_stage is None:
            return
        pid = job.pid or self._read_pid(job)
        if pid == 0:
            return
        steps = self._kill_steps(job)
        stage = min(job.kill_stage, len(steps) - 1)
        if stage == 0:
            write_whole(f"{job.run_directory}/reason", job.reason)
        for number in steps[stage]:
            self._signal(job, number)
        if job.state in {State.USUSP, State.SSUSP}:
            job.enter(State.RUN, now())
        job.kill_stage = stage + 1
        job.next_signal_at = now() + self._cluster.config.seconds(self._cluster.config.params.job_terminate_interval)
        self._cluster.note(job, texts.EVENT_SIGNAL.format(signal=steps[stage][-1].name[3:], user=job.submission.user))
        self._cluster.changed(job)

    def _kill_steps(self, job: Job) -> tuple[tuple[signal.Signals, ...], ...]:
        control = self._cluster.queues[job.submission.queue].terminate_control
        if control:
            return ((signal.Signals[f"SIG{control.removeprefix('SIG')}"],),)
        if len(job.hosts) > 1 and not self._cluster.config.params.lsb_use_sequential_signal:
            return KILL_ONLY
        return KILL_SEQUENCE

    def _signal(self, job: Job, number: int) -> None:
        if not job.is_unreachable:
            processes.send(self._members(job), number)

    def _members(self, job: Job) -> list[Process]:
        if self._cluster.config.params.signal_escapees:
            start = os.path.basename(job.run_directory)
            return processes.with_descendants(processes.marked(self._cluster.directory).get(start, []))
        pid = job.pid or self._read_pid(job)
        return processes.of_session(pid) if pid else []

    def _look_at_limits(self, job: Job, at: float) -> None:
        submission, config = job.submission, self._cluster.config
        elapsed = (at - job.started_at - job.suspended_seconds) * config.speed
        limit = submission.run_limit_seconds
        if limit is not None:
            self._look_at_run_limit(job, at, elapsed, limit)
        if submission.memory_limit_mb is None and submission.cpu_limit_seconds is None:
            return
        members = self._members(job)
        resident_mb = sum(each.resident_bytes for each in members) / 1024 / 1024
        if submission.memory_limit_mb is not None and resident_mb > submission.memory_limit_mb:
            self.kill(job, "TERM_MEMLIMIT")
        cpu = sum(each.cpu_seconds for each in members) * config.speed
        if submission.cpu_limit_seconds is not None and cpu > submission.cpu_limit_seconds and job.kill_stage is None:
            self._signal(job, signal.SIGXCPU)
            self.kill(job, "TERM_CPULIMIT")

    def _look_at_run_limit(self, job: Job, at: float, elapsed: float, limit: float) -> None:
        submission, config = job.submission, self._cluster.config
        if submission.warning_signal and not job.warned and elapsed >= limit - submission.warning_seconds:
            job.warned = True
            self._signal(job, signal.Signals[submission.warning_signal])
            self._cluster.changed(job)
        if elapsed < limit or job.kill_stage is not None:
            return
        if not job.limit_signaled_at:
            job.limit_signaled_at, job.reason = at, "TERM_RUNLIMIT"
            write_whole(f"{job.run_directory}/reason", job.reason)
            self._cluster.note(job, texts.EVENT_SIGNAL.format(signal="USR2", user="LSF"))
            self._signal(job, signal.SIGUSR2)
            self._cluster.changed(job)
        elif at >= job.limit_signaled_at + config.seconds(config.params.run_limit_grace):
            self._signal(job, signal.SIGKILL)


def suspend_reason(job: Job) -> str:
    """Return why the job is suspended, in LSF's words."""
    return texts.SUSPEND_REASONS["system" if job.state is State.SSUSP else "user"]
