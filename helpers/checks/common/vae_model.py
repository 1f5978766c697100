"""The variational autoencoders of deliverables 3 to 5: their layers and their forward method."""

from collections.abc import Callable

import torch
from torch import Tensor

from helpers.checking import Object, Submission, close, expect, expect_tensors, fail
from helpers.checks.common.architecture import expect_all_used
from helpers.checks.common.images import random_images

INPUT_DIM, HIDDEN_DIM, LATENT_DIM = 784, 32, 6


def new_vae(submission: Submission, condition_dim: int = 0) -> Object:
    """A fresh, small model of the student's class."""
    sizes = {"input_dim": INPUT_DIM, "hidden_dim": HIDDEN_DIM, "latent_dim": LATENT_DIM}
    if condition_dim:
        sizes["conditional_vec_dim"] = condition_dim
    return submission.new("myVAE", **sizes)


def no_condition(_: int) -> None:
    """The condition of a model without conditions."""


def with_condition(x: Tensor, condition: Tensor | None) -> Tensor:
    """``x``, or with a condition (N, C) its rows followed by those of the condition."""
    return x if condition is None else torch.cat([x.flatten(1), condition], dim=1)


def expect_encoder_shapes(
    model: Object, condition: Callable[[int], Tensor | None] = no_condition
) -> None:
    """Fail unless the encoder returns (N, hidden_dim); ``condition`` makes those of N images."""
    for n_images in (7, 1):
        inputs = with_condition(random_images(n_images), condition(n_images))
        model.tensor(
            "encoder",
            inputs,
            shape=(n_images, HIDDEN_DIM),
            what=f"For an input of shape {tuple(inputs.shape)} and hidden_dim={HIDDEN_DIM}, the "
            "encoder's output",
            hint="nn.Flatten() comes first, and the last Linear layer has hidden_dim outputs.",
        )


def expect_linear(model: Object, name: str) -> None:
    """Fail unless mu_layer or logvar_layer is an nn.Linear."""
    outermost = model.layers(name)[0]
    expect(
        outermost.type_name == "Linear",
        f"model.{name} should be an nn.Linear, but it is a {outermost.type_name}.",
        "Means and log variances may be any numbers: no activation behind them.",
    )


def expect_head_shapes(model: Object) -> None:
    """Fail unless mu_layer and logvar_layer are Linear, (N, hidden_dim) -> (N, latent_dim)."""
    for name in ("mu_layer", "logvar_layer"):
        expect_linear(model, name)
        for n_images in (7, 1):
            hidden = torch.randn(n_images, HIDDEN_DIM)
            model.tensor(name, hidden, shape=(n_images, LATENT_DIM), what=f"{name}'s output")


def expect_decoder_shapes(
    model: Object, condition: Callable[[int], Tensor | None] = no_condition
) -> None:
    """Fail unless the decoder returns (N, 1, 28, 28)."""
    for n_images in (7, 1):
        inputs = with_condition(torch.randn(n_images, LATENT_DIM), condition(n_images))
        model.tensor(
            "decoder",
            inputs,
            shape=(n_images, 1, 28, 28),
            what=f"For an input of shape {tuple(inputs.shape)}, the decoder's output",
            hint="Bring the 784 numbers into an image with nn.Unflatten(1, (1, 28, 28)).",
        )


def given(images: Tensor, condition: Tensor | None) -> tuple[Tensor, ...]:
    """The arguments of the model's forward."""
    return (images,) if condition is None else (images, condition)


def forward(model: Object, images: Tensor, condition: Tensor | None = None) -> list[Tensor]:
    """What forward returns, images (N, 1, 28, 28), mu (N, Z) and logvar (N, Z), or fail."""
    code = len(images), LATENT_DIM
    return expect_tensors(
        model.call("", *given(images, condition)),
        {"x_hat": (len(images), 1, 28, 28), "mu": code, "logvar": code},
        "forward should return x_hat, mu, logvar, but it returned {got}.",
        what="The {} that forward returns",
    )


def expect_forward_parameters(model: Object, condition: Tensor | None = None) -> None:
    """Fail unless forward returns the outputs of mu_layer and logvar_layer."""
    images = random_images(5)
    _, mu, logvar = forward(model, images, condition)
    inputs = with_condition(images, condition)
    hidden = model.tensor("encoder", inputs, what="The encoder's output")
    right_mu, right_logvar = (model.tensor(name, hidden) for name in ("mu_layer", "logvar_layer"))
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


def still(model: Object, log_variance: float = -40.0) -> None:
    """Make a model return one log variance for all images; by default the spread is almost zero."""
    state = model.state("logvar_layer")
    expect("bias" in state, "logvar_layer should have a bias.")
    values = {"bias": log_variance}
    state = {k: torch.full_like(v, values.get(k, 0.0)) for k, v in state.items()}
    model.load(state, "logvar_layer")


def expect_forward_decodes(model: Object, condition: Tensor | None = None) -> None:
    """Fail unless forward decodes samples: mu itself if the spread is zero, else around it."""
    still(model)
    images = random_images(5)
    x_hat, mu, _ = forward(model, images, condition)
    decoded = model.tensor("decoder", with_condition(mu, condition))
    if not close(x_hat, decoded, 1e-3):
        hint = "With no spread, z is mu."
        if condition is not None:
            hint = "Put the condition behind the code: torch.cat([z, c], dim=1)."
            if close(x_hat, model.tensor("decoder", torch.cat([condition, mu], dim=1)), 1e-3):
                hint = "The code comes first and the condition behind it, and not the other way."
        fail("With a very small variance, forward does not return decoder(mu).", hint)
    # The spread is measured as the variance of all pixels over many samples.
    still(model, 1.0)
    n_draws = 2000
    same = random_images(1).expand(n_draws, -1, -1, -1).contiguous()
    same_condition = None if condition is None else condition[:1].expand(n_draws, -1).contiguous()
    x_hat, mu, logvar = forward(model, same, same_condition)
    z = mu + torch.exp(logvar / 2) * torch.randn_like(mu)
    expect_samples_decoded(x_hat, model.tensor("decoder", with_condition(z, same_condition)))


def expect_samples_decoded(x_hat: Tensor, decoded: Tensor) -> None:
    """Fail unless what forward returns for one image, N times, varies like decoded samples."""
    ratio = float(x_hat.var(dim=0).sum() / decoded.var(dim=0).sum())
    expect(
        0.75 < ratio < 1.33,
        f"The variance of forward's images is {ratio:.2f} times that of decoded samples from "
        "N(mu, exp(logvar)).",
        "Is z = reparameterize(mu, logvar) what is decoded?",
    )


def expect_every_part_used(model: Object, condition: Tensor | None = None) -> None:
    """Fail if the images that forward returns do not depend on one of the parameters."""
    inputs, weights = given(random_images(5), condition), torch.randn(5, 1, 28, 28)
    expect_all_used(model.differentiate("", *inputs, weights=weights, pick=0).parameters)
