"""The checks of emb_to_latents: from vectors of texts to latents, by guided diffusion.

Each looks at one thing, with one image; what goes wrong with several images only is a check of its
own. A function that raises is judged by what it has done up to there.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from helpers.checking import (
    Submission,
    check,
    close,
    expect,
    expect_close,
    fail,
    likely_cause,
)
from helpers.checks.common.tiny_diffusion import (
    CHANNELS,
    FACTOR,
    INITIAL_SIGMA,
    STEPS_BEFORE,
    expect_same_for_several,
    tiny_scheduler,
)
from helpers.checks.d11_text_to_image.run import Run
from helpers.models import LATENT_SCALE


def expect_shape_of_latents(run: Run) -> None:
    """Fail unless the latents have the right shape."""
    found, n_images = run.value(), run.n_images
    height, width = run.options["height"], run.options["width"]
    right = (n_images, CHANNELS, height // FACTOR, width // FACTOR)
    shape = tuple(found.shape)
    hints: dict[tuple[int, ...], str] = {
        (n_images, CHANNELS, height // 8, width // 8): "The factor of this autoencoder is 4, and "
        "not 8: 2 ** (len(vae.config.block_out_channels) - 1).",
        (n_images, CHANNELS, width // FACTOR, height // FACTOR): "Height comes before width.",
        (1, *right[1:]): "There should be latents for each of the texts.",
        (2 * n_images, *right[1:]): "Double the latents for the U-Net only.",
        (n_images, CHANNELS, height, width): "Divide the size by the autoencoder's factor.",
        right[1:]: "The axis of the images is missing.",
    }
    fixed = ((8, 8), (16, 16), (32, 32), (64, 64), (128, 128))
    hint = "The size is fixed: compute it from height and width." if shape[2:] in fixed else ""
    expect(
        shape == right,
        f"For {n_images} {'text' if n_images == 1 else 'texts'} and {height} x {width} pixels the "
        f"latents should have shape {right}, but they have {shape}.",
        hints.get(shape, hint),
    )


@check("latents", points=3)
def latents_have_their_shape(submission: Submission) -> None:
    """A text's embeddings give latents (1, 4, height / f, width / f)."""
    for height, width in ((24, 16), (40, 48)):
        expect_shape_of_latents(Run(submission, height=height, width=width))


def expect_noise_of_the_seed(run: Run) -> None:
    """Fail unless the noise at the start comes from the generator; its size does not matter."""
    # What the U-Net is given is another check's concern.
    start, seed = run.start(run.steps, run.scalings), run.options["seed"]
    one, shape = start[:1].shape, start.shape
    mistakes = {
        "The noise is uniform: use torch.randn.": _drawn(shape, seed, torch.rand),
        "The seed is fixed: use the argument."
        if seed
        else "0 is a seed like any other, but 64 is used.": _drawn(shape, 64 if seed != 64 else 0),
    }
    if len(start) > 1:
        same = {"All images begin with the same noise.": _drawn(one, seed).expand_as(start)}
        mistakes = same | mistakes
    expect_close(
        _unit(start),
        _drawn(shape, seed),
        f"The noise is not what torch.Generator().manual_seed({seed}) gives.",
        mistakes,
    )


@check("latents", points=4)
def noise_comes_from_the_seed(submission: Submission) -> None:
    """The noise at the start is standard normal, drawn by a generator with the given seed."""
    runs = [Run(submission, seed=seed) for seed in (64, 7, 0, 7)]
    first, again = (_unit(run.start(run.steps, run.scalings)) for run in (runs[1], runs[3]))
    expect(
        close(first, again),
        "The same seed gives other noise in the next call.",
        "Give the generator to torch.randn: torch.randn(shape, generator=generator).",
    )
    for run in runs:
        expect_noise_of_the_seed(run)


def _drawn(shape: torch.Size, seed: int, draw: Callable[..., Tensor] = torch.randn) -> Tensor:
    """Numbers from a generator of its own, with a root mean square of 1."""
    return _unit(draw(shape, generator=torch.Generator().manual_seed(seed)))


def _unit(x: Tensor) -> Tensor:
    """The same with a root mean square of 1."""
    x = x.double()
    return x / x.square().mean().sqrt().clamp(min=1e-12)


@check("latents", points=4)
def noise_has_the_initial_sigma(submission: Submission) -> None:
    """The noise at the start is multiplied by the scheduler's initial sigma."""
    run = Run(submission, height=128, width=128)
    start = run.start(run.scalings, run.steps)
    spread = float(start.double().square().mean().sqrt())
    causes = {
        "Multiply it by scheduler.init_noise_sigma.": 1.0,
        "It is multiplied by scheduler.init_noise_sigma twice.": INITIAL_SIGMA**2,
        "Multiply by scheduler.init_noise_sigma; do not divide.": 1 / INITIAL_SIGMA,
        "Multiply by scheduler.init_noise_sigma itself, not by its root.": INITIAL_SIGMA**0.5,
        f"{LATENT_SCALE} is for the autoencoder only.": LATENT_SCALE * INITIAL_SIGMA,
        f"Multiply by scheduler.init_noise_sigma; {LATENT_SCALE} is for the autoencoder.": (
            LATENT_SCALE
        ),
    }
    message = (
        f"The noise has a standard deviation of {spread:.2f}; this scheduler begins with "
        f"{INITIAL_SIGMA}."
    )
    # 4,096 numbers: the standard error is 1%.
    expect_close(spread, INITIAL_SIGMA, message, causes, tolerance=0.08)


@check("latents", points=5)
def unet_is_asked_once_at_each_time(submission: Submission) -> None:
    """The U-Net is asked once at each of the scheduler's times."""
    for n_steps in (4, 3):
        run = Run(submission, num_inference_steps=n_steps)
        run.whole()
        found = torch.tensor([call["time"] for call in run.needed(run.unet)])
        right = _times(n_steps)
        distinct = right.unique().flip(0)
        mistakes = {
            "The last time is left out: scheduler.timesteps has one more than there are steps, "
            "since one comes twice.": right[:n_steps],
            "The repeated time was left out: take scheduler.timesteps as they are.": distinct,
            "Go through scheduler.timesteps in their own order: from noise to image.": right.flip(
                0
            ),
            "The first step is left out.": right[1:],
            "Only the first step was made: is `return` inside the loop?": right[:1],
        }
        fixed = {
            f"The number of steps is fixed at {n}: use num_inference_steps.": n for n in _USUAL
        }
        mistakes |= {cause: _times(n) for cause, n in fixed.items()}
        mistakes["Call the scheduler's set_timesteps, with num_inference_steps."] = _times(
            STEPS_BEFORE
        )
        if float(found.max()) < len(right):
            mistakes["Give the U-Net the time t, and not its position in the list."] = found
        message = "The U-Net was asked at other times than the scheduler's."
        if len(found) != len(right):
            message = (
                f"For {n_steps} steps the U-Net was asked {_often(len(found))}; the scheduler has "
                f"{len(right)} times."
            )
        expect_close(found, right, message, mistakes)


#: Numbers of steps that people write down.
_USUAL = (50, 20, 25, 30, 40, 100)


def _times(n_steps: int) -> Tensor:
    """The times that the scheduler sets for a number of steps, float32."""
    scheduler = tiny_scheduler()
    scheduler.set_timesteps(n_steps)
    times: Tensor = scheduler.timesteps.float()
    return times


def expect_scaled_twice(run: Run) -> None:
    """Fail unless the U-Net gets the scaled latents twice."""
    for number, call in enumerate(run.needed(run.unet, "sample", "text"), start=1):
        seen, n_texts = call["sample"], len(call["text"])
        halves = seen.chunk(2)
        if n_texts == 2 * run.n_images:
            expect(
                len(seen) == n_texts,
                f"For {_count(run.n_images)} the U-Net got latents of {len(seen)} and embeddings "
                f"of {n_texts}.",
                "Double the latents: torch.cat([latents, latents])."
                if len(seen) == run.n_images
                else "There should be latents for each of the texts.",
            )
            alternate = close(seen[::2], seen[1::2])
            expect(
                close(halves[0], halves[1]),
                "The two halves of what the U-Net got should be the same latents.",
                "They alternate: torch.cat([latents, latents])." if alternate else "",
            )
        first = halves[0] if n_texts == 2 * run.n_images else seen
        hint = "Call scheduler.scale_model_input before the U-Net."
        expect(bool(run.scalings), "The latents were not scaled.", hint)
        scaled = [s for s in run.needed(run.scalings, "scaled") if _same_start(s["scaled"], first)]
        dropped = any(_same_start(s["sample"], first) for s in run.scalings if "sample" in s)
        expect(
            bool(scaled),
            f"At step {number} the U-Net did not get what scale_model_input gave.",
            "Use what it returns." if dropped else "",
        )
        expect(
            not any(
                _same_start(other["scaled"], s["sample"])
                for s in scaled
                for other in run.scalings
                if "sample" in s and "scaled" in other and other["time"] == s["time"]
            ),
            f"At step {number} the latents were scaled twice.",
            "Call scheduler.scale_model_input once for each time.",
        )
        expect(
            any(s["time"] == call["time"] for s in scaled),
            f"At step {number} the latents were scaled for another time than the U-Net's.",
        )


def _often(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _count(n_images: int) -> str:
    return "one image" if n_images == 1 else f"{n_images} images"


def _same_start(one: Tensor, other: Tensor) -> bool:
    """Whether the other latents are all among the first, which may be doubled."""
    if one.shape[1:] != other.shape[1:]:
        return False
    nearest = torch.cdist(other.flatten(1), one.flatten(1)).argmin(dim=1)
    return close(one[nearest], other)


@check("latents", points=4)
def unet_sees_scaled_latents_twice(submission: Submission) -> None:
    """The U-Net gets the latents twice, scaled by the scheduler for the time of the step."""
    expect_scaled_twice(Run(submission, num_inference_steps=4))


@check("latents", points=2)
def unet_sees_the_embeddings(submission: Submission) -> None:
    """The U-Net gets the embeddings as they are, at each step."""
    run = Run(submission)
    half = run.emb.chunk(2)
    mistakes = {
        "It gets the conditional one twice.": torch.cat([half[1], half[1]]),
        "It gets the unconditional one twice.": torch.cat([half[0], half[0]]),
        "It gets only the conditional one.": half[1],
        "It gets only the unconditional one.": half[0],
    }
    for call in run.needed(run.unet, "text"):
        message = "The U-Net did not get the embeddings as they are."
        expect_close(call["text"], run.emb, message, mistakes)
    expect(
        not run.overwrote,
        "The embeddings that are passed in are changed.",
        "Operations such as += work in place: make a new tensor.",
    )


_ZERO = "0 is a scale like any other, but {} is used."


def expect_guided(run: Run) -> None:
    """Fail unless each step takes the guided noise."""
    scale = run.options["guidance_scale"]
    steps = run.needed(run.steps, "noise")
    for step, call in zip(steps, run.needed(run.unet, "noise"), strict=False):
        found, both = step["noise"], call["noise"]
        if scale in (0, 1) and len(both) == run.n_images:
            both = torch.cat([both, both])  # one of the two predictions is all that counts
        expect(
            len(both) == 2 * run.n_images,
            f"For s = {scale:g} the U-Net gave {len(both)} predictions; two for each image are "
            "needed.",
        )
        expect(
            len(found) != len(both),
            "scheduler.step got both predictions.",
            "Combine the two halves first: it takes one noise an image.",
        )
        u, c = both.chunk(2)
        even, odd = both[::2], both[1::2]
        guided = scale * (c - u)
        fixed = "The scale is fixed at {}: use guidance_scale." if scale else _ZERO
        mistakes = {
            "Only the conditional prediction is used.": c,
            "Only the unconditional prediction is used.": u,
            "The halves are swapped: the unconditional one comes first.": c - guided,
            "The difference has the wrong sign: conditional - unconditional.": u - guided,
            "It begins at the conditional prediction, which makes the scale 1 + s: begin at "
            "the unconditional one.": c + guided,
            "The unconditional prediction in front is missing.": guided,
            fixed.format(7.5): u + 7.5 * (c - u),
            fixed.format(8): u + 8 * (c - u),
            "The predictions are cut apart as if they alternated: use chunk(2).": even
            + scale * (odd - even),
            "Both predictions are added: take their difference.": u + scale * (c + u),
            "The conditional prediction alone is multiplied by s.": u + scale * c,
            "The unconditional prediction is multiplied by s too.": scale * (u + c - u),
        }
        if scale:
            mistakes["The difference is divided by s."] = u + (c - u) / scale
        message = "The noise is not unconditional + s (conditional - unconditional) for s ="
        expect_close(found, u + guided, f"{message} {scale:g}.", mistakes)


@check("latents", points=5)
def noise_is_guided(submission: Submission) -> None:
    """Each step takes the noise unconditional + s (conditional - unconditional)."""
    # 1 and 0 come last, where wrong formulas may be right.
    for scale in (5.0, 20.0, 2.5, 1.0, 0.0):
        expect_guided(Run(submission, guidance_scale=scale))


@check("latents", points=5)
def steps_follow_each_other(submission: Submission) -> None:
    """Each step begins where the last one ended, and the last one's end is returned."""
    run = Run(submission, num_inference_steps=4)
    run.whole()
    steps = run.needed(run.steps, "noise", "sample", "new")
    for number, step in enumerate(steps):
        sample = step["sample"]
        expect(
            number >= len(run.unet) or step["time"] == run.unet[number]["time"],
            f"Step {number + 1} was made for the time {step['time']:g}, but the U-Net was asked "
            "about another.",
            "scheduler.step takes the time t itself.",
        )
        if len(sample) == 2 * run.n_images:
            fail("scheduler.step got the doubled latents.", "Keep them: only the U-Net needs both.")
        scaled = [s["scaled"] for s in run.scalings if s["time"] == step["time"] and "scaled" in s]
        expect(
            not any(_same_start(s, sample) for s in scaled),
            "scheduler.step got the scaled latents.",
            "Scale a copy for the U-Net, under another name.",
        )
        if number:
            last = steps[number - 1]
            same = {"Each begins at the same latents: keep .prev_sample.": last["sample"]}
            message = f"Step {number + 1} does not begin where the one before it ended."
            expect(close(sample, last["new"]), message, likely_cause(sample, same))
    right = steps[-1]["new"]
    mistakes = {
        "These are the latents before the last step.": steps[-1]["sample"],
        "This is the noise of the last step.": steps[-1]["noise"],
        f"They are divided by {LATENT_SCALE}: leave that to latents_to_pil.": right / LATENT_SCALE,
        f"They are multiplied by {LATENT_SCALE}.": right * LATENT_SCALE,
    }
    message = "What is returned are not the latents after the last step."
    expect_close(run.value(), right, message, mistakes)


@check("latents", points=4)
def several_images_are_drawn_at_once(submission: Submission) -> None:
    """What is right for one text is right for three: shape, noise, halves and guidance."""
    expect_same_for_several(
        lambda n_images: Run(submission, n_images, guidance_scale=5.0),
        (expect_scaled_twice, expect_shape_of_latents, expect_noise_of_the_seed, expect_guided),
    )
