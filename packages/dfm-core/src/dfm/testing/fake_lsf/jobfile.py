"""The job file of a start, the job's environment, and where its output goes."""

import os
import pwd
import shlex
import sys
from collections import Counter

from dfm.testing.fake_lsf import processes, texts
from dfm.testing.fake_lsf.jobs import Job, Submission
from dfm.testing.fake_lsf.state import Cluster
from dfm.testing.fake_lsf.supervise import Plan

JOB_FILE = """#!/bin/sh
trap : HUP INT USR1 USR2 TERM
# LSBATCH: User input
{script}
# LSBATCH: End user input
ExitStat=$?
wait
exit $ExitStat
"""
SYSTEM_ROOTS = ("/bin", "/sbin", "/usr", "/lib", "/lib64", "/opt", "/dev", "/proc", "/etc")


def plan(cluster: Cluster, job: Job) -> Plan:
    """Write the job file, and return what the supervisor must know."""
    submission = job.submission
    directory = cluster.path(job.run_directory)
    home = home_of(cluster)
    job_file = _write_job_file(cluster, job, home)
    output, error = output_paths(job)
    direct = submission.writes_directly and bool(output)
    stdout = output if direct else f"{directory}/out"
    stderr = stdout
    if submission.error:
        stderr = error if direct else f"{directory}/err"
    cwd = submission.cwd if _is_mounted(cluster, job, submission.cwd) else None
    return Plan(
        directory=directory,
        job_file=job_file,
        environ=environ_of(cluster, job, home, job_file),
        cwd=cwd,
        exits_without_cwd=submission.exits_without_cwd,
        stdin=os.path.join(submission.cwd, submission.input) if submission.input else os.devnull,
        stdout=stdout,
        stderr=stderr,
        deliver_output=output,
        deliver_error=error,
        overwrites_output=submission.overwrites_output,
        overwrites_error=submission.overwrites_error,
        writes_directly=direct,
        mail=cluster.path(f"mail/{job.serial}.{job.start_count}"),
        report={
            "host": job.hosts[0],
            "hosts": ", ".join(dict.fromkeys(job.hosts)),
            "job": job.label,
            "name": job.name,
            "cluster": cluster.config.params.cluster_name,
            "from_host": submission.from_host,
            "user": submission.user,
            "queue": submission.queue,
            "home": home,
            "cwd": cwd or "/tmp",  # noqa: S108  # LSF's own default
            "command": submission.script.rstrip("\n"),
        },
    )


def home_of(cluster: Cluster) -> str:
    """Return HOME on the execution hosts."""
    return cluster.config.params.home or cluster.path("home")


def output_paths(job: Job) -> tuple[str, str]:
    """Return the paths of `-o` and `-e`, with `%J` and `%I` filled in; empty where not given."""
    return _expand(job, job.submission.output, "out"), _expand(job, job.submission.error, "err")


def _expand(job: Job, path: str, ending: str) -> str:
    if not path:
        return ""
    filled = path.replace("%J", str(job.id)).replace("%I", str(job.index))
    whole = os.path.join(job.submission.cwd, filled)
    return f"{whole}{job.id}.{ending}" if filled.endswith("/") or os.path.isdir(whole) else whole


def _write_job_file(cluster: Cluster, job: Job, home: str) -> str:
    index = f".{job.index}" if job.index else ""
    path = f"{home}/.lsbatch/{int(job.started_at)}.{job.id}{index}"
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    script = job.submission.script
    broken = cluster.system.broken_hosts.get(job.hosts[0])
    if broken is not None:
        script = f"exit {broken}"
    elif (missing := _not_on_host(cluster, job)) is not None:
        text = texts.NOT_ON_HOST.format(job_file=path, path=missing)
        script = f"echo {shlex.quote(text)} >&2\n(exit {texts.STATUS_NOT_ON_HOST})"
    elif script.startswith("#!"):
        _write_executable(f"{path}.shell", script)
        script = shlex.quote(f"{path}.shell")
    _write_executable(path, JOB_FILE.format(script=script.rstrip("\n")))
    return path


def _write_executable(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o700)
    with open(descriptor, "w", encoding="utf-8", errors="surrogateescape") as stream:
        stream.write(text)


def _not_on_host(cluster: Cluster, job: Job) -> str | None:
    """Return the command's path if the execution host cannot see it."""
    roots = cluster.config.params.shared_roots
    word = job.submission.first_word
    if not roots or word is None or "/" not in word:
        return None
    path = os.path.normpath(os.path.join(job.submission.cwd, word))
    seen = (*roots, *SYSTEM_ROOTS, sys.base_prefix)
    return None if any(path == root or path.startswith(root.rstrip("/") + "/") for root in seen) else word


def _is_mounted(cluster: Cluster, job: Job, path: str) -> bool:
    lacks = cluster.hosts[job.hosts[0]].lacks
    return not any(path == root or path.startswith(root.rstrip("/") + "/") for root in lacks)


def environ_of(cluster: Cluster, job: Job, home: str, job_file: str) -> dict[str, str]:
    """Return what the job sees: the submitter's variables, LSF's own, and the marks by which the fake finds it."""
    submission = job.submission
    error = {"LSB_ERRORFILE": submission.error} if submission.error else {}
    restart = {"LSB_RESTART": "Y"} if job.start_count > 1 else {}
    ibm = {} if cluster.config.is_volclava else _ibm_only(cluster, job)
    own = {
        "HOME": home,
        "SHELL": "/bin/sh",
        "USER": submission.user,
        "LOGNAME": submission.user,
        "LSFUSER": submission.user,
        "LSB_JOBID": str(job.id),
        "LSB_BATCH_JID": job.label,
        "LSB_JOBINDEX": str(job.index),
        "LSB_JOBNAME": job.name,
        "LSB_QUEUE": submission.queue,
        "LSB_HOSTS": " ".join(job.hosts),
        "LSB_MCPU_HOSTS": "".join(f"{host} {count} " for host, count in Counter(job.hosts).items()),
        "LSB_SUB_HOST": submission.from_host,
        "LSB_OUTPUTFILE": submission.output,
        "LSB_JOBFILENAME": job_file,
        "LS_SUBCWD": submission.cwd,
        "LSF_ENVDIR": cluster.directory,
        "LSF_BINDIR": cluster.path("bin"),
        "LSF_SERVERDIR": cluster.path("bin"),
        "FAKE_LSF_DIR": cluster.directory,
        processes.JOB_VARIABLE: f"{cluster.directory}:{os.path.basename(job.run_directory)}",
    }
    return {**submission.environ, **own, **ibm, **error, **restart}


def _ibm_only(cluster: Cluster, job: Job) -> dict[str, str]:
    host_file = cluster.path(f"{job.run_directory}/hostfile")
    with open(host_file, "w", encoding="utf-8") as stream:
        stream.write("".join(f"{host}\n" for host in job.hosts))
    return {
        "LSB_DJOB_NUMPROC": str(len(job.hosts)),
        "LSB_MAX_NUM_PROCESSORS": str(job.submission.most_slots),
        "LSB_DJOB_HOSTFILE": host_file,
        "LSB_EFFECTIVE_RSRCREQ": _effective(job.submission),
    }


def _effective(submission: Submission) -> str:
    selects = " && ".join(f"({each})" for each in submission.selects) or "type == local"
    usages = ",".join(f"{name}={amount:.2f}" for name, amount, _, _ in submission.usages)
    span = " span[hosts=1]" if submission.single_host else ""
    return f"select[{selects}] order[r15s:pg]" + (f" rusage[{usages}]" if usages else "") + span


def login_name() -> str:
    """Return the name of the user that all jobs belong to."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
