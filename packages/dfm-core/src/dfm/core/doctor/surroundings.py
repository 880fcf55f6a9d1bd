"""What DFM stands on: Python, the kernel, libyaml, the runtime directory, make and ninja, and the shared directory."""

import asyncio
import os
import re
import resource
import shutil
import signal
import stat
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence

import yaml

from dfm.api.batch import Command, Finding
from dfm.core.doctor.check import fault, skipped, warning, well
from dfm.core.jobserver.choose import token_source
from dfm.core.pool.command import answer_to

OLDEST_PYTHON = (3, 11)
OLDEST_KERNEL = (5, 3)
"""pidfd_open is of Linux 5.3."""
OLDEST_MAKE, OLDEST_NINJA = (4, 2), (1, 13)
FEW_FILES = 1024
SLOW_SECONDS = 0.05
"""Making, renaming and removing a small file takes well under a millisecond on a disk, a few on a good NFS server."""
SKEW_SECONDS = 1.0
LITTLE_SPACE_BYTES = 1 << 30
_LOOKS = 5
_TOOL_SECONDS = 10.0


def look_at_python() -> list[Finding]:
    """Look at the interpreter, the kernel and the limits of this process."""
    shown = ".".join(map(str, sys.version_info[:3]))
    found = [well(f"Python {shown} ({sys.executable})")]
    if sys.version_info < OLDEST_PYTHON:
        found = [fault(f"Python {shown} is too old", "install Python 3.11 or newer, and DFM in a venv of it")]
    kernel = tuple(int(part) for part in re.findall(r"\d+", os.uname().release)[:2])
    if sys.platform != "linux" or kernel < OLDEST_KERNEL:
        found.append(fault(f"{os.uname().sysname} {os.uname().release} cannot follow processes", "Linux 5.3 or newer"))
    if sys.getfilesystemencoding().lower() != "utf-8":
        encoding = sys.getfilesystemencoding()
        found.append(warning(f"names of files are {encoding}", "set LANG=C.UTF-8, or PYTHONUTF8=1"))
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if files != resource.RLIM_INFINITY and files < FEW_FILES:
        found.append(warning(f"a process may open only {files} files", f"ulimit -n {FEW_FILES} or more"))
    if shutil.which("bash") is None:
        found.append(fault("there is no bash on the PATH, and scripts run in bash", "install bash"))
    return found


def look_at_libyaml() -> list[Finding]:
    """Look whether YAML is read by libyaml."""
    if yaml.__with_libyaml__:
        return [well(f"PyYAML {yaml.__version__} with libyaml")]
    return [
        warning(
            f"PyYAML {yaml.__version__} is without libyaml: flows load many times slower",
            "install the PyYAML wheel of the package index, or libyaml's headers and then PyYAML anew",
        )
    ]


RUNTIME_VARIABLES = ("DFM_RUNTIME_DIR", "XDG_RUNTIME_DIR")
_PRIVATE = "set DFM_RUNTIME_DIR to a local directory of yours alone"


def look_at_runtime_directory(environ: Mapping[str, str]) -> list[Finding]:
    """Look whether the directory for sockets of this host is, or can be made, this user's alone.

    It is `dfm` in what DFM_RUNTIME_DIR or else XDG_RUNTIME_DIR names, where that can be written, else one in /tmp.
    """
    variable = next((name for name in RUNTIME_VARIABLES if environ.get(name)), None)
    parent = "" if variable is None else environ[variable]
    if os.path.isdir(parent) and os.access(parent, os.W_OK):
        return [_look_at_private(os.path.join(parent, "dfm"))]
    found = [_look_at_private(f"/tmp/dfm-{os.geteuid()}")]  # noqa: S108  (its owner and mode are looked at)
    if variable is not None:
        found.append(warning(f"{variable} names {parent}, which cannot be written; /tmp is used instead", _PRIVATE))
    return found


def _look_at_private(directory: str) -> Finding:
    try:
        facts = os.lstat(directory)
    except FileNotFoundError:
        return well(f"{directory} will be made when it is needed")
    except OSError as error:
        return fault(f"{directory}: {error.strerror}", _PRIVATE)
    mode = stat.S_IMODE(facts.st_mode)
    if not stat.S_ISDIR(facts.st_mode):
        return fault(f"{directory} is not a directory", f"look at what it is, then: rm {directory}")
    if facts.st_uid != os.geteuid():
        return fault(f"{directory} belongs to user {facts.st_uid}", _PRIVATE)
    if mode & 0o077:
        return fault(f"{directory} is open to others (mode {mode:04o})", f"chmod 700 {directory}")
    return well(f"{directory}, yours alone")


def look_at_jobserver(environ: Mapping[str, str]) -> list[Finding]:
    """Open a jobserver, take a token and give it back; look at make and ninja."""
    source, notice = token_source(None, environ, default_jobs=2, name="doctor")

    async def take_one() -> None:
        async with source:
            lease = await source.acquire()
            source.release(lease, is_clean=True)

    try:
        asyncio.run(take_one())
    except OSError as error:
        where = error.filename or tempfile.gettempdir()
        found = [fault(f"no FIFO can be made: {where}: {error.strerror}", "set TMPDIR to a local directory of yours")]
    else:
        found = [well("tokens can be taken and given back")]
    if notice is not None:
        found.append(warning(notice, "see the guide on make and ninja"))
    return [*found, _look_at_tool("make", OLDEST_MAKE, environ), _look_at_tool("ninja", OLDEST_NINJA, environ)]


def _look_at_tool(name: str, oldest: tuple[int, int], environ: Mapping[str, str]) -> Finding:
    path = shutil.which(name, path=environ.get("PATH"))
    if path is None:
        return skipped(f"there is no {name} on the PATH")
    output = answer_to(Command(argv=(path, "--version"), timeout_seconds=_TOOL_SECONDS), environ)
    version = re.search(r"(\d+)\.(\d+)", output.stdout)
    if output.status != 0 or version is None:
        return warning(f"{path} --version gives no answer", f"look at what {path} is")
    numbers = (int(version[1]), int(version[2]))
    if numbers < oldest:
        wanted = ".".join(map(str, oldest))
        return warning(f"{name} {version[0]} does not share the jobs of `dfm run -j N`", f"install {name} {wanted}")
    return well(f"{name} {version[0]} shares the jobs of `dfm run -j N`")


def look_at_shared_directory(directory: str) -> list[Finding]:
    """Look whether files can be made and scripts run in the project, how fast, and whether its clock is ours."""
    try:
        with tempfile.TemporaryDirectory(prefix=".dfm-doctor-", dir=directory) as place:
            found = [*_look_at_latency(place), *_look_at_clock(place), *_look_at_scripts(place)]
    except OSError as error:
        return [
            fault(f"{directory} cannot be written: {error.strerror}", "run dfm where you may write, or use --rundir")
        ]
    free = shutil.disk_usage(directory).free
    if free < LITTLE_SPACE_BYTES:
        found.append(warning(f"{directory} has only {free >> 20} MiB free", "make room"))
    return found


def _look_at_latency(place: str) -> list[Finding]:
    times = []
    for number in range(_LOOKS):
        started = time.monotonic()
        path = os.path.join(place, str(number))
        with open(path, "xb") as file:
            file.write(b"x")
        os.replace(path, f"{path}.done")
        os.unlink(f"{path}.done")
        times.append(time.monotonic() - started)
    median = statistics.median(times)
    text = f"{os.path.dirname(place)}: a file is made, renamed and removed in {median * 1000:.1f} ms"
    return [
        well(text) if median < SLOW_SECONDS else warning(text, "use a faster disk: --rundir names a directory there")
    ]


def _look_at_clock(place: str) -> list[Finding]:
    path = os.path.join(place, "clock")
    before = time.time_ns()
    with open(path, "xb"):
        pass
    after = time.time_ns()
    stamp = os.stat(path).st_mtime_ns
    skew = max(before - stamp, stamp - after, 0) / 1e9
    if skew < SKEW_SECONDS:
        return [well(f"its clock and ours differ by less than {SKEW_SECONDS:g} s")]
    return [
        warning(f"its clock and ours differ by {skew:.1f} s", "have both hosts take their time from one NTP server")
    ]


def _look_at_scripts(place: str) -> list[Finding]:
    path = os.path.join(place, "script")
    with open(path, "x", encoding="utf-8") as file:
        file.write("#!/bin/sh\nexit 0\n")
    os.chmod(path, 0o700)
    try:
        subprocess.run([path], check=True, timeout=_TOOL_SECONDS, stdin=subprocess.DEVNULL, start_new_session=True)
    except PermissionError:
        text = "programs cannot be run there: it is mounted noexec"
        return [fault(text, "tasks would not find dfm-out; --rundir names a directory elsewhere")]
    except subprocess.CalledProcessError as error:
        name = signal.Signals(-error.returncode).name if error.returncode < 0 else f"status {error.returncode}"
        return [fault(f"a script that does nothing ends with {name} there", "look at how it is mounted")]
    return [well("scripts can be run there")]


def look_at_settings_files(paths: Sequence[tuple[str, str]]) -> list[Finding]:
    """Look at who may write the settings files that exist: pairs of layer and path."""
    found: list[Finding] = []
    for layer, path in paths:
        mode = os.stat(path).st_mode
        if mode & stat.S_IWOTH:
            found.append(warning(f"{layer}: everybody may write {path}", f"chmod o-w {path}"))
        else:
            found.append(well(f"{layer}: {path}"))
    return found or [well("there are no settings files; the defaults hold")]
