"""Hosts that fail what is sent to them.

One bad host takes task after task and fails each in a second, faster than all good ones together work. So failures that
are not a task's own are counted by host: three *different* tasks or workers within ten minutes, and the host is
suspected for half an hour.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Subject = TypeVar("Subject")


@dataclass(slots=True)
class _Record(Generic[Subject]):
    failures: deque[tuple[float, str, Subject | None]] = field(default_factory=deque)
    suspected_until: float = float("-inf")


class Hosts(Generic[Subject]):
    """The failures of each host. A subject is what was failed and may be given back its count."""

    def __init__(self, limit: int | None, window_seconds: float, suspicion_seconds: float) -> None:
        self._limit = limit
        self._window = window_seconds
        self._suspicion = suspicion_seconds
        self._records: dict[str, _Record[Subject]] = {}

    def fail(self, host: str, name: str, now: float, subject: Subject | None = None) -> list[Subject] | None:
        """Count one failure. Return what the host has failed when this makes it suspect; None when it does not."""
        if self._limit is None:
            return None
        record = self._records.setdefault(host, _Record())
        self._prune(record, now)
        record.failures.append((now, name, subject))
        if now < record.suspected_until:
            return [subject] if subject is not None else []
        if len({name for _, name, _ in record.failures}) < self._limit:
            return None
        record.suspected_until = now + self._suspicion
        return [subject for _, _, subject in record.failures if subject is not None]

    def is_suspected(self, host: str, now: float) -> bool:
        """Return whether nothing should be sent there."""
        record = self._records.get(host)
        return record is not None and now < record.suspected_until

    def forget_old(self, now: float) -> None:
        """Forget hosts of which nothing has been heard for long."""
        for host, record in list(self._records.items()):
            self._prune(record, now)
            if not record.failures and now >= record.suspected_until:
                del self._records[host]

    def _prune(self, record: _Record[Subject], now: float) -> None:
        while record.failures and record.failures[0][0] < now - self._window:
            record.failures.popleft()
