"""The checks of deliverable 11 that students see.

The student's functions are lent the parts of :mod:`helpers.checks.tiny_diffusion`, which keep what
they are given. So each check looks at one joint, and a mistake elsewhere does not matter to it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from helpers.check import check
from helpers.checks.tiny_diffusion import (
    CHANNELS,
    DIM,
    FACTOR,
    INITIAL_SIGMA,
    N_TOKENS,
    TinyScheduler,
    TinyTextEncoder,
    TinyTokenizer,
    painted,
)
from helpers.deliverables import get
from helpers.diffusion import DIGITS, LATENT_SCALE, grey_digits
from helpers.digits import recognise
from helpers.expect import close, expect, expect_tensor, fail
from helpers.submission import Object, Submission

D11 = get("d11_text_to_image")


def lend(submission: Submission, name: str, *args: Any, parts: str = "tiny", **kw: Any) -> Any:
    """Call the student's function ``name`` with lent parts: its answer and what the parts saw."""
    function = submission.get(name)
    if not isinstance(function, Object):
        fail(f"`{name}` should be a function.")
    studio = submission.build("helpers.checks.tiny_diffusion.Studio", parts)
    found = studio.call("call", function, *args, **kw)
    return found if isinstance(found, dict) else {}


def cause(found: Tensor, mistakes: Mapping[str, Tensor], tolerance: float = 1e-4) -> str:
    """The sentence for the mistake that would give what was found, or ""."""
    return next((hint for hint, wrong in mistakes.items() if close(found, wrong, tolerance)), "")


# Embeddings.


def embed(texts: list[str], *, length: int = N_TOKENS, masked: bool = False) -> Tensor:
    """The right embeddings of texts by the tiny parts, (N, length, DIM)."""
    tokens = TinyTokenizer()(
        texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
    )
    mask = tokens.attention_mask if masked else None
    hidden: Tensor = TinyTextEncoder()(tokens.input_ids, attention_mask=mask).last_hidden_state
    return hidden


def embeddings(
    submission: Submission, texts: list[str], *negative: str, whole: bool = True
) -> Tensor:
    """What the student's prompt_to_emb makes of texts.

    Args:
        negative: the second argument, if any.
        whole: if not, only the vectors of the first two tokens are wanted, however many there are:
            they depend on nothing behind them.

    Returns:
        (2N, 77, D), or (2N, 2, D).
    """
    value = lend(submission, "prompt_to_emb", texts, *negative).get("value")
    n_texts, what = len(texts), "What prompt_to_emb returns"
    shape = (2 * n_texts, N_TOKENS, DIM)
    got = tuple(value.shape) if isinstance(value, Tensor) else ()
    if not whole and len(got) == 3 and got[1] > 1 and (got[0], got[2]) == (shape[0], DIM):
        return expect_tensor(value, what=what)[:, :2]
    hints = {
        (n_texts, N_TOKENS, DIM): "Only one kind is there: unconditional and conditional.",
        (2, n_texts, N_TOKENS, DIM): "torch.stack adds an axis; use torch.cat.",
        (n_texts, 2 * N_TOKENS, DIM): "They are joined along the tokens; join them along axis 0.",
        (n_texts, N_TOKENS, 2 * DIM): "They are joined along the vectors; join them along axis 0.",
        (2 * n_texts, DIM): "This is the pooled output: take last_hidden_state.",
    }
    hint = hints.get(got, "")
    if len(got) == 3 and N_TOKENS not in (got[1], got[1] / 2):
        hint = f'Pad to {N_TOKENS} tokens with padding="max_length".'
    return expect_tensor(value, shape, what=what, hint=hint)


@check("embeddings", points=4)
def embeddings_have_their_shape(submission: Submission) -> None:
    """prompt_to_emb gives (2N, 77, D) for N texts, short and long ones, one and several."""
    embeddings(submission, ["a dog"])
    embeddings(submission, ["a dog", "a red cat on a mat", "two"])


@check("embeddings", points=6)
def texts_are_embedded_token_by_token(submission: Submission) -> None:
    """The vectors are the text encoder's last hidden state for the padded tokens."""
    texts = ["a green bird", "one"]
    found = embeddings(submission, texts)
    right = embed(texts)
    # Wherever they stand: their order is another check's.
    halves = (found[2:], found[:2], found[1::2], found[::2])
    if any(close(half, right) for half in halves):
        return
    hint = next((h for half in halves if (h := cause(half, _text_mistakes(texts)))), "")
    fail("The vectors are not those of the text encoder for these texts.", hint)


def _text_mistakes(texts: list[str]) -> dict[str, Tensor]:
    tokens = TinyTokenizer()(texts, padding="max_length", return_tensors="pt")
    zeros = torch.where(tokens.attention_mask.bool(), tokens.input_ids, 0)
    vectors = embed(texts)
    lengths = tokens.attention_mask.sum(dim=1)
    cut = vectors * tokens.attention_mask[..., None]
    pooled = vectors[torch.arange(len(texts)), lengths - 1]
    return {
        "The attention mask went into the text encoder; the U-Net was trained without it.": embed(
            texts, masked=True
        ),
        "The tokens are padded with zeros: let the tokenizer pad.": TinyTextEncoder()(zeros)[0],
        "The vectors are padded with zeros: pad the tokens before they are embedded.": cut,
        "This is the pooled output at each place.": pooled[:, None].expand_as(vectors),
    }


@check("embeddings", points=5)
def unconditional_comes_first(submission: Submission) -> None:
    """First come all unconditional embeddings, then all conditional ones in the texts' order."""
    texts = ["a green bird", "one", "house by the sea"]
    found = embeddings(submission, texts, whole=False)
    # What the student's own function makes of a text alone, so that a wrong embedding is not
    # counted here again.
    nothing = max(embeddings(submission, [""], whole=False), key=lambda half: float(half.norm()))
    alone = torch.stack([_own(submission, text, nothing) for text in texts])
    empty = nothing.expand_as(alone)
    if close(found, torch.cat([empty, alone])):
        return
    mistakes = {
        "The conditional ones come first.": torch.cat([alone, empty]),
        "They alternate: torch.cat([unconditional, conditional]).": torch.stack(
            [empty, alone], dim=1
        ).flatten(0, 1),
        "Both halves are conditional.": torch.cat([alone, alone]),
        "The unconditional half is zero: embed the empty text.": torch.cat([0 * empty, alone]),
        "The texts come in the reverse order.": torch.cat([empty, alone.flip(0)]),
        "All conditional embeddings are those of the first text.": torch.cat(
            [empty, alone[:1].expand_as(alone)]
        ),
    }
    fail("The halves are not those of the empty text and of the texts.", cause(found, mistakes))


def _own(submission: Submission, text: str, nothing: Tensor) -> Tensor:
    """The student's own embedding of one text, (2, D): the half that is not the empty one's."""
    halves = list(embeddings(submission, [text], whole=False))
    return next((half for half in reversed(halves) if not close(half, nothing)), nothing)


@check("embeddings", points=5)
def negative_text_takes_the_place_of_the_empty_one(submission: Submission) -> None:
    """A negative text is embedded in the unconditional half, and nowhere else."""
    # One text, since the order of several is another check's; and which half is conditional, too.
    text, negative = ["a green bird"], "blue and old"
    found = embeddings(submission, text, negative, whole=False)
    plain = embeddings(submission, text, whole=False)
    other = embeddings(submission, [negative], whole=False)
    same = [close(found[half], plain[half]) for half in (0, 1)]
    if all(same):
        fail(
            "Neither half becomes another one with a negative text.",
            "Embed it in place of the empty text.",
        )
    if not any(same):
        fail(
            "With a negative text the embedding of the text itself changes too.",
            "It takes the place of the empty text, and leaves the prompts alone.",
        )
    expect(
        close(found[same.index(False)], other[same.index(True)]),
        "The half that changed with the negative text is not that text's embedding.",
    )


# Latents.


def text_vectors(n_images: int) -> Tensor:
    """Embeddings such as prompt_to_emb gives, drawn at random, (2 n_images, 77, DIM)."""
    return torch.randn(2 * n_images, N_TOKENS, DIM)


class Run:
    """One call of the student's emb_to_latents, and what the tiny parts saw of it.

    Attributes:
        emb: the embeddings, (2N, 77, DIM).
        value: what was returned, as it is.
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
        self.height, self.width = size
        self.n_steps = kw.setdefault("num_inference_steps", 4)
        self.emb = text_vectors(n_images)
        found = lend(submission, "emb_to_latents", self.emb, height=size[0], width=size[1], **kw)
        self.value = found.get("value")
        self.touched = bool(found.get("touched"))
        self.steps = _calls(found.get("steps"), "noise", "sample", "new")
        self.scalings = _calls(found.get("scalings"), "sample", "scaled")
        self.unet = _joined(_calls(found.get("unet"), "sample", "text", "noise"), self.emb)

    def times(self) -> list[float]:
        """The times that the scheduler sets for the number of steps."""
        scheduler = TinyScheduler()
        scheduler.set_timesteps(self.n_steps)
        return [float(time) for time in scheduler.timesteps]

    def start(self) -> Tensor:
        """The latents before the first step, as far as the scheduler saw them: (N, ...)."""
        first = (
            self.scalings[0]["sample"] if self.scalings else self.needed(self.steps)[0]["sample"]
        )
        start: Tensor = first[: self.n_images]
        return start

    def needed(self, calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The calls, of which there must be one at least."""
        if not calls:
            kind = "scheduler.step was" if calls is self.steps else "The U-Net was"
            fail(f"{kind} never called.", "Is the loop over scheduler.timesteps there?")
        return calls


def _calls(found: Any, *tensors: str) -> list[dict[str, Any]]:
    """The calls of a part, as far as they are sound: a time and some tensors each."""
    calls = found if isinstance(found, list) else []
    for call in calls:
        sound = isinstance(call, dict) and isinstance(call.get("time"), float)
        if not sound or not all(
            isinstance(x := call.get(name), Tensor) and x.is_floating_point() and x.ndim >= 1
            for name in tensors
        ):
            fail("The parts were given something that is no tensor of floating-point numbers.")
        if not all(bool(torch.isfinite(call[name]).all()) for name in tensors):
            fail("NaN or infinite numbers went into the parts.")
    return calls


def _joined(calls: list[dict[str, Any]], emb: Tensor) -> list[dict[str, Any]]:
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
    joined = []
    for first, second in pairs:
        swapped = close(second["text"], emb[:n_images])
        a, b = (second, first) if swapped else (first, second)
        joined.append({"time": a["time"], **{n: torch.cat([a[n], b[n]]) for n in names}})
    return joined


@check("latents", points=3)
def latents_have_their_shape(submission: Submission) -> None:
    """N embeddings of each kind give latents (N, 4, height / f, width / f)."""
    for n_images, (height, width) in ((1, (32, 32)), (3, (24, 16))):
        run = Run(submission, n_images, size=(height, width))
        found = expect_tensor(run.value, what="What emb_to_latents returns")
        right = (n_images, CHANNELS, height // FACTOR, width // FACTOR)
        shape = tuple(found.shape)
        if shape == right:
            continue
        other = "The autoencoder's factor is not always {}: 2 ** (its blocks of channels - 1)."
        hints: dict[tuple[int, ...], str] = {
            (n_images, CHANNELS, height // 8, width // 8): other.format(8),
            (n_images, CHANNELS, width // FACTOR, height // FACTOR): "Height comes before width.",
            (1, *right[1:]): "There should be latents for each of the texts.",
            (2 * n_images, *right[1:]): "Double the latents for the U-Net only.",
            (n_images, CHANNELS, height, width): "Divide the size by the autoencoder's factor.",
        }
        fail(
            f"For {n_images} texts and {height} x {width} pixels the latents should have shape "
            f"{right}, but they have {shape}.",
            hints.get(shape, ""),
        )


@check("latents", points=5)
def noise_comes_from_the_seed(submission: Submission) -> None:
    """The noise at the start is standard normal, drawn by a generator with the given seed."""
    for seed in (64, 7):
        run = Run(submission, 3, seed=seed)
        # A wrong size is another check's, and so is what the U-Net is given.
        start = run.steps[0]["sample"][:3] if run.steps else run.start()
        direction = _unit(start)
        draws = {s: torch.Generator().manual_seed(s) for s in (seed, 64, 0)}
        right = _unit(torch.randn(start.shape, generator=draws[seed]))
        if close(direction, right):
            continue
        uniform = torch.rand(start.shape, generator=torch.Generator().manual_seed(seed))
        one = torch.randn(start[:1].shape, generator=torch.Generator().manual_seed(seed))
        mistakes = {
            "The noise is uniform: use torch.randn.": _unit(uniform),
            "All images begin with the same noise.": _unit(one.expand_as(start)),
            "The seed is fixed: use the argument.": _unit(
                torch.randn(start.shape, generator=draws[64 if seed != 64 else 0])
            ),
        }
        fail(
            f"The noise is not what torch.Generator().manual_seed({seed}) gives.",
            cause(direction, mistakes)
            or "One call of torch.randn with the latents' shape and this generator.",
        )


def _unit(x: Tensor) -> Tensor:
    """The same with a root mean square of 1."""
    x = x.double()
    return x / x.square().mean().sqrt().clamp(min=1e-12)


@check("latents", points=4)
def noise_has_the_initial_sigma(submission: Submission) -> None:
    """The noise at the start is multiplied by the scheduler's initial sigma."""
    start = Run(submission, 4, size=(64, 64)).start()
    spread = float(start.double().square().mean().sqrt())
    # 4,096 numbers: the standard error is 1%.
    if math.isclose(spread, INITIAL_SIGMA, rel_tol=0.08):
        return
    causes = {
        1.0: "Multiply it by scheduler.init_noise_sigma.",
        INITIAL_SIGMA**2: "It is multiplied by scheduler.init_noise_sigma twice.",
        1 / INITIAL_SIGMA: "Multiply by scheduler.init_noise_sigma; do not divide.",
        LATENT_SCALE * INITIAL_SIGMA: f"{LATENT_SCALE} is for the autoencoder only.",
    }
    hint = [text for wrong, text in causes.items() if math.isclose(spread, wrong, rel_tol=0.08)]
    fail(
        f"The noise has a standard deviation of {spread:.2f}; this scheduler begins with "
        f"{INITIAL_SIGMA}.",
        hint[0] if hint else "",
    )


@check("latents", points=5)
def unet_is_asked_once_at_each_time(submission: Submission) -> None:
    """The U-Net is asked once at each of the scheduler's times."""
    for n_steps in (4, 7):
        run = Run(submission, num_inference_steps=n_steps)
        found, right = [call["time"] for call in run.needed(run.unet)], run.times()
        if found == right:
            continue
        default = TinyScheduler()
        default.set_timesteps(50)
        mistakes = {
            "Loop over scheduler.timesteps: there is one more than you counted, since one comes "
            "twice.": right[:n_steps],
            "The repeated time was left out: take scheduler.timesteps as they are.": list(
                dict.fromkeys(right)
            ),
            "Go through scheduler.timesteps in their own order: from noise to image.": right[::-1],
            "Give the U-Net the time t, and not its position in the list.": [
                float(n) for n in range(len(right))
            ],
            "The number of steps is fixed: use num_inference_steps.": [
                float(time) for time in default.timesteps
            ],
            "The first step is left out.": right[1:],
            "The last step is left out.": right[:-1],
            "Only the first step was made: is `return` inside the loop?": right[:1],
        }
        hint = [text for text, wrong in mistakes.items() if found == wrong]
        fail(
            f"For {n_steps} steps the U-Net was asked {len(found)} times; the scheduler has "
            f"{len(right)} times."
            if len(found) != len(right)
            else "The U-Net was asked at other times than the scheduler's.",
            hint[0] if hint else "",
        )


@check("latents", points=5)
def unet_sees_scaled_latents_twice(submission: Submission) -> None:
    """The U-Net gets the latents twice, scaled by the scheduler for the time of the step."""
    run = Run(submission, 3)
    calls = run.needed(run.unet)
    for number, call in enumerate(calls):
        seen = call["sample"]
        if len(seen) != 2 * run.n_images:
            fail(
                f"For {run.n_images} images the U-Net got {len(seen)} latents, and "
                f"{2 * run.n_images} embeddings.",
                "Double the latents: torch.cat([latents, latents]).",
            )
        first, second = seen.chunk(2)
        if not close(first, second):
            alternate = close(seen[::2], seen[1::2])
            fail(
                "The two halves of what the U-Net got should be the same latents.",
                "They alternate: torch.cat([latents, latents])." if alternate else "",
            )
        if not run.scalings:
            fail(
                "The latents were not scaled.", "Call scheduler.scale_model_input before the U-Net."
            )
        scaled = [s for s in run.scalings if _same_start(s["scaled"], first)]
        if not scaled:
            fail(
                f"At step {number + 1} the U-Net did not get what scale_model_input gave.",
                "Use what it returns."
                if any(_same_start(s["sample"], first) for s in run.scalings)
                else "",
            )
        expect(
            any(s["time"] == call["time"] for s in scaled),
            f"At step {number + 1} the latents were scaled for another time than the U-Net's.",
        )


def _same_start(one: Tensor, other: Tensor) -> bool:
    """Whether they are the same latents, one of them perhaps doubled."""
    return one.shape[1:] == other.shape[1:] and close(one[: len(other)], other)


@check("latents", points=2)
def unet_sees_the_embeddings(submission: Submission) -> None:
    """The U-Net gets the embeddings as they are, at each step."""
    run = Run(submission)
    for call in run.needed(run.unet):
        text = call["text"]
        if close(text, run.emb):
            continue
        swapped = close(text, run.emb.roll(run.n_images, 0))
        fail(
            "The U-Net did not get the embeddings as they are.",
            "The halves are swapped." if swapped else "",
        )


@check("latents", points=7)
def noise_is_guided(submission: Submission) -> None:
    """Each step takes the noise unconditional + s (conditional - unconditional)."""
    for scale in (5.0, 2.5, 1.0):
        run = Run(submission, guidance_scale=scale)
        # With this scale at the last: a wrong formula may be right for another.
        for step, call in zip(run.needed(run.steps), run.needed(run.unet), strict=False):
            found, both = step["noise"], call["noise"]
            if len(both) != 2 * run.n_images:
                fail(f"The U-Net gave {len(both)} predictions; two for each image are needed.")
            if len(found) == len(both):
                fail(
                    "scheduler.step got both predictions.",
                    "Combine the two halves first: it takes one noise an image.",
                )
            u, c = both.chunk(2)
            right = u + scale * (c - u)
            if close(found, right):
                continue
            even, odd = both[::2], both[1::2]
            mistakes = {
                "The halves are swapped: the unconditional one comes first.": c + scale * (u - c),
                "The difference has the wrong sign: conditional - unconditional.": u
                + scale * (u - c),
                "It begins at the conditional prediction, which makes the scale 1 + s: begin at "
                "the unconditional one.": c + scale * (c - u),
                "Only the conditional prediction is used.": c,
                "Only the unconditional prediction is used.": u,
                "The unconditional prediction in front is missing.": scale * (c - u),
                "The halves are averaged with weights 1 - 1/s and 1/s.": u + (c - u) / scale,
                "The scale is fixed at 8: use guidance_scale.": u + 8 * (c - u),
                "The scale is fixed at 7.5: use guidance_scale.": u + 7.5 * (c - u),
                "The predictions are cut apart as if they alternated: use chunk(2).": even
                + scale * (odd - even),
                "Both predictions are added: take their difference.": u + scale * (c + u),
            }
            fail(
                f"The noise is not unconditional + s (conditional - unconditional) for s = "
                f"{scale:g}.",
                cause(found, mistakes),
            )


@check("latents", points=5)
def steps_follow_each_other(submission: Submission) -> None:
    """Each step begins where the last one ended, and the last one's end is returned."""
    run = Run(submission)
    steps = run.needed(run.steps)
    for number, step in enumerate(steps):
        expect(
            number >= len(run.unet) or step["time"] == run.unet[number]["time"],
            f"Step {number + 1} was made for the time {step['time']:g}, but the U-Net was asked "
            "about another.",
            "scheduler.step takes the time t itself.",
        )
        if len(step["sample"]) == 2 * run.n_images:
            fail("scheduler.step got the doubled latents.", "Keep them: only the U-Net needs both.")
        scaled = [s["scaled"] for s in run.scalings if s["time"] == step["time"]]
        if any(_same_start(s, step["sample"]) for s in scaled):
            fail(
                "scheduler.step got the scaled latents.",
                "Scale a copy for the U-Net, under another name.",
            )
        last = steps[number - 1]
        if number and not close(step["sample"], last["new"]):
            same = close(step["sample"], last["sample"])
            fail(
                f"Step {number + 1} does not begin where the one before it ended.",
                "Each begins at the same latents: keep .prev_sample." if same else "",
            )
    found = expect_tensor(run.value, what="What emb_to_latents returns")
    if close(found, steps[-1]["new"]):
        return
    mistakes = {
        "These are the latents before the last step.": steps[-1]["sample"],
        "This is the noise of the last step.": steps[-1]["noise"],
        f"They are divided by {LATENT_SCALE}: leave that to latents_to_pil.": steps[-1]["new"]
        / LATENT_SCALE,
        f"They are multiplied by {LATENT_SCALE}.": steps[-1]["new"] * LATENT_SCALE,
    }
    fail("What is returned are not the latents after the last step.", cause(found, mistakes))


# Images.


class Decoded:
    """One call of the student's latents_to_pil, and what the tiny autoencoder saw of it.

    Attributes:
        latents: (N, 4, h, w).
        z: what was decoded, all calls one behind the other.
        images: what the autoencoder made of it, (N, 3, 4 h, 4 w).
        pictures: what was returned, as it is.
    """

    def __init__(self, submission: Submission, latents: Tensor) -> None:
        self.latents = latents
        found = lend(submission, "latents_to_pil", latents)
        self.pictures = found.get("value")
        decoded = found.get("decoded")
        calls = decoded if isinstance(decoded, list) else []
        shaped = [z for z in calls if isinstance(z, Tensor) and z.shape[1:] == latents.shape[1:]]
        self.z = torch.cat(shaped).float() if shaped else torch.empty(0)
        if self.z.shape != latents.shape or not bool(torch.isfinite(self.z).all()):
            fail(
                f"For latents {tuple(latents.shape)} the autoencoder should decode just as many.",
                "Call vae.decode on all of them.",
            )
        self.images = painted(self.z)

    def pixels(self) -> Tensor:
        """The pictures' pixels, (N, 3, 4 h, 4 w), as numbers from 0 to 255."""
        pictures = self.pictures
        if not isinstance(pictures, list) or len(pictures) != len(self.latents):
            fail(f"For {len(self.latents)} latents there should be a list of as many images.")
        arrays = []
        for picture in pictures:
            array = picture.get("pixels") if isinstance(picture, dict) else None
            if not isinstance(array, Tensor):
                fail("The list should hold PIL images.", "Image.fromarray makes one.")
            if array.ndim != 3 or array.shape[2] != 3:
                mode = str(picture.get("mode"))
                fail(f'The images should be in RGB, but their mode is "{mode:.10}".')
            arrays.append(array.permute(2, 0, 1).float())
        if arrays[0].shape != self.images.shape[1:] or len({a.shape for a in arrays}) > 1:
            height, width = self.images.shape[2:]
            got = " x ".join(map(str, arrays[0].shape[1:]))
            swapped = arrays[0].shape[1:] == (width, height)
            fail(
                f"The images should be {height} pixels high and {width} wide; they are {got}.",
                "Height and width are swapped: permute(0, 2, 3, 1)." if swapped else "",
            )
        return torch.stack(arrays)


def moderate_latents() -> Tensor:
    """Latents whose images stay within [-1, 1], once they are unscaled: (2, 4, 5, 3)."""
    return 1.4 * torch.rand(2, CHANNELS, 5, 3) - 0.7


@check("images", points=5)
def latents_are_unscaled(submission: Submission) -> None:
    """The autoencoder decodes the latents divided by 0.18215."""
    run = Decoded(submission, torch.randn(3, CHANNELS, 4, 2))
    if close(run.z, run.latents / LATENT_SCALE):
        return
    mistakes = {
        "The latents went in as they are.": run.latents,
        "They are multiplied by it: divide.": run.latents * LATENT_SCALE,
        "They are divided by it twice.": run.latents / LATENT_SCALE**2,
    }
    fail(
        f"What is decoded should be the latents divided by {LATENT_SCALE}.", cause(run.z, mistakes)
    )


@check("images", points=4)
def pixels_have_their_range(submission: Submission) -> None:
    """Pixels from -1 to 1 become bytes from 0 to 255, and channels keep their order."""
    run = Decoded(submission, moderate_latents())
    found = run.pixels()
    images = run.images.clamp(-1, 1)
    right = 127.5 * (images + 1)
    # Rounded or cut off: that is another check's.
    if float((found - right).abs().max()) <= 1.01:
        return
    mistakes = {
        "Pixels below 0 are cut off or wrap around: add 1 and divide by 2 first.": 255
        * images.clamp(min=0),
        "Bytes that are negative wrap around: add 1 and divide by 2 first.": (255 * images) % 256,
        "They are not multiplied by 255.": (images + 1) / 2,
        "Divide by 2 as well: [-1, 1] is 2 wide.": (255 * (images + 1)).clamp(max=255),
        "The channels are in the reverse order.": right.flip(1),
        "Height and width are swapped within the image.": right.mT.reshape(right.shape),
        "The channels were moved by reshaping: permute(0, 2, 3, 1).": right.reshape(
            len(right), *right.shape[2:], 3
        ).permute(0, 3, 1, 2),
    }
    hint = next(
        (h for h, wrong in mistakes.items() if float((found - wrong).abs().max()) <= 1.01), ""
    )
    fail("[-1, 1] is not mapped to [0, 255].", hint)


@check("images", points=3)
def pixels_beyond_the_range_are_clamped(submission: Submission) -> None:
    """Pixels below -1 become 0 and those above 1 become 255."""
    # So large that even a wrong scale leaves them beyond the range.
    signs = torch.randint(2, (2, CHANNELS, 5, 3)) * 2.0 - 1
    run = Decoded(submission, signs * (100 + 20 * torch.rand_like(signs)))
    found = run.pixels()
    right = 255.0 * (run.images > 0)
    share = float((found != right).float().mean())
    expect(
        share == 0,
        f"{share:.0%} of the pixels beyond [-1, 1] are neither 0 nor 255 as they should be.",
        "Bytes wrap around: clamp before you convert.",
    )


@check("images", points=2)
def pixels_are_rounded(submission: Submission) -> None:
    """Pixels are rounded to the nearest whole number."""
    run = Decoded(submission, moderate_latents())
    found = run.pixels()
    exact = 127.5 * (run.images.double().clamp(-1, 1) + 1)
    # Where both ways differ clearly.
    clear = (exact - exact.floor() - 0.75).abs() < 0.15
    if bool((found[clear] == exact[clear].round()).all()):
        return
    cut = bool((found[clear] == exact[clear].floor()).all())
    fail(
        "Pixels are not the nearest whole numbers.",
        "Conversion to bytes cuts off what is behind the point: call round() before."
        if cut
        else "",
    )


@check("images", points=3)
def images_are_pil_images(submission: Submission) -> None:
    """There is a list of PIL images in RGB, one for each of the latents, wide as they should be."""
    for n_images in (2, 1):
        run = Decoded(submission, torch.randn(n_images, CHANNELS, 5, 3))
        run.pixels()
        for picture in run.pictures if isinstance(run.pictures, list) else []:
            mode, size = picture.get("mode"), picture.get("size")
            expect(mode == "RGB", f'The images should have the mode "RGB", and not "{mode!s:.10}".')
            expect(
                size == [3 * FACTOR, 5 * FACTOR],
                f"For latents 5 high and 3 wide the images should have the size "
                f"{(3 * FACTOR, 5 * FACTOR)}, and not {size!s:.30}.",
            )


# Between two texts.


@check("mixing", points=4)
def mix_is_a_straight_line(submission: Submission) -> None:
    """mix(first, second, share) is first at 0, second at 1, and on the straight line between."""
    first, second = torch.randn(2, 4, N_TOKENS, DIM)
    for share in (0.3, 0.0, 1.0):
        answer = submission.call("mix", first, second, share)
        found = expect_tensor(answer, tuple(first.shape), what="What mix returns")
        if close(found, (1 - share) * first + share * second):
            continue
        mistakes = {
            "first and second are swapped.": share * first + (1 - share) * second,
            "The first is not weakened: multiply it by 1 - share.": first + share * second,
            "The share is left out: this is the middle.": (first + second) / 2,
        }
        fail(f"For a share of {share:g} this is not the straight line.", cause(found, mistakes))


# The small model, driven by the student's functions.

#: What is asked for, with each digit's name in turn.
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
    arrays = [
        picture["pixels"]
        for picture in (pictures if isinstance(pictures, list) else [])
        if isinstance(picture, dict) and isinstance(picture.get("pixels"), Tensor)
    ]
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
