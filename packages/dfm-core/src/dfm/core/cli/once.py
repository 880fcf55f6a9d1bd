"""What becomes of an option that is given twice, over the whole command line.

Options that say how much, where or how (`-j`, `--rundir`, `--root`, `--runner`, `-o`): the last one holds, so that an
alias may give what is typed behind it again. Options that add up: all hold; of filters, one for a thing that there is
only one of (`--scope`, `--package`) lets through what any of them does, every other one narrows further. And those of
which only one can hold, while a person who gives two may well mean both: they are refused, and made here.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from dfm.api.errors import UsageError

R = TypeVar("R")


def once_option(
    *names: str,
    both: str | None = None,
    **attributes: Any,  # noqa: ANN401  (click's)
) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Make an option of one value that is refused with another one; the same value twice is no fault.

    Args:
        names: as click takes them.
        both: what to do for both values, as a hint.
        attributes: as click takes them.
    """

    def only(ctx: click.Context, param: click.Parameter, values: Sequence[str]) -> str | None:  # noqa: ARG001  (click's)
        different = list(dict.fromkeys(values))
        if len(different) > 1:
            shown = " and ".join(repr(value) for value in different)
            raise UsageError(f"{param.opts[0]} is given as {shown}, and only one of them can hold", hint=both)
        return different[0] if different else None

    return click.option(*names, multiple=True, callback=only, **attributes)
