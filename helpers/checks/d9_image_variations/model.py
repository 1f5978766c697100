"""The checks of the model: its sizes, its draws, its forward."""

import torch
from torch import Tensor

from helpers.checking import (
    Object,
    StudentError,
    Submission,
    check,
    close,
    expect,
    expect_close,
    expect_tensors,
    fail,
    likely_cause,
)
from helpers.checks.common.architecture import (
    computed,
    expect_black_to_white,
    expect_kept,
    layer_name,
)
from helpers.checks.common.conduct import with_the_same_draws
from helpers.checks.common.sampling import check_sampling
from helpers.checks.common.vae_model import expect_gradients_kept, expect_two_heads
from helpers.deliverables import get

D9 = get("d9_image_variations")
LATENT_DIM = 7


def halved(size: int, times: int) -> int:
    """The side that is left of ``size`` pixels after some strided convolutions."""
    for _ in range(times):
        size = (size + 1) // 2
    return size


def new_vae(submission: Submission, image_size: int, hidden_dims: tuple[int, ...]) -> Object:
    """A fresh model of the student's class, in evaluation mode."""
    model = submission.new(
        "VAE", image_size=image_size, latent_dim=LATENT_DIM, hidden_dims=list(hidden_dims)
    )
    model.call("eval")
    return model


def pictures(n_images: int, size: int = 20) -> Tensor:
    """(n_images, 3, size, size) in [0, 1], different at each call."""
    return torch.rand(n_images, 3, size, size)


#: Image sizes and widths: small ones, and others for models that work with their numbers alone.
_WORKING = ((20, (4, 6)), (150, (3, 4, 5, 6, 8)), (150, (32, 64, 128, 256, 512)))


def working_vae(submission: Submission) -> tuple[Object, int]:
    """A fresh model in evaluation mode, and its image size: 20, or 150 if only that works.

    Sizes that are written into the code cost the points of the sizes, and no others.
    """
    for size, widths in _WORKING:
        try:
            model = new_vae(submission, size, widths)
            model.call("", pictures(2, size))
        except StudentError:
            continue
        return model, size
    size, widths = _WORKING[0]
    return new_vae(submission, size, widths), size


#: Sizes of images, and widths of blocks, on which models are tried out. Odd and even sides come in
#: every order, and the real size is among them.
CASES = ((150, (3, 4, 5, 6, 8)), (97, (4, 5, 6)), (64, (3, 5)), (46, (2, 4, 6, 3)))
#: A model with one block alone, of which only one check makes use.
ONE_BLOCK = (33, (5,))


@check("architecture", points=4)
def encoder_halves_the_image(submission: Submission) -> None:
    """The encoder maps images to (N, F): F numbers are left of the side halved by each block."""
    for size, widths in CASES:
        side = halved(size, len(widths))
        model = new_vae(submission, size, widths)
        for n_images in (3, 1):
            model.tensor(
                "encoder",
                pictures(n_images, size),
                shape=(n_images, widths[-1] * side**2),
                what=f"For image_size={size} and hidden_dims={widths}, the encoder's output",
                hint=f"{len(widths)} strided convolutions leave a side of {side}, with "
                f"{widths[-1]} channels; nn.Flatten() comes last.",
            )


def _expect_head(model: Object, name: str) -> None:
    """Fail unless mu_layer or logvar_layer applies one linear layer, and nothing else."""
    weights = [value for value in model.state(name).values() if value.ndim == 2]
    if not weights:
        fail(f"model.{name} should be an nn.Linear.")
    hidden = torch.randn(4, weights[0].shape[1])
    model.tensor(name, hidden, shape=(4, LATENT_DIM), what=f"{name}'s output")
    layers = [layer_name(step) for step in computed(model, name, hidden)]
    expect(
        layers == ["Linear"],
        f"model.{name} should be one nn.Linear, but it applies {', '.join(layers)}.",
        "Means and log variances may be any numbers: no activation after them."
        if layers[:1] == ["Linear"] and layers.count("Linear") == 1
        else "",
    )


@check("architecture", points=2)
def heads_are_linear(submission: Submission) -> None:
    """mu_layer and logvar_layer are Linear and map (N, F) to (N, latent_dim)."""
    model, _ = working_vae(submission)
    for name in ("mu_layer", "logvar_layer"):
        _expect_head(model, name)


@check("architecture", points=3)
def decoder_comes_back_to_the_size(submission: Submission) -> None:
    """The decoder maps codes (N, latent_dim) to images of exactly 150 by 150 pixels."""
    _expect_decoded_size(submission, *CASES[0])


@check("architecture", points=2)
def decoder_comes_back_to_every_size(submission: Submission) -> None:
    """The decoder's images have the size that went in for every image_size and hidden_dims."""
    for size, widths in (*CASES[1:], ONE_BLOCK):
        _expect_decoded_size(submission, size, widths)


def _expect_decoded_size(submission: Submission, size: int, widths: tuple[int, ...]) -> None:
    """Fail unless the decoder gives images of the right size, however many."""
    model = new_vae(submission, size, widths)
    for n_images in (3, 1):
        codes = torch.randn(n_images, LATENT_DIM)
        found = model.tensor("decoder", codes, what="The decoder's output")
        if tuple(found.shape) == (n_images, 3, size, size):
            continue
        doubled = less = halved(size, len(widths))
        for _ in widths:
            doubled, less = 2 * doubled, 2 * less - 1
        side = found.shape[-1] if found.ndim == 4 else 0
        hint = "output_padding is 1 where the side that it leads to is even, and 0 where odd."
        if found.ndim != 4:
            hint = "nn.Unflatten makes (N, channels, side, side) of what the linear layer gives."
        elif found.shape[1] != 3:
            hint = "The last transposed convolution has 3 channels."
        elif side == doubled:
            hint = "output_padding=1 doubles each side: it must be 0 where the side is odd."
        elif side == less:
            hint = "output_padding must be 1 where the side is even."
        elif size != 150:
            hint += " Compute it from image_size."
        fail(
            f"For image_size={size} and hidden_dims={widths} the decoder gives "
            f"{tuple(found.shape)}; it should give {(n_images, 3, size, size)}.",
            hint,
        )


@check("architecture", points=2)
def outputs_reach_from_black_to_white(submission: Submission) -> None:
    """The decoder ends in one Sigmoid: pixels lie in [0, 1] and can reach both ends."""
    model, _ = working_vae(submission)
    state = model.state("decoder")
    # Without the biases: otherwise that of the last layer alone may decide all pixels.
    state |= {name: 0 * value for name, value in state.items() if name.endswith("bias")}
    model.load(state, "decoder")
    expect_black_to_white(model, 10 * torch.randn(50, LATENT_DIM))


@check("forward", points=1)
def forward_keeps_what_it_is_given(submission: Submission) -> None:
    """forward and reparameterize leave the tensors that they are given as they are."""
    model, size = working_vae(submission)
    expect_kept(model, "reparameterize", torch.randn(4, 5), torch.randn(4, 5))
    expect_kept(model, "", pictures(2, size))


check_sampling(
    __name__,
    lambda submission: working_vae(submission)[0],
    cell="forward",
    points=(3, 2, 2),
    title="reparameterize(mu, logvar) draws from the normal distribution N(mu, exp(logvar)).",
)


def forward(model: Object, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What forward returns, x_hat like the images, mu (N, Z) and logvar (N, Z), or fail."""
    code = len(images), LATENT_DIM
    x_hat, mu, logvar = expect_tensors(
        model.call("", images),
        {"x_hat": None, "mu": code, "logvar": code},
        "forward should return x_hat, mu, logvar, but it returned {got}.",
        what="The {} that forward returns",
    )
    return x_hat, mu, logvar


@check("forward", points=2)
def forward_returns_what_the_layers_give(submission: Submission) -> None:
    """forward(x) returns x_hat, mu, logvar, and these are mu_layer and logvar_layer of x."""
    model, size = working_vae(submission)
    images = pictures(4, size)
    _, mu, logvar = forward(model, images)
    right = torch.stack(heads(model, images))
    expect_close(
        torch.stack([mu, logvar]),
        right,
        "The mu and logvar that forward returns are not mu_layer(h) and logvar_layer(h), with h "
        "the encoder's output.",
        {
            "They are swapped.": right.flip(0),
            "Both are mu_layer(h).": right[:1].expand_as(right),
            "Both are logvar_layer(h).": right[1:].expand_as(right),
            "There is an activation after mu_layer.": torch.stack([right[0].relu(), right[1]]),
            "There is an activation after both.": right.relu(),
            "What is returned as logvar is its exponential.": torch.stack(
                [right[0], right[1].exp()]
            ),
            "What is returned as logvar is the standard deviation.": torch.stack(
                [right[0], torch.exp(right[1] / 2)]
            ),
        },
    )
    expect_two_heads(mu, logvar)
    expect_gradients_kept(model, (images,))
    # In training mode, with the same Dropout.
    model.call("train")
    found, right = with_the_same_draws(
        model.submission,
        lambda: torch.stack(forward(model, images)[1:]),
        lambda: torch.stack(heads(model, images)),
    )
    expect(
        close(found, right, 1e-3),
        "In training mode the mu and logvar that forward returns are not mu_layer(h) and "
        "logvar_layer(h), with h the encoder's output.",
        "forward should do the same in both modes.",
    )


def heads(model: Object, images: Tensor) -> list[Tensor]:
    """What mu_layer and logvar_layer make of images, (N, latent_dim) each."""
    hidden = model.tensor("encoder", images, what="The encoder's output")
    expect(hidden.ndim > 1, f"The encoder's output has shape {tuple(hidden.shape)}.")
    hidden = hidden.flatten(1)  # its shape is another check's matter
    shape = len(images), LATENT_DIM
    return [
        model.tensor(name, hidden, shape=shape, what=f"{name}'s output")
        for name in ("mu_layer", "logvar_layer")
    ]


def still(model: Object, images: Tensor, log_variance: float) -> None:
    """Make logvar_layer give ``log_variance`` for images that are all the same."""
    state = model.state("logvar_layer")
    weight = next((name for name, value in state.items() if value.ndim == 2), "")
    bias = next((name for name, value in state.items() if value.ndim == 1), "")
    if not weight:
        fail("model.logvar_layer should be an nn.Linear.")
    values = {name: torch.zeros_like(value) for name, value in state.items()}
    if bias:
        values[bias] += log_variance
    else:
        hidden = model.tensor("encoder", images[:1], what="The encoder's output").flatten()
        if len(hidden) == values[weight].shape[1] and bool(hidden.any()):
            values[weight] += log_variance * hidden / hidden.square().sum()
    model.load(values, "logvar_layer")


@check("forward", points=2)
def forward_decodes_a_sample(submission: Submission) -> None:
    """The image that forward returns is decoded from reparameterize(mu, logvar)."""
    model, size = working_vae(submission)
    n_draws = 400 if size < 100 else 100
    images = pictures(1, size).expand(n_draws, -1, -1, -1).contiguous()
    # Larger means, because a new decoder hardly tells small codes apart.
    model.load({name: 20 * v for name, v in model.state("mu_layer").items()}, "mu_layer")
    still(model, images, -40.0)
    mu, logvar = heads(model, images)
    x_hat, *_ = forward(model, images)
    # The student's own reparameterize is right here, whatever it does.
    decoded = model.tensor("decoder", _drawn(model, mu, logvar), what="The decoder's output")
    # A head with an activation cannot be still, which is another check's matter.
    if float(logvar.max()) < -30 and not close(x_hat, decoded, 5e-5):
        causes = {
            "A second Sigmoid is applied to the decoder's output.": torch.sigmoid(decoded),
            "It decodes logvar.": model.tensor("decoder", logvar),
        }
        fail(
            "With a very small variance, forward does not return the decoded mu.",
            likely_cause(x_hat, causes, tolerance=5e-5)
            or _exchanged(model, x_hat, decoded, (mu, logvar)),
        )
    # A large variance: then a draw differs from the mean, and from a draw with another spread.
    still(model, images, 1.5)
    mu, logvar = heads(model, images)
    x_hat, *_ = forward(model, images)
    decoded = model.tensor("decoder", _drawn(model, mu, logvar), what="The decoder's output")
    spread, right = (float(each.double().var(dim=0).sum()) for each in (x_hat, decoded))
    expect(
        spread > 1e-4 * right or right < 1e-8,
        "forward gives the same image in each draw.",
        "It decodes mu, or one code for all images: decode reparameterize(mu, logvar).",
    )
    # In all but one of a million runs the variances of 100 draws differ by less.
    expect(
        spread < 3 * right + 1e-6 and right < 3 * spread + 1e-6,
        f"The variance of forward's images is {spread:.3g}; that of decoded codes from "
        f"reparameterize(mu, logvar) is {right:.3g}.",
    )


def _exchanged(model: Object, x_hat: Tensor, right: Tensor, codes: tuple[Tensor, Tensor]) -> str:
    """A sentence if forward gives the arguments of reparameterize in the wrong order, or ""."""
    wrong = model.tensor("decoder", _drawn(model, *codes[::-1]), what="The decoder's output")
    if wrong.shape != x_hat.shape or x_hat.shape != right.shape:
        return ""
    mean, wrong_mean, right_mean = (each.mean(dim=0) for each in (x_hat, wrong, right))
    same = (mean - wrong_mean).abs().sum() < 0.1 * (right_mean - wrong_mean).abs().sum()
    return "The arguments of reparameterize are exchanged: mu comes first." if same else ""


def _drawn(model: Object, mu: Tensor, logvar: Tensor) -> Tensor:
    """Codes from the student's reparameterize, (N, latent_dim)."""
    what = "What reparameterize returns"
    return model.tensor("reparameterize", mu, logvar, shape=tuple(mu.shape), what=what)
