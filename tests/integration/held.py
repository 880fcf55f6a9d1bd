"""Bodies that tell that they have begun and wait until they are let go, for tests that do something to them meanwhile."""

from pathlib import Path

from dfm.testing.project import Project, wait_until

HOLD = (
    'echo $$ >> "$DFM_SRCDIR/begun"; '
    'for i in $(seq 1200); do [ -e "$DFM_SRCDIR/go" ] && break; sleep 0.05; done; '
    'echo done >> "$DFM_SRCDIR/done"'
)
"""Leaves its process id in `begun` of the project, and waits for `go` there."""


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").split() if path.exists() else []


def begun(project: Project, count: int = 1) -> list[str]:
    """Wait until so many bodies have begun, and return their process ids."""
    found: list[str] = []

    def is_so() -> bool:
        found[:] = lines(project.directory / "begun")
        return len(found) >= count

    wait_until(is_so, f"{count} bodies to begin")
    return found


def is_gone(pid: str) -> bool:
    """Whether a process has ended; a zombie has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def let_go(project: Project) -> None:
    (project.directory / "go").touch()
