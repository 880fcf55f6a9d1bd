"""The cells of a matrix: every combination of its values, in order of the axes."""

import itertools
from collections.abc import Mapping

from msgspec import Struct

from dfm.core.flow.diagnostics import Diagnostics
from dfm.core.flow.model import Task
from dfm.core.flow.values import ValueFault, evaluate
from dfm.core.graph.layout import suffixes
from dfm.core.graph.names import NodeNames

MAX_CELLS = 100_000
"""Combinations of one matrix; more is a slip of the pen that would fill the disk with directories."""


class Cell(Struct, frozen=True):
    """One copy of the body: what its names end in, and the values it sees."""

    suffix: str
    values: Mapping[str, object]


def cells_of(task: Task, names: NodeNames, diagnostics: Diagnostics) -> list[Cell]:
    """Return the cells of the task's matrix; one that is nothing special where it has none."""
    if task.matrix is None:
        return [Cell("", {})]
    axes: dict[str, list[object]] = {}
    for name, node in task.matrix.axes.items():
        try:
            value = evaluate(node, names, diagnostics)
        except ValueFault:
            return []
        if not isinstance(value, list):
            diagnostics.error("wrong-type", f"the axis {name!r} of the matrix is not a list", node)
            return []
        axes[name] = value
    count = 1
    for values in axes.values():
        count *= len(values)
    if count > MAX_CELLS:
        diagnostics.error(
            "matrix-too-large",
            f"the matrix of {task.name!r} has {count:,} cells; {MAX_CELLS:,} is the limit",
            next(iter(task.matrix.axes.values())),
        )
        return []
    endings = itertools.product(*(suffixes(axis, names.world.layout) for axis in axes.values()))
    return [
        Cell("".join(ending), dict(zip(axes, values, strict=True)))
        for ending, values in zip(endings, itertools.product(*axes.values()), strict=True)
    ]
