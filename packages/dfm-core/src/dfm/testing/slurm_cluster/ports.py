"""Ports that stay free until a daemon takes them.

A socket that is bound with SO_REUSEADDR and does not listen keeps the kernel from handing its port to anybody who asks
for a free one, and does not keep a daemon that names the port, with SO_REUSEADDR too, from listening on it (socket(7)).
"""

import socket


class HeldPorts:
    """Free ports of all interfaces, held for as long as this object is open.

    Args:
        count: how many.
    """

    def __init__(self, count: int) -> None:
        self._sockets = [_bound() for _ in range(count)]

    @property
    def numbers(self) -> tuple[int, ...]:
        return tuple(int(held.getsockname()[1]) for held in self._sockets)

    def close(self) -> None:
        """Let go of them."""
        for held in self._sockets:
            held.close()


def _bound() -> socket.socket:
    held = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("", 0))
    return held
