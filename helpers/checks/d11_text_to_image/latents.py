"""The checks of emb_to_latents: from vectors of texts to latents, by guided diffusion."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from helpers.checking import (
    Submission,
    check,
    close,
    expect,
    expect_close,
    expect_tensor,
    fail,
    likely_cause,
)
from helpers.checks.common.tiny_diffusion import (
    CHANNELS,
    DIM,
    FACTOR,
    INITIAL_SIGMA,
    N_TOKENS,
    Calls,
    TinyScheduler,
    lend,
)
from helpers.models import LATENT_SCALE


class Run:
    """One call of the student's emb_to_latents, and what the tiny parts recorded of it.

    Attributes:
        emb: the embeddings, drawn at random, (2N, 77, DIM).
        value: what was returned, unchecked.
        touched: whether torch's global random state changed.
        steps, scalings, unet: the calls of scheduler.step, of scheduler.scale_model_input and of
            the U-Net.
    """

    def __init__(
        self,
        submission: Submission,
        n_images: int = 2,
        *,
        size: tuple[int, int] = (24, 16),
        **kw: Any,
    ) -> None:
        self.n_images = n_images
        kw = {"height": size[0], "width": size[1], "num_inference_steps": 4, **kw}
        self.emb = torch.randn(2 * n_images, N_TOKENS, DIM)
        found = lend(submission, "emb_to_latents", self.emb, **kw)
        self.value = found.get("value")
        self.touched = bool(found.get("touched"))
        self.steps = _calls(found.get("steps"), "noise", "sample", "new")
        self.scalings = _calls(found.get("scalings"), "sample", "scaled")
        self.unet = _joined(_calls(found.get("unet"), "sample", "text", "noise"), self.emb)

    def start(self) -> Tensor:
        """The latents that the scheduler was given first, (N, ...)."""
        start: Tensor = (self.scalings or self.needed(self.steps))[0]["sample"][: self.n_images]
        return start

    def needed(self, calls: Calls) -> Calls:
        """The calls, of which there must be at least one."""
        kind = "scheduler.step was" if calls is self.steps else "The U-Net was"
        hint = "Is the loop over scheduler.timesteps there?"
        expect(bool(calls), f"{kind} never called.", hint)
        return calls


def _calls(found: Any, *tensors: str) -> Calls:
    """The calls of a part, or fail unless each has a time and finite tensors of these names."""
    calls = found if isinstance(found, list) else []
    for call in calls:
        known = call if isinstance(call, dict) else {}
        values = [known.get(name) for name in tensors]
        floats = [x for x in values if isinstance(x, Tensor) and x.is_floating_point() and x.ndim]
        expect(
            isinstance(known.get("time"), float) and len(floats) == len(tensors),
            "The parts were given something that is no tensor of floating-point numbers.",
        )
        finite = all(bool(torch.isfinite(x).all()) for x in floats)
        expect(finite, "NaN or infinite numbers went into the parts.")
    return calls


def _joined(calls: Calls, emb: Tensor) -> Calls:
    """Two calls of the U-Net at one time, one with each half of the embeddings, count as one."""
    n_images = len(emb) // 2
    names = ("sample", "text", "noise")
    pairs = list(zip(calls[::2], calls[1::2], strict=False))
    if len(calls) % 2 or not all(
        a["time"] == b["time"]
        and len(a["sample"]) == n_images
        and all(a[name].shape == b[name].shape for name in names)
        for a, b in pairs
    ):
        return calls
    ordered = [(b, a) if close(b["text"], emb[:n_images]) else (a, b) for a, b in pairs]
    return [{"time": a["time"], **{n: torch.cat([a[n], b[n]]) for n in names}} for a, b in ordered]


@check("latents", points=3)
def latents_have_their_shape(submission: Submission) -> None:
    """N embeddings of each kind give latents (N, 4, height / f, width / f)."""
    for n_images, (height, width) in ((1, (32, 32)), (3, (24, 16))):
        run = Run(submission, n_images, size=(height, width))
        found = expect_tensor(run.value, what="What emb_to_latents returns")
        right = (n_images, CHANNELS, height // FACTOR, width // FACTOR)
        shape = tuple(found.shape)
        hints: dict[tuple[int, ...], str] = {
            (n_images, CHANNELS, height // 8, width // 8): "The autoencoder's factor is not always "
            "8: 2 ** (its blocks of channels - 1).",
            (n_images, CHANNELS, width // FACTOR, height // FACTOR): "Height comes before width.",
            (1, *right[1:]): "There should be latents for each of the texts.",
            (2 * n_images, *right[1:]): "Double the latents for the U-Net only.",
            (n_images, CHANNELS, height, width): "Divide the size by the autoencoder's factor.",
        }
        expect(
            shape == right,
            f"For {n_images} texts and {height} x {width} pixels the latents should have shape "
            f"{right}, but they have {shape}.",
            hints.get(shape, ""),
        )


@check("latents", points=5)
def noise_comes_from_the_seed(submission: Submission) -> None:
    """The noise at the start is standard normal, drawn by a generator with the given seed."""
    for seed in (64, 7):
        run = Run(submission, 3, seed=seed)
        # A wrong size is another check's concern, and so is what the U-Net is given.
        start = run.steps[0]["sample"][:3] if run.steps else run.start()
        one, shape, other = start[:1].shape, start.shape, 64 if seed != 64 else 0
        mistakes = {
            "The noise is uniform: use torch.randn.": _drawn(shape, seed, torch.rand),
            "All images begin with the same noise.": _drawn(one, seed).expand_as(start),
            "The seed is fixed: use the argument.": _drawn(shape, other),
        }
        expect_close(
            _unit(start),
            _drawn(shape, seed),
            f"The noise is not what torch.Generator().manual_seed({seed}) gives.",
            mistakes,
            "One call of torch.randn with the latents' shape and this generator.",
        )


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
    start = Run(submission, 4, size=(64, 64)).start()
    spread = float(start.double().square().mean().sqrt())
    causes = {
        "Multiply it by scheduler.init_noise_sigma.": 1.0,
        "It is multiplied by scheduler.init_noise_sigma twice.": INITIAL_SIGMA**2,
        "Multiply by scheduler.init_noise_sigma; do not divide.": 1 / INITIAL_SIGMA,
        f"{LATENT_SCALE} is for the autoencoder only.": LATENT_SCALE * INITIAL_SIGMA,
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
    for n_steps in (4, 7):
        run = Run(submission, num_inference_steps=n_steps)
        found = torch.tensor([call["time"] for call in run.needed(run.unet)])
        right = _times(n_steps)
        distinct = right.unique().flip(0)
        mistakes = {
            "Loop over scheduler.timesteps: there is one more than you counted, since one comes "
            "twice.": right[:n_steps],
            "The repeated time was left out: take scheduler.timesteps as they are.": distinct,
            "Go through scheduler.timesteps in their own order: from noise to image.": right.flip(
                0
            ),
            "Give the U-Net the time t, and not its position in the list.": 1.0
            * torch.arange(len(right)),
            "The number of steps is fixed: use num_inference_steps.": _times(50),
            "The first step is left out.": right[1:],
            "The last step is left out.": right[:-1],
            "Only the first step was made: is `return` inside the loop?": right[:1],
        }
        message = "The U-Net was asked at other times than the scheduler's."
        if len(found) != len(right):
            message = (
                f"For {n_steps} steps the U-Net was asked {len(found)} times; the scheduler has "
                f"{len(right)} times."
            )
        expect_close(found, right, message, mistakes)


def _times(n_steps: int) -> Tensor:
    """The times that the scheduler sets for a number of steps, float32."""
    scheduler = TinyScheduler()
    scheduler.set_timesteps(n_steps)
    return scheduler.timesteps.float()


@check("latents", points=5)
def unet_sees_scaled_latents_twice(submission: Submission) -> None:
    """The U-Net gets the latents twice, scaled by the scheduler for the time of the step."""
    run = Run(submission, 3)
    for number, call in enumerate(run.needed(run.unet), start=1):
        seen = call["sample"]
        expect(
            len(seen) == 2 * run.n_images,
            f"For {run.n_images} images the U-Net got {len(seen)} latents, and "
            f"{2 * run.n_images} embeddings.",
            "Double the latents: torch.cat([latents, latents]).",
        )
        first, second = seen.chunk(2)
        alternate = close(seen[::2], seen[1::2])
        expect(
            close(first, second),
            "The two halves of what the U-Net got should be the same latents.",
            "They alternate: torch.cat([latents, latents])." if alternate else "",
        )
        hint = "Call scheduler.scale_model_input before the U-Net."
        expect(bool(run.scalings), "The latents were not scaled.", hint)
        scaled = [s for s in run.scalings if _same_start(s["scaled"], first)]
        dropped = any(_same_start(s["sample"], first) for s in run.scalings)
        expect(
            bool(scaled),
            f"At step {number} the U-Net did not get what scale_model_input gave.",
            "Use what it returns." if dropped else "",
        )
        expect(
            any(s["time"] == call["time"] for s in scaled),
            f"At step {number} the latents were scaled for another time than the U-Net's.",
        )


def _same_start(one: Tensor, other: Tensor) -> bool:
    """Whether they are the same latents, one of them perhaps doubled."""
    return one.shape[1:] == other.shape[1:] and close(one[: len(other)], other)


@check("latents", points=2)
def unet_sees_the_embeddings(submission: Submission) -> None:
    """The U-Net gets the embeddings as they are, at each step."""
    run = Run(submission)
    mistakes = {"The halves are swapped.": run.emb.roll(run.n_images, 0)}
    for call in run.needed(run.unet):
        message = "The U-Net did not get the embeddings as they are."
        expect_close(call["text"], run.emb, message, mistakes)


@check("latents", points=7)
def noise_is_guided(submission: Submission) -> None:
    """Each step takes the noise unconditional + s (conditional - unconditional)."""
    # 1 comes last, where wrong formulas may be right.
    for scale in (5.0, 2.5, 1.0):
        run = Run(submission, guidance_scale=scale)
        for step, call in zip(run.needed(run.steps), run.needed(run.unet), strict=False):
            found, both = step["noise"], call["noise"]
            expect(
                len(both) == 2 * run.n_images,
                f"The U-Net gave {len(both)} predictions; two for each image are needed.",
            )
            expect(
                len(found) != len(both),
                "scheduler.step got both predictions.",
                "Combine the two halves first: it takes one noise an image.",
            )
            u, c = both.chunk(2)
            even, odd = both[::2], both[1::2]
            guided = scale * (c - u)
            mistakes = {
                "The halves are swapped: the unconditional one comes first.": c - guided,
                "The difference has the wrong sign: conditional - unconditional.": u - guided,
                "It begins at the conditional prediction, which makes the scale 1 + s: begin at "
                "the unconditional one.": c + guided,
                "Only the conditional prediction is used.": c,
                "Only the unconditional prediction is used.": u,
                "The unconditional prediction in front is missing.": guided,
                "The halves are averaged with weights 1 - 1/s and 1/s.": u + (c - u) / scale,
                "The scale is fixed at 8: use guidance_scale.": u + 8 * (c - u),
                "The scale is fixed at 7.5: use guidance_scale.": u + 7.5 * (c - u),
                "The predictions are cut apart as if they alternated: use chunk(2).": even
                + scale * (odd - even),
                "Both predictions are added: take their difference.": u + scale * (c + u),
            }
            expect_close(
                found,
                u + guided,
                f"The noise is not unconditional + s (conditional - unconditional) for s = "
                f"{scale:g}.",
                mistakes,
            )


@check("latents", points=5)
def steps_follow_each_other(submission: Submission) -> None:
    """Each step begins where the last one ended, and the last one's end is returned."""
    run = Run(submission)
    steps = run.needed(run.steps)
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
        scaled = [s["scaled"] for s in run.scalings if s["time"] == step["time"]]
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
    found = expect_tensor(run.value, what="What emb_to_latents returns")
    right = steps[-1]["new"]
    mistakes = {
        "These are the latents before the last step.": steps[-1]["sample"],
        "This is the noise of the last step.": steps[-1]["noise"],
        f"They are divided by {LATENT_SCALE}: leave that to latents_to_pil.": right / LATENT_SCALE,
        f"They are multiplied by {LATENT_SCALE}.": right * LATENT_SCALE,
    }
    message = "What is returned are not the latents after the last step."
    expect_close(found, right, message, mistakes)
