"""One JSON object at the end of a run, for programs. Its shape is versioned by `schema`."""

import json
from datetime import datetime
from typing import Any

from dfm.api.events import Event, RunFinished, RunStarted, TaskFinished, TaskStarted
from dfm.api.task import Marker
from dfm.core.report.writer import Writer

SCHEMA = "dfm-run/1"


class JsonSink:
    """Collects, and writes when it is closed, so that there is exactly one object whatever happened."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._run: dict[str, Any] = {"schema": SCHEMA}
        self._reasons: dict[str, str] = {}
        self._tasks: list[dict[str, Any]] = []

    def tick(self) -> None:
        """Time changes nothing here."""

    def emit(self, event: Event) -> None:
        """Take in one event."""
        match event:
            case RunStarted():
                self._run |= {
                    "run_id": event.run_id,
                    "runner": event.runner,
                    "rundir": event.rundir,
                    "started_at": _time(event.at),
                }
            case TaskStarted():
                self._reasons[event.task] = event.reason
            case TaskFinished() if event.is_visible:
                self._tasks.append(_task(event, self._reasons.get(event.task)))
            case RunFinished():
                counts = {str(verdict): count for verdict, count in event.counts.items()}
                self._run |= {
                    "exit_code": event.exit_code,
                    "seconds": round(event.seconds, 6),
                    "counts": counts,
                }
                self._writer.line(json.dumps(self._run | {"tasks": self._tasks}))
            case _:
                pass


def _task(event: TaskFinished, reason: str | None) -> dict[str, Any]:
    return {
        "task": event.task,
        "verdict": str(event.verdict),
        "cause": event.cause,
        "reason": reason,
        "exit_status": event.exit_status,
        "seconds": round(event.seconds, 6),
        "cpu_seconds": round(event.cpu_seconds, 6),
        "max_rss_bytes": event.max_rss_bytes,
        "markers": [_marker(marker) for marker in event.markers],
        "rundir": event.rundir or None,
        "log": event.log,
        "rerun": event.rerun,
    }


def _marker(marker: Marker) -> dict[str, Any]:
    loc = None if marker.loc is None else {"path": marker.loc.path, "line": marker.loc.line, "pos": marker.loc.pos}
    return {"severity": str(marker.severity), "msg": marker.msg, "loc": loc}


def _time(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
