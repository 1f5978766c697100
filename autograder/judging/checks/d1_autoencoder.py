"""The checks of deliverable 1 that students cannot see."""

from torch import Tensor

from autograder.judging.checks.common import (
    check_test_score,
    check_training_mode,
    expect_state_is_all,
)
from helpers.checking import Object, Submission, check, expect
from helpers.checks.common.architecture import expect_images_apart
from helpers.checks.common.images import random_images
from helpers.checks.common.trial import mse_trial
from helpers.checks.d1_autoencoder import D1, errors, new_model


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
    expect_images_apart(random_images(6), lambda images: answer(model, images))


def answer(model: Object, images: Tensor) -> Tensor:
    """The output of a model in training mode."""
    return model.tensor("", images)


@check("architecture", points=2)
def state_dict_holds_the_whole_model(submission: Submission) -> None:
    """All that the model has learned is in its parameters, and each of them has a part in it."""
    first, second = new_model(submission), new_model(submission)
    expect(
        first.state().keys() == first.parameters().keys(),
        "The model keeps numbers that are not trainable parameters.",
    )
    expect_state_is_all(first, second, answer)


check_training_mode(__name__, mse_trial, points=3, lr=0.1)
check_test_score(
    __name__,
    errors,
    points=5,
    # The reference's is 1 to 2 percent above the training error; a model that has learned images by
    # heart doubles it.
    limit=1.15 * D1.max_loss,
    figure="MSE",
    formats=(".4f", ".4f"),
    word="error",
)
