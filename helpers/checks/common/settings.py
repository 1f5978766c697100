"""The settings of a notebook: sizes, epochs, the optimiser and the model's budget."""

import torch
from torch import Tensor

from helpers.checking import Submission, deliverable_in, expect, fail
from helpers.checks.common.declaring import declare
from helpers.deliverables import Deliverable

#: Adam and its variants.
ADAMS = ("Adam", "AdamW", "NAdam", "RAdam", "Adamax")


def expect_whole_numbers(submission: Submission, *names: str) -> dict[str, int]:
    """The values of the settings ``names``; fail unless each is a whole number of at least 1."""
    values = {}
    for name in names:
        value = submission.number(name)
        if isinstance(submission.get(name), float) and value == int(value):
            fail(
                f"`{name}` is {value}, a float; it should be a whole number: {int(value)}.",
                "Write it without a decimal point or exponent, and divide with //.",
            )
        expect(
            value >= 1 and value == int(value),
            f"`{name}` should be a whole number of at least 1, but it is {value:g}.",
        )
        values[name] = int(value)
    return values


def expect_epochs(n_epochs: int, deliverable: Deliverable) -> None:
    """Fail if there are more epochs than allowed."""
    expect(
        n_epochs <= deliverable.max_epochs,
        f"`n_epochs` is {n_epochs}; at most {deliverable.max_epochs} are allowed.",
    )


def within_budget(tensors: dict[str, Tensor], deliverable: Deliverable) -> str:
    """A note on the number of parameters in ``tensors``; fail if there are too many."""
    count = sum(tensor.numel() for tensor in tensors.values())
    text = f"{count:,} parameters; at most {deliverable.max_parameters:,} are allowed."
    expect(count > 0, "The model has no parameters.", "Are its layers kept in a plain list?")
    expect(count <= deliverable.max_parameters, text, "Choose fewer or narrower layers.")
    return text


def without_running_statistics(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict without BatchNorm's running averages, which are no parameters."""

    def is_statistic(name: str) -> bool:
        layer, _, kind = name.rpartition(".")
        if kind == "num_batches_tracked":
            return state[name].numel() == 1
        mean, variance = state.get(f"{layer}.running_mean"), state.get(f"{layer}.running_var")
        if kind not in ("running_mean", "running_var") or mean is None or variance is None:
            return False
        weight = state.get(f"{layer}.weight", mean)  # there is none with affine=False
        return mean.ndim == 1 and mean.shape == variance.shape == weight.shape

    return {name: value for name, value in state.items() if not is_statistic(name)}


def learned(checkpoint: dict[str, Tensor]) -> dict[str, Tensor]:
    """The parameters in a checkpoint, each once: a layer of two names in its model is there twice.

    A second tensor of the same numbers holds nothing that the first does not.
    """
    kept: dict[str, Tensor] = {}
    for name, value in without_running_statistics(checkpoint).items():
        if not any(value.dtype == one.dtype and torch.equal(value, one) for one in kept.values()):
            kept[name] = value
    return kept


def expect_adam(submission: Submission, optimizer: str = "optimizer", model: str = "model") -> None:
    """Fail unless the optimiser is Adam (or a variant) and updates every parameter of the model."""
    the_optimizer, the_model = submission.object(optimizer), submission.object(model)
    expect(
        the_optimizer.type_name != "type",
        f"`{optimizer}` is a class, and not yet an optimizer.",
        "Make one of it: optim.Adam(model.parameters(), lr=1e-3).",
    )
    expect(
        the_optimizer.type_name in ADAMS,
        f"`{optimizer}` is of type {the_optimizer.type_name}; use torch.optim.Adam.",
    )
    held, count = the_optimizer.holds(the_model), len(the_model.parameters())
    expect(count > 0, f"`{model}` has no parameters.", "Are its layers kept in a plain list?")
    expect(
        held >= count,
        f"The optimizer updates {held} of the {count} parameter tensors of `{model}`.",
        f"Give it {model}.parameters(). Was the model built again after the optimizer? Then run "
        "this cell again, too."
        if held == 0
        else f"Give it {model}.parameters(), which are all of them.",
    )


def expect_vae_settings(submission: Submission, deliverable: Deliverable) -> None:
    """Fail unless the settings of a variational autoencoder are within the limits."""
    values = expect_whole_numbers(submission, "latent_dim", "hidden_dim", "batch_size", "n_epochs")
    low, high = int(deliverable["min_latent_dim"]), int(deliverable["max_latent_dim"])
    latent_dim = values["latent_dim"]
    expect(
        low <= latent_dim <= high,
        f"`latent_dim` is {latent_dim}; hand in a model with {low} to {high}.",
    )
    expect_epochs(values["n_epochs"], deliverable)


def check_model_budget(module: str, *, points: float) -> None:
    """Declare ``model_is_within_its_budget``, about the notebook's ``model``."""

    def budget(submission: Submission) -> str:
        parameters = submission.object("model").parameters()
        return within_budget(parameters, deliverable_in(module))

    title = "`model` has no more trainable parameters than allowed."
    declare(module, "settings", points, "model_is_within_its_budget", title, budget)
