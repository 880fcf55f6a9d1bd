"""Amounts as people write them: `8G`, `4GiB`, `1:30`, `90m`. A bare number has a hidden unit and is refused.

Memory is counted in powers of 1024 whatever the spelling, as LSF and SLURM count it. `1:30` is an hour and a half, as
`bsub -W` and `std.ResourceTag` read it; three parts are hours, minutes and seconds.
"""

import re

_MEMORY = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[KMGTP])(?:i?B)?\Z", re.IGNORECASE)
_POWERS = {"K": 1, "M": 2, "G": 3, "T": 4, "P": 5}
_CLOCK = re.compile(r"(?:(?P<days>\d+)-)?(?P<hours>\d+):(?P<minutes>[0-5]\d)(?::(?P<seconds>[0-5]\d))?\Z")
_SPAN = re.compile(r"(?:\d+(?:\.\d+)?\s*(?:ms|[smhd])\s*)+\Z")
_PART = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>ms|[smhd])")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
MAX_MEMORY_BYTES = 1 << 60
MAX_SECONDS = 10 * 365 * 86400.0


def parse_memory(text: str) -> int:
    """Return the number of bytes that `text` names: a number and one of K, M, G, T, P, with `B` or `iB` if wanted.

    Raises:
        ValueError: it has another form, is zero, or is beyond an exbibyte.
    """
    match = _MEMORY.match(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no amount of memory: write it with its unit, such as 512M, 8G or 4GiB")
    factor: int = 1024 ** _POWERS[match["unit"].upper()]
    amount = round(float(match["number"]) * factor)
    if not 0 < amount <= MAX_MEMORY_BYTES:
        raise ValueError(f"{text!r} is no amount of memory a machine has")
    return amount


def parse_duration(text: str) -> float:
    """Return the seconds that `text` names: `90m`, `1h30m`, `45s`, `1:30` (h:mm), `1:30:00`, `2-12:00` (days-h:mm).

    Raises:
        ValueError: it has another form or is beyond ten years.
    """
    stripped = text.strip()
    clock = _CLOCK.match(stripped)
    if clock is not None:
        days, hours, minutes, seconds = (int(clock[part] or 0) for part in ("days", "hours", "minutes", "seconds"))
        total = float(days * 86400 + hours * 3600 + minutes * 60 + seconds)
    elif _SPAN.match(stripped):
        total = sum(float(part["number"]) * _SECONDS[part["unit"]] for part in _PART.finditer(stripped))
    else:
        raise ValueError(f"{text!r} is no duration: write it with its unit, such as 90m, 1:30 (hours:minutes) or 300s")
    if total > MAX_SECONDS:
        raise ValueError(f"{text!r} is longer than ten years")
    return total


def format_memory(amount: int) -> str:
    """Return bytes as a person writes them, exactly: the largest unit that divides them, else plain `B`."""
    for unit, power in reversed(_POWERS.items()):
        if amount and amount % 1024**power == 0:
            return f"{amount // 1024**power}{unit}"
    return f"{amount}B"


def format_duration(seconds: float) -> str:
    """Return seconds as a person writes them: `1h30m`, `45s`, `0.5s`."""
    if seconds != int(seconds):
        return f"{seconds:g}s"
    whole, parts = int(seconds), []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, whole = divmod(whole, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"
