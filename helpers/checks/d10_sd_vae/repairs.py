"""The checks of the eight repairs, one for each faulty function."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from helpers.checking import (
    Object,
    Submission,
    check,
    close,
    expect,
    expect_close,
    expect_number,
    expect_tensor,
    fail,
)
from helpers.checks.common.architecture import expect_kept
from helpers.checks.d10_sd_vae.model import SCALE
from helpers.checks.d10_sd_vae.probing import ACTIVATIONS, explain, silu
from helpers.checks.d10_sd_vae.training import mean_divergence, wrong_divergences


@check("repairs", points=2)
def masked_scores_get_no_weight(submission: Submission) -> None:
    """attention_weights gives no weight to what is hidden."""
    scores = torch.randn(2, 3, 4, 4)
    hidden = torch.tensor([[0, 1, 1, 0], [0, 0, 1, 0], [1, 0, 0, 1], [0, 0, 0, 0]]).bool()
    hint = "masked_fill_ writes into it; masked_fill makes a new one."
    expect_kept(submission, "attention_weights", scores, hidden, hint=hint)
    answer = submission.call("attention_weights", scores, hidden)
    found = expect_tensor(answer, (2, 3, 4, 4), what="What attention_weights returns")
    plain = scores.softmax(-1)
    left = plain.masked_fill(hidden, 0)
    mistakes = {
        "Nothing is hidden: masked_fill returns a new tensor, and changes nothing.": plain,
        "What is hidden is seen, and the other way round.": scores.masked_fill(
            ~hidden, -math.inf
        ).softmax(-1),
        "The weights of a row no longer add up to 1: hide before the softmax.": left,
        "A score of 0 is no small score: hide with -inf.": scores.masked_fill(hidden, 0).softmax(
            -1
        ),
        "The softmax runs over the rows: take the last axis.": (
            scores.masked_fill(hidden, -math.inf).softmax(-2)
        ),
        "These are scores: the softmax is missing.": scores.masked_fill(hidden, -1e9),
    }
    # Of the weights that are left, each keeps its share.
    right = left / left.sum(dim=-1, keepdim=True)
    explain(found, right, mistakes, "The weights are not those of what may be seen.")


@check("repairs", points=2)
def causal_mask_shows_the_diagonal(submission: Submission) -> None:
    """causal_mask hides what comes later, and not the place itself."""
    for length in (5, 1, 8):
        found = submission.call("causal_mask", length)
        if not isinstance(found, Tensor) or tuple(found.shape) != (length, length):
            fail(f"causal_mask({length}) should return a tensor ({length}, {length}).")
        expect(found.dtype == torch.bool, f"The mask should be bool, but it is {found.dtype}.")
        places = [(row, column) for row in range(length) for column in range(length)]
        right = {place for place in places if place[1] > place[0]}
        hides = {place for place in places if bool(found[place])}
        diagonal = {(n, n) for n in range(length)}
        before = {(column, row) for row, column in right}
        mistakes = {
            "The diagonal is hidden: a place could not look at itself.": right | diagonal,
            "The place after t is shown: hide all that come after it.": {
                (row, column) for row, column in right if column > row + 1
            },
            "It hides what came before: columns after t are on the right.": before,
            "It hides what came before, and the diagonal.": before | diagonal,
            "It hides nothing.": set[tuple[int, int]](),
        }
        known = [hint for hint, wrong in mistakes.items() if wrong == hides]
        expect(hides == right, f"causal_mask({length}) is wrong.", "".join(known[:1]))


@check("repairs", points=2)
def spread_is_an_exponential(submission: Submission) -> None:
    """spread gives the standard deviation that belongs to each log variance."""
    logvar = 2 * torch.randn(3, 4, 2, 2)
    expect_kept(submission, "spread", logvar)
    answer = submission.call("spread", logvar)
    if isinstance(answer, Tensor) and answer.numel() == 1:
        fail("spread gave one number.", "std() measures a tensor; the exponential was meant.")
    found = expect_tensor(answer, (3, 4, 2, 2), what="What spread returns")
    mistakes = {
        "These are variances: halve the logarithm first.": logvar.exp(),
        "The exponential is missing.": 0.5 * logvar,
        "The logarithm is doubled: halve it.": (2 * logvar).exp(),
        "Halve the logarithm, and not its exponential.": 0.5 * logvar.exp(),
        "The exponential is of base 2.": (0.5 * logvar).exp2(),
    }
    # Its square is the variance.
    squares = {hint: wrong.square() for hint, wrong in mistakes.items()}
    what = "The standard deviation is exp(logvar / 2)."
    explain(found.square(), logvar.exp(), squares, what)
    expect(bool((found > 0).all()), what, "It is positive.")


@check("repairs", points=2)
def noise_is_normal(submission: Submission) -> None:
    """draw draws from the normal distribution."""
    mean, std = torch.full((40_000,), 1.5), torch.full((40_000,), 0.7)
    expect_kept(submission, "draw", mean, std)
    found, again = (
        expect_tensor(submission.call("draw", mean, std), (40_000,), what="What draw returns")
        for _ in range(2)
    )
    found = (found - 1.5) / 0.7
    average, deviation = float(found.mean()), float(found.std())
    hints = {
        "rand draws evenly from [0, 1): randn draws normally.": (0.5, 12**-0.5),
        "There is no noise.": (0.0, 0.0),
        "One number is drawn for all.": (average, 0.0),
        "std is taken for a log variance.": (0.0, math.exp(0.35) / 0.7),
        "std is squared.": (0.0, 0.7),
        "The root of std is taken.": (0.0, 0.7**-0.5),
        "The mean is missing.": (-1.5 / 0.7, 1.0),
        "std is missing.": (0.0, 1 / 0.7),
        "The noise is drawn evenly, about 0: randn draws normally.": (0.0, 12**-0.5),
        "The noise is drawn evenly from [-1, 1): randn draws normally.": (0.0, 3**-0.5),
    }
    known = [hint for hint, (a, d) in hints.items() if abs(average - a) < 0.02 > abs(deviation - d)]
    # Five standard errors of a mean of 40,000.
    expect(
        abs(average) <= 0.025 and abs(deviation - 1) <= 0.02,
        f"(draw - mean) / std should have mean 0 and spread 1; it has {average:.2f} and "
        f"{deviation:.2f}.",
        "".join(known[:1]),
    )
    fourth = float(found.pow(4).mean())
    expect(
        abs(fourth - 3) < 0.3,
        f"The noise is not normal: its fourth moment is {fourth:.2f}, and should be 3.",
        "Use torch.randn_like.",
    )
    expect(not close(found, (again - 1.5) / 0.7), "Two calls draw the same.", "Set no seed there.")


@check("repairs", points=2)
def activation_is_silu(submission: Submission) -> None:
    """activation gives x * sigmoid(x)."""
    x = torch.randn(3, 5) * 3
    expect_kept(submission, "activation", x)
    found = expect_tensor(submission.call("activation", x), (3, 5), what="What activation returns")
    mistakes = {hint: other(x) for hint, other in ACTIVATIONS.items()}
    explain(found, silu(x), mistakes, "activation is not SiLU.")


@check("repairs", points=2)
def kl_takes_the_mean(submission: Submission) -> None:
    """kl_divergence is that of mean and log variance, whatever was drawn."""
    mean, logvar, latents = (torch.randn(3, 4, 2, 2) for _ in range(3))
    expect_kept(submission, "kl_divergence", mean, logvar, latents)
    answer = submission.call("kl_divergence", mean, logvar, latents)
    if isinstance(answer, Tensor) and tuple(answer.shape) == tuple(mean.shape):
        fail("kl_divergence gave a number for each number.", "Average over all: .mean().")
    found = expect_number(answer, what="What kl_divergence returns")
    right = mean_divergence(mean, logvar)
    causes = {
        "The scaled draw stands where the mean belongs.": mean_divergence(latents, logvar),
        "Undoing the scale leaves a draw: the mean belongs there.": mean_divergence(
            latents / SCALE, logvar
        ),
        "A scaled draw stands where the mean belongs.": mean_divergence(SCALE * latents, logvar),
        "The mean is scaled: it should be as it is.": mean_divergence(SCALE * mean, logvar),
        **{
            hint: wrong
            for hint, wrong in wrong_divergences(mean, logvar).items()
            if "weight" not in hint and wrong != 0
        },
    }
    message = f"The mean KL divergence is {right:.3f}, but came out {found:.3f}."
    expect_close(found, right, message, causes)


@check("repairs", points=2)
def callers_tensor_is_left_alone(submission: Submission) -> None:
    """unscaled divides by 0.18215 and leaves the caller's tensor as it is."""
    latents = torch.randn(2, 4, 3, 3)
    hint = "`latents /= ...` writes into it; `latents / ...` makes a new one."
    expect_kept(submission, "unscaled", latents, hint=hint)
    answer = submission.call("unscaled", latents)
    found = expect_tensor(answer, (2, 4, 3, 3), what="What unscaled returns")
    mistakes = {
        "They are multiplied by the factor.": latents * SCALE**2,
        "They are as before.": latents * SCALE,
    }
    explain(found * SCALE, latents, mistakes, "The latents are not divided by 0.18215.")


@check("repairs", points=2)
def checkpoint_holds_the_state(submission: Submission) -> None:
    """checkpoint holds the epoch and the network's tensors by name."""
    network = submission.build("torch.nn.Linear", 3, 2)
    right = network.state()
    answer = submission.call("checkpoint", network, 7)
    known = answer if isinstance(answer, dict) else {}
    if not {"epoch", "state"} <= set(known):
        fail('checkpoint should return a dict with "epoch" and "state".')
    epoch = expect_number(known["epoch"], what='The "epoch" of the checkpoint')
    expect(epoch == 7, f"The epoch is {epoch:g}, and not 7, which was given.")
    expect_state(known["state"], right)


def expect_state(state: object, right: Mapping[str, Tensor]) -> None:
    """Fail unless ``state`` has the tensors of a network, perhaps in half precision."""
    if isinstance(state, Object) and "method" in state.type_name:
        fail("The state is the method `state_dict`, and not what it returns.", "Call it: ().")
    if isinstance(state, Object):
        fail(f"The state is a {state.type_name}, and not the network's state_dict().")
    known = state if isinstance(state, dict) else {}
    found = {name: value for name, value in known.items() if isinstance(value, Tensor)}
    missing = ", ".join(right.keys() - found.keys())
    expect(not missing, f"The state lacks tensors of the network's state dict: {missing}.")
    expect(
        all(close(found[name].float(), value, 1e-2) for name, value in right.items()),
        "The state has other numbers than the network.",
    )
