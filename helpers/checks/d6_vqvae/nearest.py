"""The checks of distances, nearest codes and the gradient that passes straight through."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from helpers.checking import (
    CheckFailedError,
    Object,
    StudentError,
    Submission,
    agree,
    check,
    close,
    expect,
    expect_close,
    expect_tensor,
    fail,
    likely_cause,
)
from helpers.checks.common.architecture import expect_kept
from helpers.checks.d6_vqvae.quantising import (
    CODEBOOK,
    SIDE,
    D,
    K,
    N,
    arranged,
    new_quantizer,
    quantise,
    random_case,
    run_quantizer,
)


@check("nearest", points=5)
def distances_are_squared_euclidean(submission: Submission) -> None:
    """distances(vectors) gives the squared distance of each vector to each code, (M, K)."""
    codes, _ = random_case()
    quantizer = new_quantizer(submission, codes)
    for n_vectors in (7, 1):
        vectors = torch.randn(n_vectors, D)
        what = f"The distances of {n_vectors} vectors to {K} codes"
        found = quantizer.call("distances", vectors)
        transposed = isinstance(found, Tensor) and found.shape == (K, n_vectors)
        hint = "The axes are swapped: vectors come first." if transposed else ""
        found = expect_tensor(found, (n_vectors, K), what=what, hint=hint)
        differences = vectors[:, None] - codes[None]
        right, product = differences.square().sum(dim=2), vectors @ codes.T
        of_codes, of_vectors = codes.square().sum(dim=1), vectors.square().sum(1, keepdim=True)
        mistakes = {
            "These are distances, not their squares.": right.sqrt(),
            "The square of the codes is missing.": right - of_codes,
            "The square of the vectors is missing.": right - of_vectors,
            "Both squares are missing.": -2 * product,
            "The product is missing: - 2 z e.": right + 2 * product,
            "The product is taken once: -2 z e.": right + product,
            "The product is added: its sign is minus.": right + 4 * product,
            "The square of the codes is subtracted.": right - 2 * of_codes,
            "The square of the vectors is subtracted.": right - 2 * of_vectors,
            "The sign is wrong: the nearest code has the smallest distance.": -right,
            "The squares are not summed: these are lengths, not their squares.": of_vectors.sqrt()
            + of_codes.sqrt()
            - 2 * product,
            "These are sums of absolute differences.": differences.abs().sum(dim=2),
            "These are means over the D numbers: take the sum.": right / D,
        }
        expect_close(found, right, "The distances are not those of brute force.", mistakes)
    expect_kept(quantizer, "distances", torch.randn(7, D))


def by_own_distances(quantizer: Object, z: Tensor, codes: Tensor) -> Tensor | None:
    """The array of the codes that are nearest by the student's own ``distances``."""
    rows = z.permute(0, 2, 3, 1).reshape(-1, D)
    try:
        distances = quantizer.tensor("distances", rows, shape=(len(rows), K))
    except (CheckFailedError, StudentError):
        return None
    return arranged(distances.argmin(dim=1), z, codes)


@check("nearest", points=6)
def quantized_are_the_nearest_codes(submission: Submission) -> None:
    """Each vector of D numbers along the channels is replaced by its nearest code."""
    # Square arrays first: there a wrong order of the axes has a name.
    for sides in ((SIDE, SIDE), (4, 6)):
        codes, z = random_case(sides)
        quantizer = new_quantizer(submission, codes)
        found = run_quantizer(quantizer, z).quantized
        shape = tuple(found.shape) if isinstance(found, Tensor) else ()
        back = "The channels were not moved back: .permute(0, 3, 1, 2)."
        hint = back if shape == (N, *sides, D) else ""
        found = expect_tensor(found, tuple(z.shape), what="The quantized array", hint=hint)
        right, _ = quantise(z, codes)
        own = by_own_distances(quantizer, z, codes)
        if close(found, right) or (own is not None and close(found, own)):
            continue
        last = z.reshape(N, *sides, D).permute(0, 3, 1, 2)
        in_front = (
            "The array was cut into rows with the channels in front: .permute(0, 2, 3, 1) moves "
            "them to the end."
        )
        mistakes = {
            "These are the farthest codes: argmin, not argmax.": quantise(z, codes, farthest=True)[
                0
            ],
            in_front: quantise(z.reshape(-1, D, 1, 1), codes)[0].reshape(z.shape),
            back: right.permute(0, 2, 3, 1).reshape(z.shape),
            "This is z itself: nothing is quantised.": z,
            "z is added: the step is z + (quantized - z).detach().": z + right,
            "This is quantized - z: add z.": right - z,
        }
        if close(found, quantise(last, codes)[0]):
            fail("The quantized array is not that of the nearest codes.", in_front)
        if sides[0] == sides[1]:
            mistakes["Height and width are swapped."] = right.mT
        message = "The quantized array is not that of the nearest codes."
        fail(message, likely_cause(found, mistakes))


def _is_one(value: int | float | Tensor) -> bool:
    return not isinstance(value, Tensor) or value.numel() == 1


@check("nearest", points=1)
def quantising_is_the_same_in_each_mode(submission: Submission) -> None:
    """A quantiser gives the same array in eval mode, and leaves what it is given as it is."""
    codes, z = random_case()
    quantizer = new_quantizer(submission, codes)
    first = run_quantizer(quantizer, z)
    quantizer.call("eval")
    second = run_quantizer(quantizer, z)
    training, evaluated = first.quantized, second.quantized
    if isinstance(training, Tensor) and isinstance(evaluated, Tensor):
        expect(close(training, evaluated), "In eval mode the quantized array is another one.")
    else:
        expect_tensor(evaluated, what="The quantized array")
    for name in ("loss", "perplexity"):
        pair = [getattr(answer, name) for answer in (first, second)]
        numbers = [float(x) for x in pair if isinstance(x, int | float | Tensor) and _is_one(x)]
        expect(
            len(numbers) < 2 or agree(numbers[0], numbers[1]) or any(map(math.isnan, numbers)),
            f"In eval mode the {name} is another one.",
        )
    expect_kept(quantizer, "", z)


@check("nearest", points=3)
def encodings_are_one_hot(submission: Submission) -> None:
    """The encodings have a 1 at the number of each place's code, and 0 elsewhere.

    They are the last of the four things that forward returns.
    """
    codes, z = random_case()
    answer = run_quantizer(new_quantizer(submission, codes), z)
    things = "one thing" if answer.count == 1 else f"{answer.count} things"
    order = "forward should return four things: loss, quantized, perplexity, encodings"
    expect(answer.count == 4, f"{order}; it returned {things}.")
    expect(answer.place == 1, f"{order}, in this order.")
    encodings = answer.encodings
    if isinstance(encodings, Tensor) and not encodings.is_floating_point():
        encodings = encodings.float()
    shape = tuple(encodings.shape) if isinstance(encodings, Tensor) else ()
    hints: dict[tuple[int, ...], str] = {
        (N * SIDE**2,): "These are the numbers of the codes: make one-hot vectors of them.",
        (N * SIDE**2, 1): "These are the numbers of the codes: make one-hot vectors of them.",
        (N, SIDE, SIDE, K): "Keep one row for each place: (N * h * w, K).",
        (K, N * SIDE**2): "Rows are places, and columns are codes.",
    }
    hint = hints.get(shape, "")
    found = expect_tensor(encodings, (N * SIDE**2, K), what="The encodings", hint=hint)
    right = functional.one_hot(answer.numbers(z, codes), K).float()
    message = "The encodings are not one-hot vectors."
    hint = "Each row should hold one 1, and 0 elsewhere."
    expect_close(found, right, message, {}, hint)
    array, numbers = quantise(z, codes)
    rows = answer.quantized
    if isinstance(rows, Tensor) and close(rows, array):  # a wrong array is another check's concern
        expect(
            bool((numbers == found.argmax(dim=1)).all()),
            "The encodings are not those of the quantized array.",
            "Their rows go place after place, and image after image.",
        )


# The gradient where there is none.


def through(submission: Submission) -> tuple[Tensor, Tensor | None, Tensor | None, bool]:
    """Weights of the quantized array, the gradients that reach z and the codes; and whether the
    array has the shape of z.
    """
    codes, z = random_case()
    quantizer = new_quantizer(submission, codes)
    answer = run_quantizer(quantizer, z)
    shape = answer.quantized.shape if isinstance(answer.quantized, Tensor) else z.shape
    weights = torch.randn(shape)
    pick = answer.place if answer.count > 1 else None
    found = quantizer.differentiate("", z, weights=weights, wrt=(0,), pick=pick)
    return weights, found.inputs[0], found.parameters.get(CODEBOOK), shape == z.shape


@check("straight_through", points=7)
def gradients_pass_straight_through(submission: Submission) -> None:
    """The gradient that arrives at the quantized array reaches the input as it is."""
    weights, gradient, _, as_z = through(submission)
    if gradient is None or not gradient.any():
        hint = "Return z + (quantized - z).detach()."
        fail("No gradient reaches the input through the quantized array.", hint)
    if not as_z:  # another check's concern: the numbers are the same in another order
        gradient, weights = (x.flatten().sort().values for x in (gradient, weights))
    message = "The gradient that reaches the input is not the one that arrived at the output."
    ratio = float((gradient * weights).sum() / weights.square().sum())
    if close(gradient, ratio * weights):
        message = f"The gradient that reaches the input is {ratio:.3g} times that at the output."
    elif as_z and close(gradient, weights.mT):
        message += " Height and width are swapped."
    expect(close(gradient, weights), message)


@check("straight_through", points=4)
def error_does_not_move_the_codebook(submission: Submission) -> None:
    """No gradient reaches the codebook through the quantized array."""
    _, _, gradient, _ = through(submission)
    expect(
        gradient is None or not gradient.any(),
        "The reconstruction error would move the codebook.",
        "Detach the difference: z + (quantized - z).detach().",
    )
