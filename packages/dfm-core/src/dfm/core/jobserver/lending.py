"""The lease of one body, which others may have while the body waits for an answer of the run."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from dfm.core.jobserver.tokens import Lease


class Leases(Protocol):
    """Gives out leases and takes them back, as a TokenSource does."""

    async def acquire(self) -> Lease:
        """Wait, for as long as it takes, for a lease."""

    def release(self, lease: Lease, *, is_clean: bool) -> None:
        """Give a lease back."""


class Lending:
    """What one body holds.

    Attributes:
        lease: the one that the body was started with.
    """

    def __init__(self, leases: Leases, lease: Lease) -> None:
        self._leases = leases
        self._waiting = 0
        self._held: Lease | None = lease
        self._is_over = False
        self.lease = lease

    @asynccontextmanager
    async def lent(self) -> AsyncIterator[None]:
        """Give the lease away; take one again when the last of the body's questions is answered."""
        self._waiting += 1
        if self._held is not None:
            self._leases.release(self._held, is_clean=True)
            self._held = None
        try:
            yield
        finally:
            self._waiting -= 1
        if self._waiting == 0 and not self._is_over:
            self._held = await self._leases.acquire()
            self._end_if_over()

    def _end_if_over(self) -> None:
        """Give back what came too late: the body ended while its lease was waited for."""
        if self._is_over:
            self.release(is_clean=True)

    def release(self, *, is_clean: bool) -> None:
        """Give the lease back for good."""
        self._is_over = True
        if self._held is not None:
            self._leases.release(self._held, is_clean=is_clean)
            self._held = None
