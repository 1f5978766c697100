"""The checks of deliverable 2 that students do not see."""

from __future__ import annotations

import torch

from helpers.check import check
from helpers.checks.common import expect_all_used, expect_images_apart, random_images
from helpers.checks.d2_denoising import D2, denoising_errors, trial
from helpers.checks.trial import expect_training_mode
from helpers.expect import close, expect
from helpers.submission import Submission


@check("architecture", points=2)
def images_do_not_influence_each_other(submission: Submission) -> None:
    """In evaluation mode, what comes out for an image does not depend on the others."""
    model = submission.new("DenoiseAE")
    images, what = random_images(6), "The output of forward"
    together = model.apply("", images, what=what)
    expect_images_apart(
        together, lambda number: model.apply("", images[number : number + 1], what=what)
    )


@check("architecture", points=2)
def state_dict_holds_the_whole_model(submission: Submission) -> None:
    """All that the model has learned is in its state dict, and each parameter has a part in it."""
    first, second = submission.new("DenoiseAE"), submission.new("DenoiseAE")
    second.load(first.state())
    images, what = random_images(5), "The output of forward"
    expect(
        close(first.apply("", images, what=what), second.apply("", images, what=what)),
        "Two models with the same parameters give different outputs.",
        "Are layers kept in a plain list, or is there something random in forward?",
    )
    expect_all_used(first.differentiate("", images, weights=torch.randn(5, 1, 28, 28)).parameters)


@check("training", points=2)
def model_is_in_training_mode(submission: Submission) -> None:
    """train_epoch trains with the model in training mode, whatever mode it was in before."""
    expect_training_mode(trial(submission, lr=0.1))


@check("result", points=3)
def test_error_is_close_to_training_error(submission: Submission) -> str:
    """The model does on new digits nearly what it does on those it was trained on."""
    errors = denoising_errors(submission)
    limit = 1.1 * D2.max_loss
    expect(
        errors.test < limit,
        f"Test MSE {errors.test:.4f} (training {errors.training:.4f}); "
        f"it must be below {limit:.4f}.",
    )
    return f"Test MSE {errors.test:.4f}, training {errors.training:.4f}."
