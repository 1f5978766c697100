"""The checks of the quantiser's loss, and of the perplexity."""

import math
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from helpers.checking import Submission, check, close, expect, expect_close, expect_number, fail
from helpers.checks.d6_vqvae.quantising import (
    CODEBOOK,
    SIDE,
    Answer,
    D,
    K,
    N,
    accept_one,
    even_case,
    new_quantizer,
    quantise,
    random_case,
    run_quantizer,
)

BETAS = (0.25, 0.7, 0.0)
_BETA = "beta belongs to the term that moves the encoder's outputs, and to no other."
_SUMMED = "The squares are summed: take their mean over all numbers."
_SUMMED_IN_VECTOR = "The squares are summed over the D numbers of a vector: take their mean."
_N_NUMBERS = N * D * SIDE**2


def mean_square(z: Tensor, codes: Tensor, found: float, beta: float, answer: Answer) -> float:
    """The mean square that the loss is about: of the student's own array, or of the right one."""
    terms = [float(functional.mse_loss(array, z)) for array in answer.arrays(z, codes)]
    return min(terms, key=lambda term: abs(found - (1 + beta) * term))


@check("quantizer_loss", points=7)
def loss_is_codebook_plus_commitment(submission: Submission) -> None:
    """The loss is the codebook term plus beta times the commitment term, each a mean of squares."""
    found, terms = [], []
    for beta in BETAS:
        codes, z = even_case()
        answer = run_quantizer(new_quantizer(submission, codes, beta), z)
        found.append(expect_number(answer.loss, what="The loss"))
        terms.append(mean_square(z, codes, found[-1], beta, answer))
    in_terms = [value / term for value, term in zip(found, terms, strict=True)]
    fixed = in_terms[0] - 1
    constant = all(math.isclose(x, in_terms[0], rel_tol=1e-4) for x in in_terms)
    for beta, value, term in zip(BETAS, found, terms, strict=True):
        right = (1 + beta) * term
        causes = {
            _SUMMED: right * _N_NUMBERS,
            _SUMMED_IN_VECTOR: right * D,
            "The squares are summed in one of the terms: take their means.": (_N_NUMBERS + beta)
            * term,
            "The squares are summed in the commitment term: take their mean.": (
                (1 + beta * _N_NUMBERS) * term
            ),
            "Only the commitment term is there.": beta * term,
            "The commitment term is subtracted.": (1 - beta) * term,
            "Both terms are multiplied by beta.": 2 * beta * term,
            "These are roots of the squares.": (1 + beta) * math.sqrt(term),
            "The weights should be 1 and beta; they are 1 - beta and beta.": term,
        }
        if constant and fixed > 0.01:
            causes = {f"beta is fixed at {fixed:.3g}: use self.commitment_cost.": value}
        elif constant:
            causes = {"The loss does not depend on beta: the commitment term is missing.": value}
        message = f"For beta = {beta:g} and a mean square of {term:.4f} the loss is {value:.4f}; "
        expect_close(value, right, f"{message}it should be {right:.4f}.", causes)


def gradients(submission: Submission, beta: float, to: str) -> tuple[Tensor | None, list[Tensor]]:
    """The loss's gradient to "input" or "codes", and what a mean of squares would give there."""
    codes, z = even_case()
    quantizer = new_quantizer(submission, codes, beta)
    answer = run_quantizer(quantizer, z)
    if isinstance(answer.loss, int | float):
        fail("The loss is a plain number, which has no gradient.", "Return a tensor: no .item().")
    pick = (1 if answer.place == 0 else 0) if answer.count > 1 else None
    found = quantizer.differentiate("", z, wrt=(0,), pick=pick)
    right = []
    for array in answer.arrays(z, codes):
        to_input = 2 * (z - array) / z.numel()
        if to == "input":
            right.append(to_input)
            continue
        # Each number of the array is one of the codebook: whichever it is, it is moved there.
        origin = (array.reshape(-1, 1) - codes.reshape(1, -1)).abs().argmin(dim=1)
        to_codes = torch.zeros(codes.numel()).index_add_(0, origin, -to_input.reshape(-1))
        right.append(to_codes.view(codes.shape))
    return (found.inputs[0] if to == "input" else found.parameters.get(CODEBOOK)), right


def times(found: Tensor, right: Tensor) -> float | None:
    """How many times the right one it is, or None if it is no multiple."""
    if found.shape != right.shape:
        return None
    ratio = float((found * right).sum() / right.square().sum().clamp(min=1e-20))
    return ratio if close(found, ratio * right, 1e-5) else None


@check("quantizer_loss", points=4)
def commitment_term_moves_the_encoder(submission: Submission) -> None:
    """The loss moves the encoder's outputs by the commitment term, beta times, and no other."""
    ratios: list[float | None] = []
    for beta in BETAS:
        found, right = gradients(submission, beta, "input")
        if found is None or not found.any():
            expect(
                beta == 0,
                "The loss does not move the encoder's outputs.",
                "The commitment term should: in it, detach the quantized array and not z."
                if found is None
                else "",
            )
            ratios.append(0.0)
            continue
        known = [ratio for each in right if (ratio := times(found, each)) is not None]
        ratios.append(min(known, key=lambda ratio: abs(ratio - beta)) if known else None)
    for beta, ratio in zip(BETAS, ratios, strict=True):
        if ratio is None:
            fail("The loss moves the encoder's outputs in a wrong direction.")
        hints = [
            ("The codebook term moves them too: detach z in it.", 1 + beta),
            ("beta is missing in the term that moves them: use self.commitment_cost.", 1.0),
            ("The codebook term is computed after the straight-through step.", beta - 1),
            ("beta is applied twice.", beta**2),
            (_SUMMED, beta * _N_NUMBERS),
            (_SUMMED_IN_VECTOR, beta * D),
        ]
        hint = next((text for text, wrong in hints if math.isclose(ratio, wrong, rel_tol=1e-3)), "")
        constant = all(r is not None and math.isclose(r, ratio, rel_tol=1e-3) for r in ratios)
        if constant and not math.isclose(ratio, 1, rel_tol=1e-3):
            hint = f"beta is fixed at {ratio:.3g}: use self.commitment_cost."
        expect(
            math.isclose(ratio, beta, rel_tol=1e-3, abs_tol=1e-5),
            f"The loss moves the encoder's outputs by {ratio:.3g} times the gradient of a mean of "
            f"squares; it should be beta = {beta:g} times.",
            hint,
        )


@check("quantizer_loss", points=4)
def codebook_term_moves_the_codes(submission: Submission) -> None:
    """The loss moves the codes by the codebook term, whatever beta is, and by no other."""
    for beta in BETAS[:2]:
        found, right = gradients(submission, beta, "codes")
        if found is None or not found.any():
            fail(
                "The loss does not move the codebook.",
                "The codebook term should: compute it before the straight-through step, and detach "
                "z in it."
                if found is None
                else "",
            )
        known = [ratio for each in right if (ratio := times(found, each)) is not None]
        if not known:
            fail("The loss moves the codebook in a wrong direction.")
        ratio = min(known, key=lambda ratio: abs(ratio - 1))
        hints = [
            ("The commitment term moves it too: detach the quantized array in it.", 1 + beta),
            (_BETA, beta),
            (_SUMMED, _N_NUMBERS),
            (_SUMMED_IN_VECTOR, D),
        ]
        expect(
            math.isclose(ratio, 1, rel_tol=1e-3),
            f"The loss moves the codebook by {ratio:.3g} times the gradient of a mean of squares, "
            f"for beta = {beta:g}.",
            next((text for text, wrong in hints if math.isclose(ratio, wrong, rel_tol=1e-3)), ""),
        )


# Perplexity.


def entropy(numbers: Tensor, n_codes: int) -> float:
    """Entropy of the codes' shares, in nats."""
    shares = torch.bincount(numbers, minlength=n_codes) / len(numbers)
    return float(-(shares * torch.log(shares + 1e-10)).sum())


#: The codes of two images each.
_USES = (
    (list(range(K)), list(range(K))),
    ([4] * 6, [4] * 6),
    ([0, 0, 0, 0], [1, 1, 2, 5]),
    ([3, 3, 3, 3], [7, 7, 7, 7]),
)


@check("perplexity", points=6)
def perplexity_counts_the_codes_in_use(submission: Submission) -> None:
    """The perplexity is exp(entropy) of the codes' shares in the whole batch."""
    codes, _ = random_case()
    quantizer = new_quantizer(submission, codes)
    for used in _USES:
        z = codes[torch.tensor(used)].transpose(1, 2).unsqueeze(2).contiguous()
        answer = run_quantizer(quantizer, z)
        if len(set(used[0] + used[1])) < K and _is_nan(answer.perplexity):
            message = "The perplexity is NaN where some of the codes are not used."
            fail(message, "0 log 0 counts as 0: add a small number inside the logarithm.")
        found = expect_number(answer.perplexity, what="The perplexity")
        choices = [answer.numbers(z, codes), quantise(z, codes)[1]]
        accept_one(choices, partial(_judge_perplexity, found))


def _is_nan(value: object) -> bool:
    number = value.item() if isinstance(value, Tensor) and value.numel() == 1 else value
    return isinstance(number, float) and math.isnan(number)


def _judge_perplexity(found: float, chosen: Tensor) -> None:
    nats = entropy(chosen, K)
    right = math.exp(nats)
    each = [entropy(half, K) for half in chosen.chunk(2)]
    causes = {
        "This is the entropy: take exp of it.": nats,
        "The logarithm has base 2, and exp has base e.": math.exp(nats / math.log(2)),
        "This is the entropy in bits: take exp of that in nats.": nats / math.log(2),
        "The entropy has a minus sign.": math.exp(-nats),
        "The shares are means over the codes: take them over the places, dim=0.": math.exp(
            min(len(chosen) / K * math.log(K), 700)
        ),
        "This is the number of codes in use; their shares count, too.": len(chosen.unique()),
        "This is the perplexity of the first image alone.": math.exp(each[0]),
        "This is the perplexity of the last image alone.": math.exp(each[1]),
        "This is the mean over the images: take the shares in the whole batch.": (
            sum(map(math.exp, each)) / 2
        ),
        "This is computed image by image: take the shares in the whole batch.": math.exp(
            sum(each) / 2
        ),
    }
    expect_close(
        found,
        right,
        f"For the codes {chosen.tolist()} the perplexity is {found:.3f}; it should be {right:.3f}.",
        causes,
        tolerance=1e-3,
    )
