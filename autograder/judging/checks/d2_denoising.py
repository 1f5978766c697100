"""The checks of deliverable 2 that students cannot see."""

from autograder.judging.checks.common import (
    check_test_score,
    check_training_mode,
    expect_state_is_all,
)
from helpers.checking import Submission, check
from helpers.checks.common.architecture import decoded_images, expect_images_apart
from helpers.checks.common.images import random_images
from helpers.checks.d2_denoising.noise import D2
from helpers.checks.d2_denoising.result import errors
from helpers.checks.d2_denoising.training import trial


@check("architecture", points=2)
def images_do_not_influence_each_other(submission: Submission) -> None:
    """In evaluation mode, what comes out for an image does not depend on the others."""
    model = submission.new("DenoiseAE")
    expect_images_apart(random_images(6), lambda images: decoded_images(model, images))


@check("architecture", points=2)
def state_dict_holds_the_whole_model(submission: Submission) -> None:
    """All that the model has learned is in its two parts, and each parameter has a part in it."""
    expect_state_is_all(submission.new("DenoiseAE"), submission.new("DenoiseAE"))


check_training_mode(__name__, trial, points=2, lr=0.1)
check_test_score(
    __name__,
    errors,
    points=3,
    limit=D2["max_test_loss"],
    figure="MSE",
    formats=(".4f", ".4f"),
    word="error",
)
