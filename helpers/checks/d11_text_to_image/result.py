"""The checks of what the student's functions draw together, with the small model."""

import torch
from torch import Tensor

from helpers.checking import Submission, check, expect, expect_close, expect_tensor, fail
from helpers.checks.common.architecture import expect_kept
from helpers.checks.common.tiny_diffusion import CHANNELS, DIM, N_TOKENS, lend, picture_pixels
from helpers.deliverables import get
from helpers.models import DIGITS, grey_digits, recognise

D11 = get("d11_text_to_image")

# Between two texts.


@check("mixing", points=3)
def mix_is_a_straight_line(submission: Submission) -> None:
    """mix(first, second, share) is first at 0, second at 1, and on the straight line between."""
    first, second = torch.randn(2, 4, N_TOKENS, DIM)
    for share in (0.3, 0.0, 1.0):
        answer = submission.call("mix", first, second, share)
        found = expect_tensor(answer, tuple(first.shape), what="What mix returns")
        mistakes = {
            "first and second are swapped.": share * first + (1 - share) * second,
            "The first is not weakened: multiply it by 1 - share.": first + share * second,
            "The share is left out: this is the middle.": (first + second) / 2,
            "The second is not multiplied by the share.": (1 - share) * first + second,
            "These are the first embeddings alone.": first,
            "These are the second embeddings alone.": second,
        }
        message = f"For a share of {share:g} this is not the straight line."
        expect_close(found, (1 - share) * first + share * second, message, mistakes)


@check("mixing", points=1)
def mix_keeps_its_arguments(submission: Submission) -> None:
    """mix leaves the two embeddings as they are."""
    first, second = torch.randn(2, 4, N_TOKENS, DIM)
    answer = submission.call("mix", first, second, 0.3)
    expect_tensor(answer, tuple(first.shape), what="What mix returns")
    expect_kept(submission, "mix", first, second, 0.3)


# The small model, with the student's functions.

#: The texts to draw, with each digit's name in turn.
TEXTS = ("a handwritten {}", "a photograph of a blue {}", "The digit {} in yellow.")
N_STEPS = 20


def drawn_by(submission: Submission, texts: list[str], seed: int, n_steps: int = N_STEPS) -> Tensor:
    """Images (N, 3, 32, 32) in [0, 1] for texts, by the student's functions and the small model."""
    emb = lend(submission, "prompt_to_emb", texts, parts="small").get("value")
    emb = expect_tensor(emb, what="The embeddings")
    options = {"height": 32, "width": 32, "num_inference_steps": n_steps, "seed": seed}
    latents = lend(submission, "emb_to_latents", emb, parts="small", **options).get("value")
    latents = expect_tensor(latents, (len(texts), CHANNELS, 8, 8), what="The latents")
    pictures = lend(submission, "latents_to_pil", latents, parts="small").get("value")
    found = map(picture_pixels, pictures if isinstance(pictures, list) else [])
    arrays = [array for array in found if array is not None]
    if len(arrays) != len(texts) or any(tuple(array.shape) != (32, 32, 3) for array in arrays):
        fail(f"For {len(texts)} texts there should be as many RGB images of 32 x 32 pixels.")
    return torch.stack(arrays).permute(0, 3, 1, 2).float() / 255


@check("result", points=4)
def digits_asked_for_are_drawn(submission: Submission) -> str:
    """With your functions the small model draws the digits that it is asked for."""
    texts = [text.format(word) for word in DIGITS for text in TEXTS]
    wanted = torch.arange(10).repeat_interleave(len(TEXTS))
    images = drawn_by(submission, texts, seed=int(torch.randint(1000, ()).item()))
    share = float((recognise(grey_digits(images)) == wanted).float().mean())
    least = D11["min_recognised"]
    note = f"The digit asked for is recognised in {share:.0%} of {len(texts)} images"
    expect(share >= least, f"{note}; it should be at least {least:.0%}.", "See the checks above.")
    return f"{note} (at least {least:.0%})."
