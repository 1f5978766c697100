"""Quantising by brute force, and reading what the student's quantiser answers.

Each mistake has a check of its own. So the others take the answer as it was meant: an array of
another shape is replaced by the right one, and the loss, the perplexity and the encodings are found
even if they come in another order.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from helpers.checking import CheckFailedError, Object, Submission, close, expect, fail

#: Sizes for trying a quantiser out, of codebook, codes and batch; and the sides of the arrays,
#: which are those of the notebook: whoever takes no others has one check to lose.
K, D, N, SIDE = 11, 6, 3, 8
CODEBOOK = "embedding.weight"


def new_quantizer(submission: Submission, codes: Tensor, commitment_cost: float = 0.25) -> Object:
    """A quantiser of the student's class with these codes (K, D)."""
    n_codes, dim = codes.shape
    quantizer = submission.new("VectorQuantizer", n_codes, dim, commitment_cost)
    state = quantizer.state()
    expect(
        CODEBOOK in state and state[CODEBOOK].shape == codes.shape,
        "The codebook should be self.embedding.weight, (num_embeddings, embedding_dim).",
    )
    quantizer.load({**state, CODEBOOK: codes})
    return quantizer


def random_case(sides: tuple[int, int] = (SIDE, SIDE)) -> tuple[Tensor, Tensor]:
    """Codes (K, D), and an encoder's output (N, D, h, w).

    It is square unless a check is about its sides: whoever swaps them has a check to lose there.
    """
    return torch.randn(K, D), torch.randn(N, D, *sides)


def even_case() -> tuple[Tensor, Tensor]:
    """As many codes (N * SIDE^2, D) as places in the encoder's output (N, D, SIDE, SIDE).

    Whoever looks for the nearest place of each code, and not the other way round, gets wrong codes
    here and no error: that costs the check of the nearest codes, and none of these.
    """
    return torch.randn(N * SIDE**2, D), torch.randn(N, D, SIDE, SIDE)


def quantise(z: Tensor, codes: Tensor, *, farthest: bool = False) -> tuple[Tensor, Tensor]:
    """By brute force: the quantised array (N, D, h, w), and the codes' numbers (N * h * w,)."""
    rows = z.permute(0, 2, 3, 1)
    distances = torch.cdist(rows.flatten(0, 2), codes, compute_mode="donot_use_mm_for_euclid_dist")
    numbers = (-distances if farthest else distances).argmin(dim=1)
    return arranged(numbers, z, codes), numbers


def arranged(numbers: Tensor, z: Tensor, codes: Tensor) -> Tensor:
    """The codes of these numbers (N * h * w,) in the shape of ``z``."""
    n, dim, height, width = z.shape
    return codes[numbers].view(n, height, width, dim).permute(0, 3, 1, 2).contiguous()


@dataclass(frozen=True)
class Answer:
    """What a quantiser returned; each may be anything that was found in its place."""

    loss: object
    quantized: object
    perplexity: object
    encodings: object
    #: How many things were returned, and where the quantised array was among them.
    count: int
    place: int

    def numbers(self, z: Tensor, codes: Tensor) -> Tensor:
        """The numbers of the codes by the encodings, or the right ones if there are none."""
        n_places = z.numel() // z.shape[1]
        encodings = self.encodings
        if isinstance(encodings, Tensor) and encodings.shape == (n_places, len(codes)):
            return encodings.float().argmax(dim=1)
        return quantise(z, codes)[1]

    def arrays(self, z: Tensor, codes: Tensor) -> list[Tensor]:
        """Arrays that the loss may be about: what was returned if it consists of codes; the right
        one.
        """
        right = quantise(z, codes)[0]
        found = self.quantized
        if isinstance(found, Tensor) and found.is_floating_point() and found.shape == z.shape:
            distances = (found.reshape(-1, 1) - codes.reshape(1, -1)).abs().min(dim=1).values
            if float(distances.max()) < 1e-5 and not close(found, right):
                return [found, right]
        return [right]


def run_quantizer(quantizer: Object, z: Tensor) -> Answer:
    """What the quantiser returns for an encoder's output (N, D, h, w), in whichever order."""
    returned = quantizer.call("", z)
    values = returned if isinstance(returned, list) else [returned]
    if len(values) == 4 and _axes(values[1]) == 4:
        return Answer(values[0], values[1], values[2], values[3], count=4, place=1)
    numbers = [each for each in values if _axes(each) == 0] + [None, None]
    arrays = [each for each in values if _axes(each) == 4]
    encodings = [each for each in values if _axes(each) == 2]
    place = next((n for n, each in enumerate(values) if _axes(each) == 4), 1)
    first, second = numbers[:2]
    return Answer(
        first,
        arrays[0] if arrays else None,
        second,
        encodings[0] if encodings else None,
        count=len(values) if isinstance(returned, list) else 1,
        place=place,
    )


def _axes(value: object) -> int | None:
    """The number of axes of a tensor, 0 for a number; one element counts as a number."""
    if isinstance(value, Tensor):
        return 0 if value.numel() == 1 and value.ndim < 2 else value.ndim
    return 0 if isinstance(value, int | float) else None


def accept_one(attempts: Iterable[Tensor], judge: Callable[[Tensor], None]) -> None:
    """Fail as the first of the attempts does, unless one of them is right."""
    failures = []
    for attempt in attempts:
        try:
            judge(attempt)
        except CheckFailedError as failure:
            failures.append(failure)
        else:
            return
    fail(str(failures[0]))
