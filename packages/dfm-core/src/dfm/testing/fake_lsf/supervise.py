"""What sbatchd and res do on an execution host: start a job, wait for it, deliver its output, write down its end.

mbatchd forks a supervisor for each start of a job. It outlives mbatchd: its only tie to it are files in the run
directory, `pid` when the job exists, `reason` (written by mbatchd before it kills), and `end`, which appears as a
whole and after the output was delivered. Tree: supervisor (own session) - sh with the job file (own session) - job.
"""

import contextlib
import json
import os
import resource
import signal
import traceback
from dataclasses import dataclass, field
from datetime import UTC, datetime

from dfm.testing.fake_lsf import texts

HOST_UMASK = 0o022


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All that a start needs. Paths are absolute.

    Attributes:
        cwd: None where the execution host does not have it.
        stdout: where the job writes while it runs.
        deliver_output: the `-o` file; empty is mail.
        writes_directly: LSB_STDOUT_DIRECT: `stdout` is the `-o` file already.
        report: fields of texts.REPORT that are known before the end.
    """

    directory: str
    job_file: str
    environ: dict[str, str]
    cwd: str | None
    exits_without_cwd: bool
    stdin: str
    stdout: str
    stderr: str
    deliver_output: str
    deliver_error: str
    overwrites_output: bool
    overwrites_error: bool
    writes_directly: bool
    mail: str
    report: dict[str, str] = field(default_factory=dict)


def start(plan: Plan) -> int:
    """Fork the supervisor of a job; return its pid."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        _supervise(plan)
        status = 0
    except BaseException:  # noqa: BLE001  # the process of mbatchd must not go on twice, whatever happened
        with contextlib.suppress(OSError), open(f"{plan.directory}/supervisor.log", "w", encoding="utf-8") as log:
            traceback.print_exc(file=log)
    finally:
        os._exit(status)
    raise AssertionError("not reached")


def now() -> float:
    """Return the time as jobs and files are stamped: seconds since the epoch."""
    return datetime.now(UTC).timestamp()


def write_whole(path: str, text: str) -> None:
    """Make a file appear with its whole text at once."""
    with open(path + ".new", "w", encoding="utf-8") as stream:
        stream.write(text)
    os.replace(path + ".new", path)


def _supervise(plan: Plan) -> None:
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        with contextlib.suppress(OSError):
            signal.signal(number, signal.SIG_DFL)
    os.setsid()
    _close_descriptors()
    began = now()
    os.chdir(plan.directory)
    ready_read, ready_write = os.pipe()
    gate_read, gate_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(ready_read)
        os.close(gate_write)
        _become_job(plan, ready_write, gate_read)
    os.close(ready_write)
    os.close(gate_read)
    os.read(ready_read, 1)
    write_whole("pid", str(pid))
    os.close(gate_write)
    _, status, usage = os.wait4(pid, 0)
    _finish(plan, began, os.waitstatus_to_exitcode(status), usage)


def _close_descriptors() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            with contextlib.suppress(OSError):  # the one that listed them is closed already
                os.close(int(name))


def _become_job(plan: Plan, ready: int, gate: int) -> None:
    """Turn the forked process into the job's shell; never returns."""
    try:
        os.setsid()
        os.write(ready, b"r")
        os.read(gate, 1)
        os.umask(HOST_UMASK)
        _enter_cwd(plan)
        _redirect(0, plan.stdin, os.O_RDONLY)
        how = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if plan.overwrites_output else os.O_APPEND)
        _redirect(1, plan.stdout, how)
        if plan.stderr == plan.stdout:
            os.dup2(1, 2)
        else:
            _redirect(2, plan.stderr, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.execve(  # noqa: S606  # the job file is what a shell runs
            "/bin/sh", ["/bin/sh", plan.job_file], {**plan.environ, "LS_JOBPID": str(os.getpid())}
        )
    finally:
        os._exit(texts.STATUS_NOT_ON_HOST)


def _enter_cwd(plan: Plan) -> None:
    try:
        if plan.cwd is None:
            raise FileNotFoundError
        os.chdir(plan.cwd)
    except OSError:
        if plan.exits_without_cwd:
            write_whole(f"{plan.directory}/reason", "TERM_CWD_NOTEXIST")
            os._exit(texts.STATUS_CWD_NOTEXIST)
        os.chdir("/tmp")  # noqa: S108  # LSF's own default


def _redirect(descriptor: int, path: str, how: int) -> None:
    opened = os.open(path, how, 0o666)
    os.dup2(opened, descriptor)
    os.close(opened)


def _finish(plan: Plan, began: float, exit_code: int, usage: resource.struct_rusage) -> None:
    try:
        with open("reason", encoding="utf-8") as stream:
            reason = stream.read()
    except FileNotFoundError:
        reason = ""
    end = {
        "code": exit_code if exit_code >= 0 else None,
        "signal": -exit_code if exit_code < 0 else None,
        "cpu": usage.ru_utime + usage.ru_stime,
        "memory_mb": usage.ru_maxrss / 1024,
        "finished": now(),
        "reason": reason,
    }
    _deliver(plan, _report(plan, began, exit_code, reason, usage))
    write_whole("end", json.dumps(end))


def _report(plan: Plan, began: float, exit_code: int, reason: str, usage: resource.struct_rusage) -> str:
    verdict = texts.VERDICT_DONE
    if exit_code > 0:
        verdict = texts.VERDICT_CODE.format(code=exit_code)
    elif exit_code < 0:
        verdict = texts.VERDICT_SIGNAL.format(signal=-exit_code)
    if reason and exit_code:
        verdict = f"{reason}: {texts.TERM_REASONS[reason][1]}.\n{verdict}"
    return texts.REPORT.format(
        **plan.report,
        outcome=texts.SUBJECT_DONE if exit_code == 0 else texts.SUBJECT_EXITED,
        started=_ctime(began),
        finished=_ctime(now()),
        verdict=verdict,
        cpu=usage.ru_utime + usage.ru_stime,
        memory_mb=usage.ru_maxrss // 1024,
        processes=1,
    )


def _ctime(when: float) -> str:
    return datetime.fromtimestamp(when).astimezone().strftime("%a %b %e %H:%M:%S %Y")


def _deliver(plan: Plan, report: str) -> None:
    """Bring report and output to the `-o` file, or to the mail where there is none or it cannot be written."""
    target = plan.deliver_output or plan.mail
    separate_errors = bool(plan.deliver_error) and plan.stderr != plan.stdout
    note = texts.OUTPUT_STDERR.format(path=plan.deliver_error) if separate_errors else ""
    if plan.writes_directly:
        _append(target, "\n" + report + texts.OUTPUT_ABOVE + note, None, fallback=plan.mail)
        return
    _append(
        target, report + texts.OUTPUT_FOLLOWS, plan.stdout, note, overwrites=plan.overwrites_output, fallback=plan.mail
    )
    if separate_errors:
        _append(plan.deliver_error, "", plan.stderr, overwrites=plan.overwrites_error, fallback=plan.mail)


def _append(
    target: str, head: str, copied: str | None, tail: str = "", *, overwrites: bool = False, fallback: str
) -> None:
    body = b""
    if copied is not None and os.path.exists(copied):
        with open(copied, "rb") as stream:
            body = stream.read()
    whole = head.encode() + body + tail.encode()
    for path, mode in ((target, "wb" if overwrites else "ab"), (fallback, "ab")):
        try:
            with open(path, mode) as stream:
                stream.write(whole)
        except OSError:
            continue
        return
