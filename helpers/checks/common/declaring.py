"""Declare checks that several deliverables have in common.

Such checks differ in their points, limits and a few words. ``check_budget(__name__, points=2)``
registers one as if it were defined in the module that calls it.
"""

from helpers.checking import CheckFunction, check


def declare(
    module: str, cell: str, points: float, name: str, title: str, function: CheckFunction
) -> None:
    """Register ``function`` as the check ``name`` of the deliverable that ``module`` belongs to.

    Args:
        module: ``__name__`` of the module that declares it.
        cell: the check cell that it belongs to.
        points: what it is worth.
        name: the last part of its id.
        title: what students read.
    """
    function.__module__, function.__name__, function.__doc__ = module, name, title
    check(cell, points=points)(function)
