"""The cluster: how it starts and stops, and what can be done to it while it runs."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from dfm.api.errors import InfrastructureError
from dfm.testing.slurm_cluster.daemon import Daemon
from dfm.testing.slurm_cluster.layout import (
    ACCOUNTS_NEED_ACCOUNTING_SINCE,
    CGROUP_CONF,
    CGROUP_CONF_SINCE,
    Layout,
    Shape,
    slurm_conf,
)
from dfm.testing.slurm_cluster.leftovers import end_leftovers
from dfm.testing.slurm_cluster.ports import HeldPorts

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol", "sinfo")
START_SECONDS = 60.0
COMMAND_SECONDS = 60.0
POLL_SECONDS = 0.1
_SYSTEM_PATH = "/usr/sbin:/sbin:/usr/local/sbin"
_JOB_FORMAT = "%i|%j|%T|%r|%N|%k|%P|%C"
_PREEMPTIBLE = "preemptible"
_LIVE = ("PENDING", "CONFIGURING", "RUNNING", "SUSPENDED", "COMPLETING")


def missing_programs() -> tuple[str, ...]:
    """Return which of the programs that a cluster needs are not installed."""
    return tuple(program for program in PROGRAMS if _found(program) is None)


def slurm_version() -> tuple[int, int]:
    """Return year and month of the installed SLURM: (22, 5)."""
    told = subprocess.run([_program("slurmd"), "-V"], capture_output=True, text=True, check=True).stdout
    year, month, *_ = told.split()[-1].split(".")
    return int(year), int(month)


@dataclass(frozen=True, slots=True)
class ClusterJob:
    """A job as `squeue` lists it, ended ones too until the controller forgets them."""

    id: str
    name: str
    state: str
    reason: str
    node: str
    comment: str
    partition: str
    cores: str

    @property
    def is_live(self) -> bool:
        """Whether it waits or runs; a job that is being cleaned up after its end is counted in."""
        return self.state in _LIVE


class SlurmCluster:
    """A SLURM cluster of this machine. Use it as a context manager, or `start` and `stop` it.

    Partitions: `normal` (the default, a day), `regr_high` (30 minutes), `preemptible` (its jobs are requeued for jobs
    of `urgent`), `urgent`, `small` (1000 MiB for a job), `charged` (which allows an account that nobody has, see
    `checks_accounts`). Nodes `n1` to `n4` of 8 cores and 16000 MiB, whatever the machine has; the last has the feature
    `bigmem`, all have `rhel8`. Licences `vcs:2`. No accounting.

    Args:
        directory: for configuration, state and logs; made where it is missing, and kept for a person to read.
        shape: numbers and patience.
    """

    def __init__(self, directory: str | os.PathLike[str], shape: Shape | None = None) -> None:
        self.directory = os.path.abspath(directory)
        self.shape = shape or Shape()
        self._ports: HeldPorts | None = None
        self._layout: Layout | None = None
        self._daemons: dict[str, Daemon] = {}

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def layout(self) -> Layout:
        """Where its files are; also of a cluster that another process started."""
        if self._layout is None:
            try:
                with open(os.path.join(self.directory, "run"), encoding="utf-8") as file:
                    self._layout = Layout(self.directory, file.read().strip())
            except FileNotFoundError:
                raise InfrastructureError(f"no cluster was started in {self.directory!r}") from None
        return self._layout

    @property
    def environ(self) -> Mapping[str, str]:
        """The variables that make SLURM's commands speak to this cluster; to be added to an environment."""
        return {"SLURM_CONF": self.layout.slurm_conf}

    @property
    def checks_accounts(self) -> bool:
        """Whether `charged` refuses whom it does not allow; SLURM since 23.02 does not where there is no accounting."""
        return slurm_version() < ACCOUNTS_NEED_ACCOUNTING_SINCE

    @property
    def is_running(self) -> bool:
        return os.path.exists(os.path.join(self.directory, "run")) and self._daemon("slurmctld").pid is not None

    def start(self) -> None:
        """Start everything and wait until each node is idle.

        Raises:
            InfrastructureError: a program is missing, or the cluster does not come up; with the daemons' words.
        """
        if missing := missing_programs():
            raise InfrastructureError(
                f"no SLURM on this machine: {', '.join(missing)} not found",
                hint="on Debian and Ubuntu: apt-get install slurm-wlm munge",
            )
        if self.is_running:
            raise InfrastructureError(f"a cluster runs in {self.directory!r} already")
        self._make_files()
        self._start_munged()
        self._start_controller(clear_state=True)
        for name in self.shape.node_names:
            self.start_node(name)
        self.wait_until(self._are_all_idle, "its nodes are not idle")

    def stop(self) -> None:
        """End all jobs and daemons, and remove sockets and spools; logs and configuration stay."""
        if not os.path.exists(os.path.join(self.directory, "run")):
            self._let_go_of_ports()
            return
        for name in (*self.shape.node_names, "slurmctld", "munged"):
            self._daemon(name).stop()
        end_leftovers(self.layout.slurm_conf, self.layout.logs, self.layout.run)
        shutil.rmtree(self.layout.run, ignore_errors=True)
        os.unlink(os.path.join(self.directory, "run"))
        self._let_go_of_ports()

    def run(self, *argv: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command of SLURM on this cluster; its status is the caller's to judge."""
        return subprocess.run(
            argv,
            input=stdin if stdin is not None else "",
            env=self._daemon_environ(),
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )

    def submit(self, script: str, *options: str) -> str:
        """Submit a script that begins with `#!`; return the job's id."""
        return self._done("sbatch", "--parsable", "--output=/dev/null", *options, stdin=script).strip()

    def jobs(self, *, name_prefix: str = "") -> list[ClusterJob]:
        """Return all jobs that the controller remembers, ended ones too, whose names begin so."""
        lines = self._done("squeue", "-h", "-t", "all", "-o", _JOB_FORMAT).splitlines()
        jobs = [ClusterJob(*line.split("|")) for line in lines]
        return [job for job in jobs if job.name.startswith(name_prefix)]

    def job(self, identifier: str) -> ClusterJob | None:
        """Return one job; None where the controller does not know it."""
        return next((job for job in self.jobs() if job.id == identifier), None)

    def wait_until(self, condition: Callable[[], bool], complaint: str, seconds: float = START_SECONDS) -> None:
        """Ask again and again until it is so.

        Raises:
            InfrastructureError: it is not so in time; the message is the complaint and the daemons' words.
        """
        deadline = time.monotonic() + seconds
        pause = threading.Event()
        while not condition():
            if time.monotonic() > deadline:
                raise InfrastructureError(f"{complaint} after {seconds:g} s\n{self._words()}")
            pause.wait(POLL_SECONDS)

    def wait_for_state(self, identifier: str, *states: str, seconds: float = START_SECONDS) -> ClusterJob:
        """Wait until a job is in one of the states; return it."""
        found: list[ClusterJob] = []

        def is_there() -> bool:
            job = self.job(identifier)
            found[:] = [job] if job is not None and job.state in states else []
            return bool(found)

        self.wait_until(is_there, f"job {identifier} is not {' or '.join(states)}", seconds)
        return found[0]

    def stop_controller(self) -> None:
        """Stop slurmctld; jobs run on, commands fail."""
        self._daemon("slurmctld").stop()

    def kill_controller(self) -> None:
        """Kill slurmctld; it forgets what it has not yet written down, such as that a job has started."""
        self._daemon("slurmctld").stop(signal.SIGKILL)

    def start_controller(self) -> None:
        """Start slurmctld where it left off, and wait until it answers."""
        self._start_controller(clear_state=False)
        self.wait_until(self._answers, "slurmctld does not answer")

    def freeze_controller(self) -> None:
        """Let slurmctld hear and not answer: what is asked of it may or may not happen later."""
        self._signal_controller(signal.SIGSTOP)

    def thaw_controller(self) -> None:
        """Let a frozen slurmctld go on."""
        self._signal_controller(signal.SIGCONT)

    def kill_node(self, name: str) -> None:
        """Kill the slurmd of a node; the node's jobs run on, and SLURM misses it after `node_timeout_seconds`."""
        self._daemon(name).stop(signal.SIGKILL)

    def start_node(self, name: str) -> None:
        """Start the slurmd of a node."""
        argv = (_program("slurmd"), "-D", "-N", name, "-f", self.layout.slurm_conf)
        self._daemon(name).start(argv, self._daemon_environ())

    def drain(self, name: str) -> None:
        """Let a node take no new jobs."""
        self._done("scontrol", "update", f"NodeName={name}", "State=DRAIN", "Reason=test")

    def resume_node(self, name: str) -> None:
        """Let a node take jobs again."""
        self._done("scontrol", "update", f"NodeName={name}", "State=RESUME")

    def set_partition(self, name: str, state: str) -> None:
        """Open a partition (`UP`), or close it: `DOWN`, `DRAIN`, `INACTIVE` (scontrol(1))."""
        self._done("scontrol", "update", f"PartitionName={name}", f"State={state}")

    def cancel(self, *identifiers: str) -> None:
        """End jobs as their owner would."""
        self._done("scancel", *identifiers)

    def requeue(self, identifier: str) -> None:
        """Put a running job back into its queue, under the same id."""
        self._done("scontrol", "requeue", identifier)

    def start_now(self, identifier: str) -> None:
        """Let a requeued job start without the two minutes that SLURM would wait.

        Not in the second in which it was taken from its node: the node would refuse it as the one that was killed.
        """
        self._done("scontrol", "update", f"JobId={identifier}", "StartTime=now+2seconds")

    def end_time(self, identifier: str, seconds: int) -> None:
        """Let a running job's time be up in so many seconds; SLURM looks at limits, and warns, every 30 s."""
        self._done("scontrol", "update", f"JobId={identifier}", f"EndTime=now+{seconds}seconds")

    def suspend(self, identifier: str) -> None:
        """Stop a job's processes for a while."""
        self._done("scontrol", "suspend", identifier)

    def resume(self, identifier: str) -> None:
        """Let a suspended job go on."""
        self._done("scontrol", "resume", identifier)

    def hold(self, identifier: str) -> None:
        """Keep a pending job from starting."""
        self._done("scontrol", "hold", identifier)

    def release(self, identifier: str) -> None:
        """Let a held job start."""
        self._done("scontrol", "release", identifier)

    def preempt(self, identifier: str) -> str:
        """Let an urgent job take all cores that jobs of `preemptible` have on this job's node; return its id."""
        node = self.wait_for_state(identifier, "RUNNING").node
        firm = sum(int(job.cores) for job in self.jobs() if job.node == node and _is_firm(job))
        options = ("-J", "urgent", "-p", "urgent", "-w", node, "-c", str(self.shape.cores - firm), "--mem=1M")
        return self.submit("#!/bin/sh\nexec sleep 3600\n", *options)

    def _make_files(self) -> None:
        os.makedirs(self.directory, exist_ok=True)
        # Every user must be able to pass to munged's socket, or munged refuses to make it.
        run = tempfile.mkdtemp(prefix="dfm-slurm-", dir="/tmp")
        os.chmod(run, 0o711)  # noqa: S103  (see above)
        self._layout = Layout(self.directory, run)
        with open(os.path.join(self.directory, "run"), "w", encoding="utf-8") as file:
            file.write(f"{run}\n")
        for directory in (self._layout.logs, self._layout.state, self._layout.pids, self._layout.spool):
            os.makedirs(directory, exist_ok=True)
        for name in self.shape.node_names:
            os.mkdir(os.path.join(self._layout.spool, name))
        os.mkdir(os.path.dirname(self._layout.munge_key), 0o700)
        with open(os.open(self._layout.munge_key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as key:
            key.write(os.urandom(128))
        self._ports = HeldPorts(1 + self.shape.nodes)
        text = slurm_conf(
            self._layout,
            self.shape,
            user=pwd.getpwuid(os.getuid()).pw_name,
            hostname=socket.gethostname().partition(".")[0],
            ports=self._ports.numbers,
        )
        with open(self._layout.slurm_conf, "w", encoding="utf-8") as file:
            file.write(text)
        if slurm_version() >= CGROUP_CONF_SINCE:
            with open(self._layout.cgroup_conf, "w", encoding="utf-8") as file:
                file.write(CGROUP_CONF)

    def _start_munged(self) -> None:
        layout = self.layout
        argv = (
            _program("munged"),
            "--foreground",
            f"--key-file={layout.munge_key}",
            f"--socket={layout.munge_socket}",
            f"--pid-file={layout.run}/munged.pid",
            f"--log-file={layout.run}/munged.log",
            f"--seed-file={layout.run}/key/seed",
        )
        self._daemon("munged").start(argv, self._daemon_environ())
        self.wait_until(lambda: os.path.exists(layout.munge_socket), "munged has not made its socket", 20.0)

    def _start_controller(self, *, clear_state: bool) -> None:
        argv = [_program("slurmctld"), "-D", "-f", self.layout.slurm_conf]
        self._daemon("slurmctld").start([*argv, "-c"] if clear_state else argv, self._daemon_environ())

    def _signal_controller(self, number: signal.Signals) -> None:
        pid = self._daemon("slurmctld").pid
        assert pid is not None, "slurmctld does not run"
        os.kill(pid, number)

    def _daemon(self, name: str) -> Daemon:
        if name not in self._daemons:
            self._daemons[name] = Daemon(name, pids=self.layout.pids, logs=self.layout.logs)
        return self._daemons[name]

    def _daemon_environ(self) -> dict[str, str]:
        foreign = ("SLURM_", "SBATCH_", "SRUN_", "SQUEUE_", "SCANCEL_", "SINFO_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        path = f"{kept.get('PATH', os.defpath)}:{_SYSTEM_PATH}"
        return {**kept, **self.environ, "PATH": path, "LC_ALL": "C"}

    def _are_all_idle(self) -> bool:
        for name in ("slurmctld", *self.shape.node_names):
            if self._daemon(name).pid is None:
                raise InfrastructureError(f"{name} ended\n{self._words()}")
        states = self.run("sinfo", "-h", "-N", "-p", "normal", "-o", "%T").stdout.split()
        return states == ["idle"] * self.shape.nodes

    def _answers(self) -> bool:
        return self.run("squeue", "-h").returncode == 0

    def _done(self, *argv: str, stdin: str | None = None) -> str:
        answer = self.run(*argv, stdin=stdin)
        if answer.returncode != 0:
            raise InfrastructureError(f"{' '.join(argv)}: status {answer.returncode}: {answer.stderr.strip()}")
        return answer.stdout

    def _words(self) -> str:
        names = ("munged", "slurmctld", *self.shape.node_names)
        tails = {name: self._daemon(name).tail() for name in names}
        return "\n".join(f"--- {name}\n{tail}" for name, tail in tails.items() if tail)

    def _let_go_of_ports(self) -> None:
        if self._ports is not None:
            self._ports.close()
            self._ports = None


def _is_firm(job: ClusterJob) -> bool:
    return job.state in ("RUNNING", "SUSPENDED") and job.partition != _PREEMPTIBLE


def _found(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:{_SYSTEM_PATH}")


def _program(program: str) -> str:
    found = _found(program)
    assert found is not None, program
    return found
