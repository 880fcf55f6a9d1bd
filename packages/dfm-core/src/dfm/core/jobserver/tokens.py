"""Where bodies get their tokens from, whoever keeps them."""

from collections.abc import Mapping
from types import TracebackType
from typing import Protocol, Self

from msgspec import Struct


class Lease(Struct, frozen=True, eq=False):
    """The right to run one body.

    Attributes:
        environment: variables through which makes and ninjas in the body find the jobserver.
        pass_fds: descriptors that the body inherits.
        token: the byte to give back.
        generation: of the server's pipe; 0 for a client.
    """

    environment: Mapping[str, str]
    pass_fds: tuple[int, ...]
    token: bytes
    generation: int = 0


class TokenSource(Protocol):
    """Gives out leases. Enter it before the first, leave it after the last."""

    async def __aenter__(self) -> Self:
        """Open what it needs."""

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Give everything back, and leave nothing on disk."""

    @property
    def limit(self) -> int | None:
        """How many leases there can be at once; None where somebody else knows."""

    async def acquire(self) -> Lease:
        """Wait, for as long as it takes, for a token; first come, first served."""

    def release(self, lease: Lease, *, is_clean: bool) -> None:
        """Give a lease back; `is_clean` says that the body ended well, so that its clients gave back theirs."""
