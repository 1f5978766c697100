"""The checks of deliverable 11 that students do not see."""

from typing import Any

import torch

from helpers.checking import StudentError, Submission, check, expect
from helpers.checks.common.tiny_diffusion import CHANNELS, DIM, N_TOKENS, try_out
from helpers.checks.d11_text_to_image.embeddings import vectors
from helpers.checks.d11_text_to_image.result import drawn_by
from helpers.models import load_parts


@check("embeddings", points=3)
def long_texts_are_cut(submission: Submission) -> None:
    """A text of more than 77 tokens is cut."""
    vectors(submission, [" ".join(f"word{number}" for number in range(100))])


@check("latents", points=2)
def other_random_numbers_stay_as_they_are(submission: Submission) -> None:
    """Drawing leaves torch's own random numbers alone."""
    calls = {
        "prompt_to_emb": (["a dog"],),
        "emb_to_latents": (torch.randn(2, N_TOKENS, DIM), 24, 16, 2),
        "latents_to_pil": (torch.randn(1, CHANNELS, 5, 3),),
    }
    for name, arguments in calls.items():
        try:
            kept = try_out(submission, name, *arguments).get("touched") is False
        except StudentError:
            if name == "emb_to_latents":
                raise
            continue  # not written yet
        expect(
            kept,
            f"{name} changes the random numbers of the rest of the notebook.",
            "Draw the noise from a torch.Generator of its own; torch.manual_seed and torch.randn "
            "without a generator are for all.",
        )


@check("result", points=4)
def images_are_those_of_the_pipeline(submission: Submission) -> str:
    """From the same seed the library's own pipeline draws the same images."""
    from diffusers import StableDiffusionPipeline

    texts = ["a red three", "A photograph of the digit 8."]
    found = drawn_by(submission, texts, seed=5, n_steps=10)
    pipeline: Any = StableDiffusionPipeline(
        **vars(load_parts("small")),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    right = pipeline(
        texts,
        height=32,
        width=32,
        num_inference_steps=10,
        guidance_scale=8,
        generator=torch.Generator().manual_seed(5),
        output_type="pt",
    ).images
    # Rounding to bytes is half a level; guidance makes more of float32's errors.
    error = 255 * float((found - right).abs().mean())
    expect(error < 2, f"Pixels differ from the pipeline's by {error:.1f} of 255 on average.")
    return f"Pixels differ from the pipeline's by {error:.2f} of 255 on average."
