"""A call of emb_to_latents, and what the small parts that it was lent recorded of it."""

from typing import Any

import torch
from torch import Tensor

from helpers.checking import StudentError, Submission, close, expect, expect_tensor, fail
from helpers.checks.common.tiny_diffusion import DIM, N_TOKENS, Calls, try_out


class Run:
    """One call of the student's emb_to_latents, and what the tiny parts recorded of it.

    Attributes:
        emb: the embeddings, drawn at random, (2N, 77, DIM).
        options: the other arguments.
        touched, overwrote: whether torch's random state and the embeddings changed.
        steps, scalings, unet: the calls of scheduler.step, of scheduler.scale_model_input and of
            the U-Net, whose images are in the order of ``emb``.
    """

    def __init__(self, submission: Submission, n_images: int = 1, **options: Any) -> None:
        self.n_images = n_images
        self.options = {"height": 24, "width": 16, "num_inference_steps": 2, "seed": 64, **options}
        self.emb = torch.randn(2 * n_images, N_TOKENS, DIM)
        found = try_out(submission, "emb_to_latents", self.emb, **self.options)
        error = found.get("error")
        self._error = error if isinstance(error, StudentError) else None
        self._value = found.get("value")
        self.touched, self.overwrote = (found.get(k) is True for k in ("touched", "overwrote"))
        self.steps = _calls(found.get("steps"))
        self.scalings = _calls(found.get("scalings"))
        self.unet = _in_order(_calls(found.get("unet")), self.emb)

    def value(self) -> Tensor:
        """What was returned, or fail."""
        self.whole()
        value = self._value
        if isinstance(value, dict) and isinstance(value.get("prev_sample"), Tensor):
            fail(
                "emb_to_latents returns all that scheduler.step gives.",
                "The latents are its `.prev_sample`.",
            )
        return expect_tensor(value, what="What emb_to_latents returns")

    def whole(self) -> None:
        """Fail if the function raised."""
        if self._error is not None:
            raise self._error

    def needed(self, calls: Calls, *names: str) -> Calls:
        """Those of the calls in which tensors of these names were recorded: at least one."""
        found = [call for call in calls if all(name in call for name in names)]
        if not found:
            self.whole()
            if calls is self.steps:
                fail("scheduler.step was never called.", "It takes the latents to the next time.")
            fail("The U-Net was never called.", "It is asked for the noise at each time.")
        return found

    def start(self, *sources: Calls) -> Tensor:
        """The latents at the beginning, (N, ...): the first in these calls, or in the U-Net's."""
        first = next((calls[0] for calls in sources if calls and "sample" in calls[0]), None)
        start: Tensor = (first or self.needed(self.unet, "sample")[0])["sample"]
        return start[: self.n_images]


def _calls(found: Any) -> Calls:
    """The calls of a part, or fail unless each has a time and finite tensors."""
    calls = found if isinstance(found, list) else []
    for call in calls:
        known = call if isinstance(call, dict) else {}
        tensors = [x for x in known.values() if isinstance(x, Tensor)]
        expect(
            isinstance(known.get("time"), float)
            and len(tensors) == len(known) - 1
            and all(x.is_floating_point() and x.ndim for x in tensors),
            "The parts were given something that is no tensor of floating-point numbers.",
        )
        finite = all(bool(torch.isfinite(x).all()) for x in tensors)
        expect(finite, "NaN or infinite numbers went into the parts.")
    return calls


def _in_order(calls: Calls, emb: Tensor) -> Calls:
    """The calls, each with the texts in the order of ``emb``.

    The texts may be in another order if the predictions are taken apart accordingly, and may be
    spread over calls at the same time.
    """
    joined: Calls = []
    for call in calls:
        last = joined[-1] if joined else {}
        halves = last.get("time") == call["time"] and "noise" in last and "noise" in call
        if halves and len(last["text"]) + len(call["text"]) <= len(emb):
            names = ("sample", "text", "noise")
            alike = all(last[name].shape[1:] == call[name].shape[1:] for name in names)
            if alike and not close(last["text"], call["text"]):
                last |= {name: torch.cat([last[name], call[name]]) for name in names}
                continue
        joined.append(dict(call))
    for call in joined:
        text = call.get("text")
        if text is None or text.shape != emb.shape or close(text, emb):
            continue
        order = torch.cdist(emb.flatten(1), text.flatten(1)).argmin(dim=1)
        if close(text[order], emb):
            whole = [name for name in ("sample", "text", "noise") if name in call]
            call |= {name: call[name][order] for name in whole if len(call[name]) == len(emb)}
    return joined
