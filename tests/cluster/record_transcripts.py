"""Record what a real SLURM answers: `python tests/cluster/record_transcripts.py`, into tests/data/slurm/<its version>.

The commands are written out here, not taken from the dialect, so that the two are held against each other. Names of this
machine and its directories are replaced.

`... record_transcripts.py DIRECTORY` records what takes accounting, from a cluster that was brought up in that directory
with `python -m dfm.testing.slurm_cluster up --directory DIRECTORY` and then given by hand a slurmdbd over mariadb
(`AccountingStorageType=accounting_storage/slurmdbd`, `AccountingStoragePass=` the cluster's own munge socket,
`AccountingStorageEnforce=associations,limits,qos`, and `state/clustername` removed before the controller starts anew),
accounts `chips`, the default, and `other`, and a QOS `tight` with `MaxSubmitJobsPerUser=1 MaxWall=10
MaxTRESPerJob=cpu=2 Flags=DenyOnLimit`, `loose` with the same limits but the first.
"""

import os
import re
import socket
import sys
import tempfile
from pathlib import Path

import yaml

from dfm.testing.slurm_cluster import Shape, SlurmCluster, slurm_version

TRANSCRIPTS = Path(__file__).parent.parent / "data" / "slurm"
SLEEPER = "#!/bin/sh\nexec sleep 600\n"
SBATCH = ("sbatch", "--parsable", "--output=/dev/null", "--mem=10M")
UNWRITABLE = "/dev/null/log"
"""No user can write there, nor make its directory, which SLURM 23.02 and later do where they can."""
FULL = "JobArrayID:|,Name:|,State:|,Reason:|,NodeList:|,Comment:|,exit_code:|,RestartCnt:|"
PLAIN = "%i|%j|%T|%r|%N|%k"
FIELDS = "JobID,JobName,State,ExitCode,NodeList,Reason,UID"
REJECTED = {
    "partition": ("--partition=nosuch",),
    "time": ("--time=1h",),
    "memory": ("--mem=1.5G",),
    "cores": ("--cpus-per-task=9",),
    "memory-beyond-nodes": ("--mem=999999M",),
    "constraint": ("--constraint=nosuch",),
    "gres": ("--gres=gpu:1",),
    "licenses": ("--licenses=vcs:3",),
    "reservation": ("--reservation=nosuch",),
    "exclude": ("--exclude=nosuch",),
    "option": ("--bogus",),
    "cluster": ("--clusters=nosuch",),
}


class _Dumper(yaml.SafeDumper):
    pass


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _represent_text)


class Recorder:
    """Runs commands on a cluster and writes their answers down."""

    def __init__(self, cluster: SlurmCluster) -> None:
        self.cluster = cluster
        year, month = slurm_version()
        self._directory = TRANSCRIPTS / f"{year}.{month:02}"
        self._directory.mkdir(parents=True, exist_ok=True)

    def record(self, name: str, *argv: str, stdin: str | None = None) -> str:
        """Run a command; return what it printed."""
        answer = self.cluster.run(*argv, stdin=stdin)
        told = {"argv": list(argv), "status": answer.returncode, "stdout": answer.stdout, "stderr": answer.stderr}
        text = yaml.dump(told, Dumper=_Dumper, sort_keys=False, width=10000)
        (self._directory / f"{name}.yaml").write_text(self._sanitised(text), encoding="utf-8")
        return answer.stdout.strip()

    def _sanitised(self, text: str) -> str:
        text = text.replace(self.cluster.layout.run, "/run/slurm").replace(self.cluster.directory, "/site/slurm")
        text = re.sub(rf"\b{re.escape(socket.gethostname())}\b", "head1", text)
        text = re.sub(r"AllocNode:Sid=\S+", "AllocNode:Sid=head1:1", text)
        return re.sub(r"WorkDir=\S+", "WorkDir=/site/work", text)


def record_submissions(recorder: Recorder) -> None:
    """Record what sbatch says."""
    recorder.record("sbatch-ok", *SBATCH, "--job-name=dfm-ab-p-0-1", stdin=SLEEPER)
    recorder.record("sbatch-prose", "sbatch", *SBATCH[2:], "--job-name=dfm-ab-p-0-2", stdin=SLEEPER)
    for name, options in REJECTED.items():
        recorder.record(f"sbatch-rejected-{name}", *SBATCH, "--job-name=dfm-ab-p-9-1", *options, stdin=SLEEPER)
    recorder.record("sbatch-test-only", *SBATCH, "--test-only", stdin=SLEEPER)
    recorder.record("sbatch-version", "sbatch", "--version")


def submit(cluster: SlurmCluster, number: int, script: str, *options: str) -> str:
    """Submit the job of that number."""
    return cluster.submit(script, f"--job-name=dfm-ab-p-{number}-1", f"--comment=s-{number:04}", "--mem=10M", *options)


def record_states(recorder: Recorder) -> None:
    """Record how squeue and scontrol show jobs in many states."""
    cluster = recorder.cluster
    jobs = {
        "failed": submit(cluster, 1, "#!/bin/sh\nexit 3\n"),
        "not-found": submit(cluster, 2, "#!/bin/sh\nexec no-such-program\n"),
        "killed": submit(cluster, 3, "#!/bin/sh\nkill -9 $$\n"),
        "done": submit(cluster, 4, "#!/bin/sh\nexit 0\n"),
        "launch": submit(cluster, 5, SLEEPER, f"--output={UNWRITABLE}"),
        "cancelled": submit(cluster, 6, SLEEPER, "--no-requeue"),
        "suspended": submit(cluster, 7, SLEEPER),
        "requeued": submit(cluster, 8, SLEEPER, "--requeue"),
        "held": submit(cluster, 9, SLEEPER, "--hold"),
        "running": submit(cluster, 10, SLEEPER),
        "hopeless-time": submit(cluster, 11, SLEEPER, "--partition=regr_high", "--time=0-10:00:00"),
        "hopeless-account": submit(cluster, 12, SLEEPER, "--partition=charged"),
        "licence-1": submit(cluster, 13, SLEEPER, "--licenses=vcs:2"),
        "licence-2": submit(cluster, 14, SLEEPER, "--licenses=vcs:2"),
        "array": submit(cluster, 15, SLEEPER, "--array=1-5%2"),
        "preempted": submit(cluster, 17, SLEEPER, "--no-requeue", "--partition=preemptible", "--nodelist=n4"),
    }
    for name in ("cancelled", "suspended", "requeued", "running", "licence-1", "preempted"):
        cluster.wait_for_state(jobs[name], "RUNNING")
    cluster.cancel(jobs["cancelled"])
    cluster.suspend(jobs["suspended"])
    cluster.requeue(jobs["requeued"])
    cluster.preempt(jobs["preempted"])
    ends = {"failed": "FAILED", "killed": "FAILED", "launch": "FAILED", "done": "COMPLETED", "not-found": "FAILED"}
    for name, state in {**ends, "cancelled": "CANCELLED", "preempted": "PREEMPTED"}.items():
        cluster.wait_for_state(jobs[name], state)
    cluster.wait_for_state(jobs["requeued"], "PENDING")
    charged = jobs["hopeless-account"]
    cluster.wait_until(
        lambda: any("account" in j.reason or not cluster.checks_accounts for j in cluster.jobs() if j.id == charged),
        "no reason",
    )
    recorder.record("squeue-full", "squeue", "-h", "-t", "all", "--me", "-O", FULL)
    recorder.record("squeue-plain", "squeue", "-h", "-t", "all", "-o", PLAIN)
    for name in ("failed", "not-found", "killed", "done", "launch", "cancelled", "running", "requeued", "preempted"):
        recorder.record(f"scontrol-{name}", "scontrol", "-o", "show", "job", jobs[name])
    recorder.record("scancel-ok", "scancel", "-Q", jobs["running"], "99999")
    if os.getuid() == 0:
        nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
        recorder.record("scancel-denied", *nobody, "scancel", "-Q", jobs["held"], jobs["suspended"])


def record_refusals(recorder: Recorder) -> None:
    """Record answers that are none."""
    recorder.record("squeue-unknown-names", "squeue", "-h", "-t", "all", "--me", "--name=dfm-zz", "-O", FULL)
    recorder.record("squeue-unknown-id", "squeue", "-h", "-j", "99999", "-o", PLAIN)
    recorder.record("squeue-unknown-field", "squeue", "-h", "-t", "all", "-O", "JobArrayID:|,Nonsense:|")
    recorder.record("squeue-unknown-option", "squeue", "-h", "--nonsense")
    recorder.record("scontrol-unknown", "scontrol", "-o", "show", "job", "99999")
    recorder.record(
        "sacct-disabled", "sacct", "-n", "-X", "-P", "--starttime=2026-01-01", "--jobs=1", f"--format={FIELDS}"
    )
    recorder.record("scontrol-ping", "scontrol", "ping")
    recorder.record("scontrol-config", "scontrol", "show", "config")
    recorder.record("scontrol-partition", "scontrol", "-o", "show", "partition", "normal")
    recorder.record("scontrol-partition-unknown", "scontrol", "-o", "show", "partition", "nosuch")


def record_absence(recorder: Recorder) -> None:
    """Record what is said while the controller is frozen, then away."""
    recorder.cluster.freeze_controller()
    recorder.record("sbatch-timed-out", *SBATCH, "--job-name=dfm-ab-p-8-1", stdin=SLEEPER)
    recorder.record("squeue-timed-out", "squeue", "-h", "-t", "all", "-o", PLAIN)
    recorder.cluster.thaw_controller()
    recorder.cluster.stop_controller()
    recorder.record("sbatch-down", *SBATCH, "--job-name=dfm-ab-p-8-2", stdin=SLEEPER)
    recorder.record("squeue-down", "squeue", "-h", "-t", "all", "-o", PLAIN)
    recorder.record("scancel-down", "scancel", "-Q", "1", "2")
    recorder.record("scontrol-ping-down", "scontrol", "ping")


def record_accounting(recorder: Recorder) -> None:
    """Record what only a cluster with accounting says."""
    cluster = recorder.cluster
    rejected = {
        "unknown-account": ("--account=nosuch",),
        "unknown-qos": ("--qos=nosuch",),
        "qos-wall": ("--qos=tight", "--time=20"),
        "qos-cores": ("--qos=tight", "--time=5", "--cpus-per-task=4"),
        "unknown-cluster": ("--clusters=nosuch",),
    }
    for name, options in rejected.items():
        recorder.record(f"dbd-sbatch-rejected-{name}", *SBATCH, "--job-name=dfm-ab-p-9-1", *options, stdin=SLEEPER)
    submit(cluster, 1, SLEEPER, "--qos=tight", "--time=5")
    recorder.record("dbd-sbatch-submit-limit", *SBATCH, "--qos=tight", "--time=5", stdin=SLEEPER)
    recorder.record("dbd-sbatch-cluster", *SBATCH, "--job-name=dfm-ab-p-2-1", "--clusters=dfm", stdin=SLEEPER)
    submit(cluster, 3, SLEEPER, "--qos=loose", "--time=20")
    submit(cluster, 4, SLEEPER, "--qos=loose", "--cpus-per-task=4", "--time=5")
    submit(cluster, 11, SLEEPER, "--partition=charged", "--account=other")
    ends = {
        submit(cluster, 5, "#!/bin/sh\nexit 3\n"): "FAILED",
        submit(cluster, 6, "#!/bin/sh\nkill -9 $$\n"): "FAILED",
        submit(cluster, 7, SLEEPER, f"--output={UNWRITABLE}"): "FAILED",
        submit(cluster, 8, "#!/bin/sh\nexit 0\n"): "COMPLETED",
    }
    cancelled = submit(cluster, 10, SLEEPER)
    cluster.wait_for_state(cancelled, "RUNNING")
    cluster.cancel(cancelled)
    for identifier, state in {**ends, cancelled: "CANCELLED"}.items():
        cluster.wait_for_state(identifier, state)
    recorder.record("dbd-squeue-full", "squeue", "--clusters=dfm", "-h", "-t", "all", "--me", "-O", FULL)
    history = ("-n", "-X", "-P", "--starttime=2026-01-01T00:00:00")
    last = ("sacct", *history, f"--jobs={cancelled}", "--format=State")
    cluster.wait_until(lambda: "CANCELLED by" in cluster.run(*last).stdout, "sacct lags")
    recorder.record("dbd-sacct", "sacct", *history, f"--format={FIELDS}")
    recorder.record("dbd-sacct-unknown", "sacct", *history, "--jobs=99999", f"--format={FIELDS}")


def main() -> int:
    """Record everything."""
    if len(sys.argv) > 1:
        record_accounting(Recorder(SlurmCluster(sys.argv[1])))
        return 0
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)  # noqa: S103  (another user is refused by SLURM, not by the file system)
        with SlurmCluster(Path(directory, "a"), Shape(min_job_age_seconds=300)) as cluster:
            recorder = Recorder(cluster)
            record_submissions(recorder)
            record_states(recorder)
            record_refusals(recorder)
            record_absence(recorder)
        with SlurmCluster(Path(directory, "b"), Shape(enforces_limits=True)) as cluster:
            recorder = Recorder(cluster)
            recorder.record("sbatch-rejected-time-limit", *SBATCH, "-p", "regr_high", "-t", "600", stdin=SLEEPER)
            if cluster.checks_accounts:
                recorder.record("sbatch-rejected-account", *SBATCH, "-p", "charged", stdin=SLEEPER)
    return 0


if __name__ == "__main__":
    sys.exit(main())
