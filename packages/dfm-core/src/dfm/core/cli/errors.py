"""A DfmError as a person reads it."""

from dfm.api.errors import DfmError
from dfm.core.config.faults import ConfigInvalid
from dfm.core.flow.diagnostics import FlowInvalid


def shown(error: Exception) -> str:
    """Return the lines that tell the error: where, what, and what to do."""
    if isinstance(error, FlowInvalid):
        return str(error)
    if isinstance(error, ConfigInvalid):
        return "\n".join(_told(fault) for fault in error.faults)
    return _told(error)


def _told(error: Exception) -> str:
    lines = [f"dfm: error: {error}"]
    if isinstance(error, DfmError) and error.hint:
        lines.append(f"  hint: {error.hint}")
    return "\n".join(lines)
