"""The architecture of the variational autoencoders of deliverables 3 to 5, and their forward."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from helpers.checking import Object, Submission, close, expect, expect_tensors, fail
from helpers.checks.common.architecture import expect_all_used
from helpers.checks.common.images import random_images

INPUT_DIM, HIDDEN_DIM, LATENT_DIM = 784, 32, 6


def new_vae(
    submission: Submission,
    condition_dim: int = 0,
    latent_dim: int = LATENT_DIM,
    hidden_dim: int = HIDDEN_DIM,
) -> Object:
    """A fresh, small model of the student's class."""
    arguments = {"input_dim": INPUT_DIM, "hidden_dim": hidden_dim, "latent_dim": latent_dim}
    if condition_dim:
        arguments["conditional_vec_dim"] = condition_dim
    return submission.new("myVAE", **arguments)


def no_condition(_: int) -> None:
    """The condition of some number of images, where there is none."""


def encoder_input(images: Tensor, condition: Tensor | None) -> Tensor:
    """What the encoder takes: the images, or with a condition (N, 784 + C), the image first."""
    return images if condition is None else torch.cat([images.flatten(1), condition], dim=1)


def decoder_input(codes: Tensor, condition: Tensor | None) -> Tensor:
    """What the decoder takes: codes (N, Z), or with a condition (N, Z + C), the code first."""
    return codes if condition is None else torch.cat([codes, condition], dim=1)


def arguments(images: Tensor, condition: Tensor | None) -> tuple[Tensor, ...]:
    """The arguments of the model's forward."""
    return (images,) if condition is None else (images, condition)


def expect_encoder_shapes(model: Object, condition: Callable[[int], Tensor | None]) -> None:
    """Fail unless the encoder gives (N, hidden_dim).

    Args:
        condition: makes the conditions of some number of images.
    """
    for n_images in (7, 1):
        inputs = encoder_input(random_images(n_images), condition(n_images))
        model.tensor(
            "encoder",
            inputs,
            shape=(n_images, HIDDEN_DIM),
            what=f"For an input of shape {tuple(inputs.shape)} and hidden_dim={HIDDEN_DIM}, the "
            "encoder's output",
            hint="nn.Flatten() comes first, and the last Linear layer has hidden_dim outputs.",
        )


def expect_head_shapes(model: Object) -> None:
    """Fail unless mu_layer and logvar_layer are Linear, (N, hidden_dim) -> (N, latent_dim)."""
    for name in ("mu_layer", "logvar_layer"):
        outermost = model.layers(name)[0]
        expect(
            outermost.type_name == "Linear",
            f"model.{name} should be an nn.Linear, but it is a {outermost.type_name}.",
            "Means and log variances may be any numbers: no activation behind them.",
        )
        for n_images in (7, 1):
            hidden = torch.randn(n_images, HIDDEN_DIM)
            model.tensor(name, hidden, shape=(n_images, LATENT_DIM), what=f"{name}'s output")


def expect_decoder_shapes(model: Object, condition: Callable[[int], Tensor | None]) -> None:
    """Fail unless the decoder gives (N, 1, 28, 28)."""
    for n_images in (7, 1):
        inputs = decoder_input(torch.randn(n_images, LATENT_DIM), condition(n_images))
        model.tensor(
            "decoder",
            inputs,
            shape=(n_images, 1, 28, 28),
            what=f"For an input of shape {tuple(inputs.shape)}, the decoder's output",
            hint="Bring the 784 numbers into an image with nn.Unflatten(1, (1, 28, 28)).",
        )


def forward(
    model: Object, images: Tensor, condition: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """What forward returns, images (N, 1, 28, 28), mu (N, Z) and logvar (N, Z), or fail."""
    code = len(images), LATENT_DIM
    x_hat, mu, logvar = expect_tensors(
        model.call("", *arguments(images, condition)),
        {"x_hat": (len(images), 1, 28, 28), "mu": code, "logvar": code},
        "forward should return x_hat, mu, logvar, but it returned {got}.",
        what="The {} that forward returns",
    )
    return x_hat, mu, logvar


def expect_forward_parameters(model: Object, condition: Tensor | None, n_images: int = 5) -> None:
    """Fail unless forward returns the mu and logvar that the layers give."""
    images = random_images(n_images)
    _, mu, logvar = forward(model, images, condition)
    inputs = encoder_input(images, condition)
    hidden = model.tensor("encoder", inputs, what="The encoder's output")
    right_mu = model.tensor("mu_layer", hidden)
    right_logvar = model.tensor("logvar_layer", hidden)
    if close(mu, right_mu) and close(logvar, right_logvar):
        return
    hint = "Return the tensors that the two layers gave."
    if close(mu, right_logvar) and close(logvar, right_mu):
        hint = "They are swapped."
    elif condition is not None:
        hint = "Flatten the images and put the condition behind them: torch.cat([x, c], dim=1)."
    fail(
        "The mu and logvar that forward returns are not mu_layer(h) and logvar_layer(h), with h "
        "the encoder's output.",
        hint,
    )


def still(model: Object) -> None:
    """Make a model's spread zero (e^-20), so that the code is the mean."""
    _set_log_variance(model, -40.0)


def _set_log_variance(model: Object, value: float) -> None:
    """Make a model answer with one log variance for every image."""
    state = model.state("logvar_layer")
    expect("bias" in state, "logvar_layer should have a bias.")
    model.load(
        {k: torch.full_like(v, value if k == "bias" else 0.0) for k, v in state.items()},
        "logvar_layer",
    )


def expect_forward_decodes(model: Object, condition: Tensor | None) -> None:
    """Fail unless forward decodes samples around mu: one at mu itself where the spread is zero."""
    still(model)
    images = random_images(5)
    x_hat, mu, _ = forward(model, images, condition)
    decoded = model.tensor("decoder", decoder_input(mu, condition))
    if not close(x_hat, decoded, 1e-3):
        hint = "With no spread, z is mu."
        if condition is not None:
            hint = "Put the condition behind the code: torch.cat([z, c], dim=1)."
            if close(x_hat, model.tensor("decoder", torch.cat([condition, mu], dim=1)), 1e-3):
                hint = "The code comes first and the condition behind it, and not the other way."
        fail("With a very small variance, forward does not return decoder(mu).", hint)
    # The spread, without trusting any single draw: the variance of many pixels over many draws.
    _set_log_variance(model, 1.0)
    n_draws = 2000
    same = random_images(1).expand(n_draws, -1, -1, -1).contiguous()
    same_condition = None if condition is None else condition[:1].expand(n_draws, -1).contiguous()
    x_hat, mu, logvar = forward(model, same, same_condition)
    z = mu + torch.exp(logvar / 2) * torch.randn_like(mu)
    expect_samples_decoded(x_hat, model.tensor("decoder", decoder_input(z, same_condition)))


def expect_samples_decoded(x_hat: Tensor, decoded: Tensor) -> None:
    """Fail unless forward's images vary as much as decoded samples do.

    Args:
        x_hat: (N, ...), what forward returned for one image, many times over.
        decoded: the same, decoded from samples drawn here.
    """
    ratio = float(x_hat.var(dim=0).sum() / decoded.var(dim=0).sum())
    expect(
        0.75 < ratio < 1.33,
        f"The variance of forward's images is {ratio:.2f} times that of decoded samples from "
        "N(mu, exp(logvar)).",
        "Is z = reparameterize(mu, logvar) what is decoded?",
    )


def expect_every_part_used(model: Object, condition: Tensor | None) -> None:
    """Fail if a parameter has no part in the image that forward returns for five images."""
    inputs, weights = arguments(random_images(5), condition), torch.randn(5, 1, 28, 28)
    expect_all_used(model.differentiate("", *inputs, weights=weights, pick=0).parameters)
