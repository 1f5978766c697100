"""The checks of deliverable 1 that students do not see."""

from __future__ import annotations

import torch

from helpers.check import check
from helpers.checks.d1_autoencoder import (
    D1,
    Trial,
    new_model,
    random_images,
    reconstruction_errors,
)
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
    for number in range(len(images)):
        alone = model.tensor("", images[number : number + 1])
        expect(
            together.ndim > 0 and close(together[number : number + 1], alone),
            "The output for an image changes with the other images of its batch.",
            "Is the batch axis flattened away, or normalised over?",
        )


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
    gradients = first.gradients("", images, torch.randn(5, 1, 28, 28))
    idle = [name for name, gradient in gradients.items() if gradient is None]
    expect(not idle, f"These parameters have no part in the output: {', '.join(idle[:3])}.")


@check("training", points=3)
def model_is_in_training_mode(submission: Submission) -> None:
    """train_epoch trains with the model in training mode, whatever mode it was in before."""
    trial = Trial(submission, lr=0.1)
    trial.model.call("eval")
    trial.epoch()
    modes = trial.model.get("recorder.was_training")
    expect(
        isinstance(modes, list) and bool(modes) and all(mode is True for mode in modes),
        "The model was in evaluation mode, or without gradients, during the training.",
        "Call model.train() at the start of train_epoch.",
    )


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
