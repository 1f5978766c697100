"""The checks of deliverable 1 that students do not see."""

from __future__ import annotations

import torch

from helpers.check import check
from helpers.checks.common import expect_all_used, expect_images_apart, random_images
from helpers.checks.d1_autoencoder import D1, new_model, reconstruction_errors, trial
from helpers.checks.trial import expect_training_mode
from helpers.expect import close, expect
from helpers.submission import Submission


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
    images = random_images(6)
    together = model.tensor("", images)
    expect_images_apart(together, lambda number: model.tensor("", images[number : number + 1]))


@check("architecture", points=2)
def state_dict_holds_the_whole_model(submission: Submission) -> None:
    """All that the model has learned is in its parameters, and each of them has a part in it."""
    first, second = new_model(submission), new_model(submission)
    state = first.state()
    expect(
        state.keys() == first.parameters().keys(),
        "The model keeps numbers that are not trainable parameters.",
    )
    second.load(state)
    images = random_images(5)
    expect(
        close(first.tensor("", images), second.tensor("", images)),
        "Two models with the same parameters give different outputs.",
        "Are layers kept in a plain list, or is there something random in forward?",
    )
    expect_all_used(first.differentiate("", images, weights=torch.randn(5, 1, 28, 28)).parameters)


@check("training", points=3)
def model_is_in_training_mode(submission: Submission) -> None:
    """train_epoch trains with the model in training mode, whatever mode it was in before."""
    expect_training_mode(trial(submission, lr=0.1))


@check("result", points=5)
def test_error_is_close_to_training_error(submission: Submission) -> str:
    """The model does on new digits nearly what it does on those it was trained on."""
    errors = reconstruction_errors(submission)
    # The reference's is 1 to 2 percent above; a model that has learned images by heart doubles it.
    limit = 1.15 * D1.max_loss
    expect(
        errors.test < limit,
        f"Test MSE {errors.test:.4f} (training {errors.training:.4f}); "
        f"it must be below {limit:.4f}.",
    )
    return f"Test MSE {errors.test:.4f}, training {errors.training:.4f}."
