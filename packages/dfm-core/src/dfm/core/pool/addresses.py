"""By which addresses workers may find this host, best first."""

import array
import fcntl
import socket
import struct
from collections.abc import Sequence

_SIOCGIFADDR = 0x8915
LOOPBACK = "127.0.0.1"


def own_addresses() -> tuple[str, ...]:
    """Return the name of this host, then the addresses of its interfaces, loopback last."""
    numbers = [_address(name) for _, name in socket.if_nameindex()]
    outside = [number for number in numbers if number is not None and not number.startswith("127.")]
    return tuple(dict.fromkeys([socket.gethostname(), *outside, LOOPBACK]))


def listening_addresses(bind: Sequence[str], addresses: Sequence[str]) -> tuple[str, ...]:
    """Return where to listen: at what was configured, else at every interface."""
    return tuple(bind) or tuple(addresses)


def _address(interface: str) -> str | None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = array.array("B", struct.pack("256s", interface.encode()[:15]))
        try:
            fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, request)
        except OSError:
            return None
    return socket.inet_ntoa(request[20:24].tobytes())
