"""The checks of deliverable 1 that students cannot see."""

from autograder.judging.checks.common import (
    check_test_score,
    check_training_mode,
    expect_state_is_all,
)
from helpers.checking import Submission, check, expect
from helpers.checks.common.architecture import decoded_images, expect_images_apart
from helpers.checks.common.images import random_images
from helpers.checks.d1_autoencoder import D1, errors, new_model, trial


@check("architecture", points=3)
def arguments_are_honoured(submission: Submission) -> None:
    """hidden_dim and latent_dim set the sizes of the layers."""

    def count(latent_dim: int, hidden_dim: int) -> int:
        model = new_model(submission, latent_dim, hidden_dim)
        return sum(tensor.numel() for tensor in model.parameters().values())

    few, more, wide = count(2, 16), count(7, 16), count(2, 48)
    expect(more > few, "latent_dim does not change the number of parameters.")
    expect(wide > few, "hidden_dim does not change the number of parameters.")


@check("architecture", points=2)
def images_do_not_influence_each_other(submission: Submission) -> None:
    """What comes out for an image does not depend on the others in its batch."""
    model = new_model(submission)
    expect_images_apart(random_images(6), lambda images: decoded_images(model, images))


@check("architecture", points=2)
def state_dict_holds_the_whole_model(submission: Submission) -> None:
    """All that the model has learned is in its two parts, and each parameter has a part in it."""
    expect_state_is_all(new_model(submission), new_model(submission))


check_training_mode(__name__, trial, points=3, lr=0.1)
check_test_score(
    __name__,
    errors,
    points=5,
    # The reference's is 1 to 2 percent above the training error; a model that has learned images by
    # heart doubles it.
    limit=D1["max_test_loss"],
    figure="MSE",
    formats=(".4f", ".4f"),
    word="error",
)
