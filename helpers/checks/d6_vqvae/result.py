"""The checks of the trained models."""

import math
from dataclasses import dataclass

from torch.nn import functional

from helpers.checking import Submission, check, expect, expect_tensor, fail
from helpers.checks.common.results import (
    check_budget,
    check_learned,
    check_reported,
    expect_low,
    once,
)
from helpers.checks.d6_vqvae.loss import entropy
from helpers.checks.d6_vqvae.quantising import CODEBOOK, quantise
from helpers.data import cifar10_tensors
from helpers.deliverables import VQVAE_SIZES, VQVAESize, get

D6 = get("d6_vqvae")


@dataclass(frozen=True)
class Findings:
    """Measurements of the trained models."""

    size: VQVAESize
    #: Normalised errors.
    training: float
    test: float
    #: Perplexity of the codes of training images.
    perplexity: float
    #: Root mean square of the encoder's outputs, with the commitment term and without.
    spread: float
    spread_uncommitted: float


@once
def findings(submission: Submission) -> Findings:
    """The trained models' errors and codes.

    The encoder's outputs are quantised here, by brute force, and enter another process, so that
    the decoder gets nothing but codes of the codebook.
    """
    splits = [cifar10_tensors(train=True)[::4], cifar10_tensors(train=False)]
    codes = submission.checkpoint("vqvae").get(f"quantizer.{CODEBOOK}")
    if codes is None or codes.ndim != 2:
        fail(f"The checkpoint has no codebook quantizer.{CODEBOOK}.")
    codes = expect_tensor(codes, what="The codebook")
    sizes = [size for size in VQVAE_SIZES.values() if size.num_embeddings == len(codes)]
    allowed = " or ".join(str(size.num_embeddings) for size in VQVAE_SIZES.values())
    expect(bool(sizes), f"The codebook has {len(codes)} codes; {allowed} are asked for.")
    model = submission.trained("vqvae")
    outputs = [model.apply("encoder", x, what="The encoder's output") for x in splits]
    for z, x in zip(outputs, splits, strict=True):
        expected = (len(x), codes.shape[1], 8, 8)
        expect(tuple(z.shape) == expected, f"The encoder's output should be {expected}.")
    other = submission.trained("vqvae_no_commitment", beside=model)
    uncommitted = other.apply("encoder", splits[1], what="The other encoder's output")
    model = submission.trained("vqvae")
    errors, entropies = [], []
    for z, x in zip(outputs, splits, strict=True):
        quantised, numbers = quantise(z, codes)
        entropies.append(entropy(numbers, len(codes)))
        x_hat = model.apply("decoder", quantised, what="The decoder's output")
        expect(x_hat.shape == x.shape, "Decoded images should be (N, 3, 32, 32).")
        errors.append(float(functional.mse_loss(x_hat, x)) / D6["data_variance"])
    spreads = [float(z.double().square().mean().sqrt()) for z in (outputs[1], uncommitted)]
    return Findings(sizes[0], errors[0], errors[1], math.exp(entropies[0]), spreads[0], spreads[1])


# A model that always answers with the mean image has a normalised error of 1.
check_learned(
    __name__,
    findings,
    points=3,
    below=0.5,
    figure="Normalised error {:.3f}",
    instead=": the mean alone would reach 1.",
)


@check("result", points=8)
def training_error_is_low(submission: Submission) -> str:
    """Training images, told in words of the codebook, are painted with a small error."""
    found = findings(submission)
    return expect_low(f"Normalised error {found.training:.3f}", found.training, found.size.max_loss)


@check("result", points=4)
def codebook_is_used(submission: Submission) -> str:
    """A good part of the codebook is in use."""
    found = findings(submission)
    least = found.size.min_perplexity
    note = f"Perplexity {found.perplexity:.0f} of {found.size.num_embeddings} codes"
    expect(found.perplexity >= least, f"{note}; it should be at least {least:g}.")
    return f"{note}."


@check("result", points=4)
def commitment_keeps_outputs_near(submission: Submission) -> str:
    """Without the commitment term, the encoder's outputs run away."""
    found = findings(submission)
    note = (
        f"The encoder's outputs have a root mean square of {found.spread:.2g} with the commitment "
        f"term and {found.spread_uncommitted:.2g} without"
    )
    least = D6["min_spread_ratio"]
    expect(
        found.spread_uncommitted / max(found.spread, 1e-12) >= least,
        f"{note}; expected is at least {least:g} times as much.",
        "Was the second model trained with a commitment cost of 0?",
    )
    return f"{note}."


check_budget(__name__, points=2)
# The mean over the last epoch lags behind its end, while the error still falls.
check_reported(__name__, findings, tolerance=0.15, word="error")
