"""Hidden checks that several deliverables have in common."""

import torch
from torch import Tensor

from helpers.checking import Object, Submission, close, expect
from helpers.checks.common.architecture import (
    decoded_images,
    encode_images,
    encoder_takes,
    expect_all_used,
)
from helpers.checks.common.declaring import declare
from helpers.checks.common.images import random_images
from helpers.checks.common.results import Measure
from helpers.checks.common.training import expect_training_mode
from helpers.checks.common.trial import MakeTrial


def expect_state_is_all(first: Object, second: Object) -> None:
    """Fail unless an autoencoder's two parts are all that it keeps, and use all of it.

    ``first`` and ``second`` are fresh models of one class.
    """
    state = first.state()
    # With other numbers everywhere, those that are equal are one tensor under two names.
    first.load({k: torch.rand_like(v) if v.is_floating_point() else v for k, v in state.items()})
    marked, parts = first.state(), [first.state(part) for part in ("encoder", "decoder")]
    inside = [value for part in parts for value in part.values()]
    outside = [name for name, value in marked.items() if not _among(value, inside)]
    learning = list(first.parameters().values())
    frozen = [
        name
        for name, value in marked.items()
        if name.endswith((".weight", ".bias")) and not _among(value, learning)
    ]
    first.load(state)
    expect(
        not outside,
        f"The model keeps numbers outside of its encoder and decoder: {', '.join(outside[:3])}.",
    )
    expect(not frozen, f"These parameters are frozen (requires_grad): {', '.join(frozen[:3])}.")
    second.load(state)
    images = random_images(5)
    expect(
        close(decoded_images(first, images), decoded_images(second, images)),
        "Two models with the same parameters give different outputs.",
        "Are layers kept in a plain list, or is there something random in the layers?",
    )
    codes = encode_images(first, images)
    inputs = {"encoder": encoder_takes(first, images), "decoder": codes}
    for part, given in inputs.items():
        expect_all_used(first.differentiate(part, given).parameters)


def _among(value: Tensor, others: list[Tensor]) -> bool:
    return any(value.dtype == other.dtype and torch.equal(value, other) for other in others)


def check_training_mode(module: str, trial: MakeTrial, *, points: float, lr: float) -> None:
    """Declare ``model_is_in_training_mode``."""

    def mode(submission: Submission) -> None:
        expect_training_mode(trial(submission, lr))

    title = "train_epoch trains with the model in training mode, whatever mode it was in before."
    declare(module, "training", points, "model_is_in_training_mode", title, mode)


def check_test_score(
    module: str,
    scores: Measure,
    *,
    points: float,
    limit: float,
    figure: str = "loss",
    formats: tuple[str, str] = (".1f", ".0f"),
    unit: str = "",
    word: str = "loss",
    images: str = "digits",
) -> None:
    """Declare ``test_loss_is_close_to_training_loss``: the loss on new images is below ``limit``.

    Args:
        figure: the name of what is measured, such as "MSE".
        formats: of the losses and of the limit.
        unit: what follows in the note, such as ``" nats per image"``.
        word: "loss" or "error", for the name of the check.
        images: "digits" or "images", for the title.
    """

    def generalises(submission: Submission) -> str:
        found = scores(submission)
        test, training = (format(loss, formats[0]) for loss in (found.test, found.training))
        expect(
            found.test < limit,
            f"Test {figure} {test} (training {training}); it must be below {limit:{formats[1]}}.",
        )
        return f"Test {figure} {test}, training {training}{unit}."

    title = f"The model does on new {images} nearly what it does on those it was trained on."
    declare(
        module, "result", points, f"test_{word}_is_close_to_training_{word}", title, generalises
    )
