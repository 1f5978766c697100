"""What a function of the student's returned, kept where their code runs.

Answers reach a check as plain float32. Here it can ask for what is lost on the way: the type of the
numbers.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from helpers.checking import Object, Submission


class Kept:
    """Calls a function and keeps what it returned.

    Attributes:
        result: what it returned.
        keeps_graph: whether that carries the graph of its gradients.
        dtype: of what it returned, such as ``torch.float32``; "" if that is not a tensor.
    """

    def __init__(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        with torch.enable_grad():  # and as it was before, whatever the function switches off
            self.result = function(*args, **kwargs)
        self.keeps_graph = isinstance(self.result, Tensor) and self.result.requires_grad
        self.dtype = str(getattr(self.result, "dtype", ""))


def keep_result(submission: Submission, function: str, *args: Any, **kwargs: Any) -> Object:
    """A handle on a :class:`Kept` with what the student's ``function`` returned."""
    return submission.build(f"{__name__}.Kept", submission.object(function), *args, **kwargs)
