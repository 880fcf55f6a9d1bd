"""What lies at the bottom of a group of exceptions."""


def first_cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first plain exception inside a group: the others follow from it."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
