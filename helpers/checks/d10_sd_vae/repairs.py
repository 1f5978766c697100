"""The checks of the eight repairs, one for each faulty function."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from helpers.checking import (
    Object,
    Submission,
    check,
    expect,
    expect_close,
    expect_number,
    expect_tensor,
    fail,
)
from helpers.checks.common.sd_blocks import ACTIVATIONS, explain
from helpers.checks.d10_sd_vae.model import SCALE
from helpers.checks.d10_sd_vae.training import mean_divergence


@check("repairs", points=2)
def masked_scores_get_no_weight(submission: Submission) -> None:
    """attention_weights gives no weight to what is hidden."""
    scores = torch.randn(2, 3, 4, 4)
    hidden = torch.tensor([[0, 1, 1, 0], [0, 0, 1, 0], [1, 0, 0, 1], [0, 0, 0, 0]]).bool()
    found = submission.call("attention_weights", scores, hidden)
    found = expect_tensor(found, (2, 3, 4, 4), what="What attention_weights returns")
    plain = scores.softmax(-1)
    mistakes = {
        "Nothing is hidden: masked_fill returns a new tensor, and changes nothing.": plain,
        "What is hidden is seen, and the other way round.": scores.masked_fill(
            ~hidden, -math.inf
        ).softmax(-1),
        "The weights of a row no longer add up to 1: hide before the softmax.": plain.masked_fill(
            hidden, 0
        ),
    }
    right = scores.masked_fill(hidden, -math.inf).softmax(-1)
    explain(found, right, mistakes, "The weights are not those of what may be seen.")


@check("repairs", points=2)
def causal_mask_shows_the_diagonal(submission: Submission) -> None:
    """causal_mask hides what comes later, and not the place itself."""
    for length in (5, 1):
        found = submission.call("causal_mask", length)
        right = torch.ones(length, length).triu(1).bool()
        if not isinstance(found, Tensor) or tuple(found.shape) != (length, length):
            fail(f"causal_mask({length}) should return a tensor ({length}, {length}).")
        expect(found.dtype == torch.bool, f"The mask should be bool, but it is {found.dtype}.")
        diagonal = torch.eye(length).bool()
        mistakes = {
            "The diagonal is hidden: a place could not look at itself.": right | diagonal,
            "It hides what came before: columns after t are on the right.": right.T,
            "True means hidden.": ~right,
        }
        expect_close(found, right, f"causal_mask({length}) is wrong.", mistakes)


@check("repairs", points=2)
def spread_is_an_exponential(submission: Submission) -> None:
    """spread gives exp(logvar / 2)."""
    logvar = torch.randn(3, 4, 2, 2)
    answer = submission.call("spread", logvar)
    if isinstance(answer, Tensor) and answer.numel() == 1:
        fail("spread gave one number.", "std() measures a tensor; the exponential was meant.")
    found = expect_tensor(answer, (3, 4, 2, 2), what="What spread returns")
    mistakes = {
        "These are variances: halve the logarithm first.": logvar.exp(),
        "The exponential is missing.": 0.5 * logvar,
    }
    explain(found, (0.5 * logvar).exp(), mistakes, "The standard deviation is exp(logvar / 2).")


@check("repairs", points=2)
def noise_is_normal(submission: Submission) -> None:
    """draw draws from the normal distribution."""
    mean, std = torch.full((40_000,), 1.5), torch.full((40_000,), 0.7)
    answer = submission.call("draw", mean, std)
    found = (expect_tensor(answer, (40_000,), what="What draw returns") - 1.5) / 0.7
    average, deviation = float(found.mean()), float(found.std())
    uniform = abs(average - 0.5) < 0.02 and abs(deviation - 12**-0.5) < 0.02
    # Five standard errors of a mean of 40,000.
    expect(
        abs(average) <= 0.025 and abs(deviation - 1) <= 0.02,
        f"(draw - mean) / std should have mean 0 and spread 1; it has {average:.2f} and "
        f"{deviation:.2f}.",
        "rand draws evenly from [0, 1): randn draws normally." if uniform else "",
    )
    fourth = float(found.pow(4).mean())
    expect(
        abs(fourth - 3) < 0.3,
        f"The noise is not normal: its fourth moment is {fourth:.2f}, and should be 3.",
        "Use torch.randn_like.",
    )


@check("repairs", points=2)
def activation_is_silu(submission: Submission) -> None:
    """activation gives x * sigmoid(x)."""
    x = torch.randn(3, 5) * 3
    found = expect_tensor(submission.call("activation", x), (3, 5), what="What activation returns")
    mistakes = {hint: other(x) for hint, other in ACTIVATIONS.items()}
    explain(found, functional.silu(x), mistakes, "activation is not SiLU.")


@check("repairs", points=2)
def kl_takes_the_mean(submission: Submission) -> None:
    """kl_divergence is that of mean and log variance, whatever was drawn."""
    mean, logvar, latents = (torch.randn(3, 4, 2, 2) for _ in range(3))
    answer = submission.call("kl_divergence", mean, logvar, latents)
    found = expect_number(answer, what="What kl_divergence returns")
    right = mean_divergence(mean, logvar)
    causes = {
        "The scaled draw stands where the mean belongs.": mean_divergence(latents, logvar),
        "Undoing the scale leaves a draw: the mean belongs there.": mean_divergence(
            latents / SCALE, logvar
        ),
        "Average over all numbers.": right * mean.numel(),
        "Average over the latents of an image, too.": right * mean[0].numel(),
    }
    message = f"The mean KL divergence is {right:.3f}, but came out {found:.3f}."
    expect_close(found, right, message, causes)


@check("repairs", points=2)
def callers_tensor_is_left_alone(submission: Submission) -> None:
    """unscaled divides by 0.18215 and leaves the caller's tensor as it is."""
    latents = torch.randn(2, 4, 3, 3)
    called = submission.build(
        "helpers.checks.common.tiny.Called", submission.object("unscaled"), latents
    )
    found = called.tensor("get_result", shape=(2, 4, 3, 3), what="What unscaled returns")
    mistakes = {
        "They are multiplied by the factor.": latents * SCALE,
        "They are as before.": latents,
    }
    explain(found, latents / SCALE, mistakes, "The latents are not divided by 0.18215.")
    kept = called.tensor("get_argument", shape=(2, 4, 3, 3), what="The caller's tensor")
    expect(
        bool(torch.equal(kept, latents)),
        "The caller's tensor was changed.",
        "`latents /= ...` writes into it; `latents / ...` makes a new one.",
    )


@check("repairs", points=2)
def checkpoint_holds_the_state(submission: Submission) -> None:
    """checkpoint holds the epoch and the network's tensors by name."""
    network = submission.build("torch.nn.Linear", 3, 2)
    right = network.state()
    answer = submission.call("checkpoint", network, 7)
    if not isinstance(answer, dict) or set(answer) != {"epoch", "state"}:
        fail('checkpoint should return a dict with "epoch" and "state".')
    expect(answer["epoch"] == 7, "The epoch is not the one that was given.")
    state = answer["state"]
    if isinstance(state, Object) and "method" in state.type_name:
        fail("The state is the method `state_dict`, and not what it returns.", "Call it: ().")
    known = state if isinstance(state, dict) else {}
    found = {name: value for name, value in known.items() if isinstance(value, Tensor)}
    expect(
        found.keys() == right.keys() and all(torch.equal(found[k], right[k]) for k in right),
        "The state is not the network's state dict.",
    )
