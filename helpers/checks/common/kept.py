"""What a function of the student's returned, kept where their code runs.

Answers reach a check as plain float32. Here it can ask for what is lost on the way: the type of the
numbers.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from helpers.checking import Object, StudentError, Submission


class Kept:
    """Calls a function and keeps what it returned.

    Attributes:
        result: what it returned.
        keeps_graph: whether that carries the graph of its gradients.
    """

    def __init__(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        with torch.enable_grad():  # and as it was before, whatever the function switches off
            self.result = function(*args, **kwargs)
        self.keeps_graph = isinstance(self.result, Tensor) and self.result.requires_grad


def keep_result(submission: Submission, function: str, *args: Any) -> Object:
    """A handle on a :class:`Kept` with what the student's ``function`` returned."""
    return submission.build(f"{__name__}.Kept", submission.object(function), *args)


def n_bytes(kept: Object) -> int:
    """The number of bytes of one number in the tensor that was kept, or 0."""
    try:
        size = kept.call("result.element_size")
    except StudentError:
        return 0  # not a tensor
    return size if isinstance(size, int) else 0
