"""Whether the kernel has killed something of this job for memory: the counters of its control group."""

import contextlib
from dataclasses import dataclass

_V2 = "/sys/fs/cgroup{path}/memory.events"
_V1 = "/sys/fs/cgroup/memory{path}/memory.oom_control"


@dataclass(slots=True)
class OutOfMemoryCounter:
    """Counts kills for memory in the control group this process was started in; 0 where there is none to read."""

    _paths: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self._paths = self._paths or _counter_paths()

    def count(self) -> int:
        """Return how many there have been."""
        for path in self._paths:
            with contextlib.suppress(OSError, ValueError), open(path, encoding="ascii") as file:
                for line in file:
                    name, _, number = line.partition(" ")
                    if name == "oom_kill":
                        return int(number)
        return 0


def _counter_paths() -> tuple[str, ...]:
    found = []
    with contextlib.suppress(OSError), open("/proc/self/cgroup", encoding="utf-8") as file:
        for line in file:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            if not controllers:
                found.append(_V2.format(path=path.rstrip("/")))
            elif "memory" in controllers.split(","):
                found.append(_V1.format(path=path.rstrip("/")))
    return tuple(found)
