"""Where a cluster keeps what, and its slurm.conf. Pure: text from names and numbers.

Sockets lie in a short directory of their own: a Unix socket's path has at most 107 bytes, a test's directory often
more.

Source: slurm.conf(5) of SLURM 22.05 and 24.11, cgroup.conf(5) of 24.11.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass

CGROUP_CONF = "CgroupPlugin=disabled\n"
CGROUP_CONF_SINCE = (23, 2)
"""Daemons from there on want control groups even where nothing uses them; older ones do not know how to do without."""
ACCOUNTS_NEED_ACCOUNTING_SINCE = (23, 2)
"""Controllers from there on look AllowAccounts up in the accounting, and pass over it where there is none."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The files of one cluster.

    Attributes:
        directory: configuration, logs and the controller's state.
        run: the short directory of sockets and spools.
    """

    directory: str
    run: str

    @property
    def slurm_conf(self) -> str:
        return os.path.join(self.directory, "slurm.conf")

    @property
    def cgroup_conf(self) -> str:
        return os.path.join(self.directory, "cgroup.conf")

    @property
    def logs(self) -> str:
        return os.path.join(self.directory, "log")

    @property
    def state(self) -> str:
        return os.path.join(self.directory, "state")

    @property
    def pids(self) -> str:
        return os.path.join(self.directory, "pid")

    @property
    def spool(self) -> str:
        return os.path.join(self.run, "spool")

    @property
    def munge_key(self) -> str:
        return os.path.join(self.run, "key", "munge.key")

    @property
    def munge_socket(self) -> str:
        return os.path.join(self.run, "munge.socket")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What the cluster is made of, and how patient it is.

    Attributes:
        kill_wait_seconds: between SIGTERM and SIGKILL.
        min_job_age_seconds: how long the controller remembers a job that has ended.
        node_timeout_seconds: silence after which a node is given up.
        message_timeout_seconds: how long commands and daemons wait for an answer; a node is given up some of these
            after its time-out.
        enforces_limits: requests beyond a partition's limits are rejected; otherwise they wait for ever.
    """

    nodes: int = 4
    cores: int = 8
    memory_mib: int = 16000
    kill_wait_seconds: int = 5
    min_job_age_seconds: int = 30
    node_timeout_seconds: int = 30
    message_timeout_seconds: int = 10
    enforces_limits: bool = False

    @property
    def node_names(self) -> tuple[str, ...]:
        return tuple(f"n{number}" for number in range(1, self.nodes + 1))


def slurm_conf(layout: Layout, shape: Shape, *, user: str, hostname: str, ports: Sequence[int]) -> str:
    """Return the text of slurm.conf.

    Args:
        layout: where its files are.
        shape: its nodes and timers.
        user: who runs the daemons.
        hostname: short name of this machine.
        ports: of the controller, then of each node.
    """
    controller, *node_ports = ports
    nodes = "\n".join(
        f"NodeName={name} NodeHostname={hostname} NodeAddr=127.0.0.1 Port={port}"
        f" CPUs={shape.cores} RealMemory={shape.memory_mib} Feature={_features(name, shape)}"
        for name, port in zip(shape.node_names, node_ports, strict=True)
    )
    every_node = ",".join(shape.node_names)
    return f"""\
ClusterName=dfm
SlurmctldHost={hostname}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={layout.munge_socket}
StateSaveLocation={layout.state}
SlurmdSpoolDir={layout.spool}/%n
SlurmctldPidFile={layout.run}/slurmctld.pid
SlurmdPidFile={layout.run}/slurmd-%n.pid
SlurmctldLogFile={layout.logs}/slurmctld.log
SlurmdLogFile={layout.logs}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
EnforcePartLimits={"ALL" if shape.enforces_limits else "NO"}
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
Licenses=vcs:2
ReturnToService=2
KillWait={shape.kill_wait_seconds}
MinJobAge={shape.min_job_age_seconds}
SlurmdTimeout={shape.node_timeout_seconds}
MessageTimeout={shape.message_timeout_seconds}
SlurmctldTimeout=30
InactiveLimit=0
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,sched_min_interval=0,batch_sched_delay=0,bf_interval=1
{nodes}
PartitionName=normal Nodes={every_node} Default=YES MaxTime=1-00:00:00 State=UP PriorityTier=5 PreemptMode=OFF
PartitionName=regr_high Nodes={every_node} MaxTime=00:30:00 State=UP PriorityTier=5 PreemptMode=OFF
PartitionName=preemptible Nodes={every_node} MaxTime=1-00:00:00 State=UP PriorityTier=1 PreemptMode=REQUEUE
PartitionName=urgent Nodes={every_node} MaxTime=1-00:00:00 State=UP PriorityTier=10 PreemptMode=OFF
PartitionName=small Nodes={every_node} MaxTime=1-00:00:00 State=UP PriorityTier=5 PreemptMode=OFF MaxMemPerNode=1000
PartitionName=charged Nodes={every_node} MaxTime=1-00:00:00 State=UP PriorityTier=5 PreemptMode=OFF AllowAccounts=chips
"""


def _features(node: str, shape: Shape) -> str:
    return "rhel8,bigmem" if node == shape.node_names[-1] else "rhel8"
