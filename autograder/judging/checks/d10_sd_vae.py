"""The checks of deliverable 10 that students do not see."""

import torch
from torch import Tensor
from torch.nn import functional

from autograder.judging.checks.common import check_training_mode
from helpers.checking import Object, Submission, check, close, expect, fail
from helpers.checks.common.accumulation import AccumulatingTrial
from helpers.checks.common.sd_blocks import rows_of
from helpers.checks.d10_sd_vae.networks import BASE, D10
from helpers.checks.d10_sd_vae.result import findings


def pass_through(network: Object, x: Tensor) -> Tensor:
    """What a network's layers give one after the other.

    Blocks are the student's own, which have their checks; layers of torch are computed here.
    """
    state = network.state()
    for row in rows_of(network):
        weight, bias = state.get(f"{row.path}.weight"), state.get(f"{row.path}.bias")
        if row.kind == "Conv2d" and weight is not None:
            x = functional.conv2d(x, weight, bias, padding=1)
        elif row.kind == "GroupNorm":
            x = functional.group_norm(x, 32, weight, bias, 1e-6)
        elif row.kind == "SiLU":
            x = functional.silu(x)
        else:
            x = network.tensor(row.path, x, what=f"The output of layer {row.path}")
    return x


def expect_passed_through(network: Object, x: Tensor, shape: tuple[int, ...], name: str) -> None:
    """Fail unless a network is its layers, one after the other."""
    found = network.tensor("", x, shape=shape, what=f"{name}'s output")
    try:
        right = pass_through(network, x)
    except (RuntimeError, ValueError, TypeError):  # torch's layers, but with odd settings
        right = torch.empty(0)
    if right.shape != found.shape or not close(found, right, 1e-3):
        fail(
            f"{name} does not give what its layers lead to.",
            "Convolutions are 3 x 3 with padding 1, the last normalisation has 32 groups.",
        )


@check("networks", points=1)
def encoder_passes_layer_by_layer(submission: Submission) -> None:
    """Encoder passes an image through its layers, one after the other."""
    encoder = submission.new("Encoder", BASE)
    expect_passed_through(encoder, torch.randn(2, 3, 16, 24), (2, 8, 2, 3), "Encoder")


@check("networks", points=1)
def decoder_passes_layer_by_layer(submission: Submission) -> None:
    """Decoder passes latents through its layers, one after the other."""
    decoder = submission.new("Decoder", BASE)
    expect_passed_through(decoder, torch.randn(2, 4, 2, 3), (2, 3, 16, 24), "Decoder")


check_training_mode(
    __name__, lambda s, lr: AccumulatingTrial(s, lr, n_accumulated=2), points=1, lr=0.1
)


@check("result", points=3)
def test_loss_is_low(submission: Submission) -> str:
    """The model paints new photographs, too, clearly better than the mean image would."""
    found = findings(submission)
    limit = D10["max_test_loss"]
    expect(
        found.test < limit,
        f"Test loss {found.test:.3f} (training {found.training:.3f}); it must be below {limit:g}.",
    )
    return f"Test loss {found.test:.3f}, training {found.training:.3f}."
