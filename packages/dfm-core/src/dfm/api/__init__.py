"""The contract between DFM, task authors and runner authors.

All that is promised to them is named here and nowhere else; it imports nothing else of DFM.
"""

from dfm.api.errors import (
    DfmError,
    ExitCode,
    FlowError,
    InfrastructureError,
    NothingSelectedError,
    RunnerError,
    SourceLocation,
    UsageError,
)
from dfm.api.items import DataItem, Env, FileSet, Item, item_from_mapping
from dfm.api.task import (
    Marker,
    MarkerLocation,
    Params,
    Severity,
    SubgraphError,
    SubtaskResult,
    TaskContext,
    TaskHandle,
    TaskInput,
    TaskOutput,
    UpToDateContext,
)

__all__ = [
    "DataItem",
    "DfmError",
    "Env",
    "ExitCode",
    "FileSet",
    "FlowError",
    "InfrastructureError",
    "Item",
    "Marker",
    "MarkerLocation",
    "NothingSelectedError",
    "Params",
    "RunnerError",
    "Severity",
    "SourceLocation",
    "SubgraphError",
    "SubtaskResult",
    "TaskContext",
    "TaskHandle",
    "TaskInput",
    "TaskOutput",
    "UpToDateContext",
    "UsageError",
    "item_from_mapping",
]
