"""Training loops that work with what the student's own model returns, and with nothing else."""

from collections.abc import Callable

from torch import Tensor

from helpers.checking import CheckFailedError, Object, StudentError
from helpers.checks.common.images import random_images
from helpers.checks.common.standin import is_right
from helpers.checks.common.trial import Trial


def fitting_trial(make: Callable[[str], Trial], new_model: Callable[[], Object]) -> Trial:
    """A trial of an autoencoder, whose model returns what the student's loop can take.

    That is the images alone. If forward returns more, that has cost its check already: a loop that
    takes just that is then tried with a model that returns as much.

    Args:
        make: creates a trial whose model gives something; see :class:`tiny.TinyAutoencoder`.
        new_model: creates a model of the student's.
    """
    gives = _given(new_model)
    if gives == "images" or is_right(make("images").epoch):
        return make("images")
    return make(gives)


def _given(new_model: Callable[[], Object]) -> str:
    """What forward returns, such as "images code"; "images" if there are none among several."""
    images = random_images(5)
    try:
        answer = new_model().call("", images)
    except (CheckFailedError, StudentError):
        return "images"
    parts = answer if isinstance(answer, list) else []
    kinds = [
        "images" if isinstance(part, Tensor) and part.numel() == images.numel() else "code"
        for part in parts
    ]
    return " ".join(kinds) if "images" in kinds else "images"
