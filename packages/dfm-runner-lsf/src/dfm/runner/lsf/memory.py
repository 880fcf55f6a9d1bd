"""Memory as LSF of this site reads it: unit, suffix, per host or per slot.

LSF reads a bare number in the unit that LSF_UNIT_FOR_LIMITS of the cluster names (by default MB in `rusage[mem]`, KB in
`-M`), and reserves it per host, or per slot where RESOURCE_RESERVE_PER_TASK=Y. Neither can be seen from outside with
certainty, so that the site says so. Amounts are rounded up.
"""

from dfm.runner.lsf.options import LsfOptions

_BYTES = {"KB": 1024, "MB": 1024**2, "GB": 1024**3}


def reservation(memory_bytes: int, cores: int, options: LsfOptions) -> str:
    """Return the number of `rusage[mem=...]` for a job of `cores` slots that needs `memory_bytes` in all."""
    parts = cores if options.mem_per == "slot" else 1
    return _rendered(_up(memory_bytes, parts), options.mem_unit, is_named=options.mem_suffix)


def limit(memory_bytes: int, options: LsfOptions) -> str:
    """Return the number of `-M`: of the whole job, which no process of it may exceed on any reading of the limit."""
    return _rendered(memory_bytes, options.mem_limit_unit or options.mem_unit, is_named=options.mem_suffix)


def _rendered(memory_bytes: int, unit: str, *, is_named: bool) -> str:
    return f"{_up(memory_bytes, _BYTES[unit])}{unit if is_named else ''}"


def _up(amount: int, divisor: int) -> int:
    return -(-amount // divisor)
