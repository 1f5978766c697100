"""Small parts of a text-to-image model, for trying out the code that joins them.

They are models of diffusers' and transformers' own classes, with few and random weights, so that
whatever works with the real ones works with them. They reveal mistakes that the notebook's own
parts would hide: the scheduler's initial sigma is not 1, its scaling depends on the time, and one
of its times comes twice. What they are given is recorded.
"""

from __future__ import annotations

import copy
import inspect
import traceback
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from helpers.checking import (
    CheckFailedError,
    Object,
    StudentError,
    Submission,
    expect,
    fail,
    failure,
)
from helpers.checks.common.standin import standing_in
from helpers.models import SMALL, Parts, load_parts

#: Tokens of a text, size of a token's vector, channels of the latents.
N_TOKENS, DIM, CHANNELS = 77, 8, 4
#: Side of an image divided by the side of its latents.
FACTOR = 4
INITIAL_SIGMA = 3.7
#: The number of steps that the scheduler was set to last.
STEPS_BEFORE = 6
#: What is recorded of each call, oldest first: its time, and copies of tensors by name.
Calls = list[dict[str, Any]]

#: Sentences about errors of the parts, by what is in their messages or raised them.
_SENTENCES = {
    "Unable to create tensor": "The texts differ in their number of tokens: pad and cut all to 77.",
    "BatchEncoding": "tokenizer(...) returns an object; the numbers are its `.input_ids`.",
}


@cache
def _networks() -> tuple[Any, dict[str, nn.Module], dict[str, list[Tensor]]]:
    """The tokenizer, the networks and their weights, which are the same in every process."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(SMALL, subfolder="tokenizer")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        networks: dict[str, Any] = {
            "text_encoder": CLIPTextModel(
                CLIPTextConfig(
                    vocab_size=len(tokenizer),
                    hidden_size=DIM,
                    intermediate_size=2 * DIM,
                    projection_dim=DIM,
                    num_hidden_layers=1,
                    num_attention_heads=2,
                    max_position_embeddings=N_TOKENS,
                    bos_token_id=tokenizer.bos_token_id,
                    eos_token_id=tokenizer.eos_token_id,
                    pad_token_id=tokenizer.pad_token_id,
                )
            ),
            "unet": UNet2DConditionModel(
                sample_size=8,
                block_out_channels=(8,),
                layers_per_block=1,
                down_block_types=("CrossAttnDownBlock2D",),
                mid_block_type=None,
                up_block_types=("CrossAttnUpBlock2D",),
                cross_attention_dim=DIM,
                attention_head_dim=4,
                norm_num_groups=4,
            ),
            "vae": AutoencoderKL(
                block_out_channels=(8, 8, 8),
                down_block_types=("DownEncoderBlock2D",) * 3,
                up_block_types=("UpDecoderBlock2D",) * 3,
                layers_per_block=1,
                norm_num_groups=4,
                sample_size=32,
            ),
        }
    for name, weight in networks["unet"].named_parameters():
        # New layers hardly listen to the text.
        if "attn2.to_out" in name or "attn2.to_v" in name:
            weight.data *= 8
    weights = {part: [w.data for w in network.parameters()] for part, network in networks.items()}
    return tokenizer, networks, weights


@cache
def _scheduler_class() -> Any:
    from diffusers import PNDMScheduler

    class TinyScheduler(PNDMScheduler):
        """PNDM with an initial sigma and a scaling, which other schedulers have; it records."""

        def __init__(self, **settings: Any) -> None:
            super().__init__(**settings)
            self.init_noise_sigma = INITIAL_SIGMA
            self.scalings: Calls = []
            self.steps: Calls = []

        def scale_model_input(
            self, sample: Tensor, timestep: Any = None, *_: Any, **__: Any
        ) -> Tensor:
            """The latents as the U-Net should see them."""
            scaled = sample / (1 + _time(timestep) / 500)
            self.scalings.append(_call(timestep, sample=sample, scaled=scaled))
            return scaled

        def step(
            self,
            model_output: Tensor,
            timestep: Any,
            sample: Tensor,
            return_dict: bool = True,
            **options: Any,
        ) -> Any:
            """The latents after one more step towards an image."""
            self.steps.append(_call(timestep, noise=model_output, sample=sample))
            step: Any = super().step  # type: ignore[misc]
            answer = step(model_output, timestep, sample, return_dict, **options)
            self.steps[-1]["new"] = answer[0].clone()
            return answer

    return TinyScheduler


def tiny_scheduler() -> Any:
    """A scheduler with the settings of the v1-4 checkpoint, used before for other images."""
    scheduler = _scheduler_class()(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        skip_prk_steps=True,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    scheduler.set_timesteps(STEPS_BEFORE)
    return scheduler


def tiny_parts(contrast: float = 1.0) -> Parts:
    """All five; the decoder's images are multiplied by ``contrast``.

    The networks are the same objects in each call, with their weights and modes as they were made:
    copying them takes longer than all that is done with them.
    """
    tokenizer, networks, weights = _networks()
    for part, network in networks.items():
        for weight, kept in zip(network.parameters(), weights[part], strict=True):
            weight.data = kept.clone()
        network.eval().requires_grad_(False)
    parts = Parts(tokenizer=tokenizer, scheduler=tiny_scheduler(), **networks)
    for weight in parts.vae.decoder.conv_out.parameters():
        weight.data *= contrast
    return parts


@torch.no_grad()
def painted(z: Tensor, contrast: float = 1.0) -> Tensor:
    """What the autoencoder makes of latents: (N, 4, h, w) -> (N, 3, 4 h, 4 w)."""
    images: Tensor = tiny_parts(contrast).vae.decode(z).sample
    return images


@torch.no_grad()
def tokens_and_vectors(texts: list[str]) -> tuple[Any, Tensor]:
    """The padded tokens of texts, and the vectors that the text encoder makes of them."""
    parts = tiny_parts()
    tokens = parts.tokenizer(
        texts, padding="max_length", max_length=N_TOKENS, truncation=True, return_tensors="pt"
    )
    return tokens, vectors_of(tokens.input_ids)


@torch.no_grad()
def vectors_of(numbers: Tensor, mask: Tensor | None = None) -> Tensor:
    """What the text encoder makes of tokens: (N, L) -> (N, L, DIM)."""
    vectors: Tensor = tiny_parts().text_encoder(numbers, attention_mask=mask)[0]
    return vectors


class Studio:
    """Gives parts to a student's function, for one call, in place of the notebook's own.

    Args:
        kind: "tiny" for the parts above, "small" for those of the digit model.
        contrast: see :func:`tiny_parts`.
    """

    def __init__(self, kind: str = "tiny", contrast: float = 1.0) -> None:
        self._kind, self._contrast = kind, contrast

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Call a function.

        The function finds the parts by their global names, which refer to the lent parts during the
        call.

        Returns:
            The function's answer as ``value``, or how it failed as ``error`` (kind and message);
            whether torch's global random state changed as ``touched``; whether it changed what it
            was given as ``overwrote``; and what tiny parts recorded.
        """
        if not hasattr(inspect.unwrap(function), "__globals__"):
            raise TypeError("this should be a function, made with `def`")
        found: dict[str, Any] = {}
        hooks: list[Any] = []
        if self._kind == "tiny":
            parts = tiny_parts(self._contrast)
            found |= {"scalings": parts.scheduler.scalings, "steps": parts.scheduler.steps}
            found |= {"unet": [], "decoded": []}
            hooks += _record_unet(parts.unet, found["unet"])
            hooks += _record_decoder(parts.vae, found["decoded"])
        else:
            parts = load_parts("small")
        lent = {**vars(parts), "parts": parts, "device": torch.device("cpu")}
        given = copy.deepcopy(args)
        torch.rand(())  # a function that seeds everything would otherwise find the state it left
        before = torch.random.get_rng_state()
        try:
            with standing_in(function, lent):
                found["value"] = _images(function(*args, **kwargs))
        except Exception as exception:
            error = failure(exception)
            found["error"] = [error.kind, _sentence(error.message, _raised_by(exception))]
        finally:
            for hook in hooks:
                hook.remove()
        found["touched"] = not torch.equal(before, torch.random.get_rng_state())
        found["overwrote"] = not all(map(_same, given, args))
        return found


def _sentence(message: str, raised_by: str) -> str:
    """An error's message, after a sentence about its cause if that is known."""
    known = (text for name, text in _SENTENCES.items() if name in f"{message} {raised_by}")
    return next((f"{text} {message}" for text in known), message)


def _raised_by(exception: BaseException) -> str:
    """The function that raised an exception, such as ``BatchEncoding.__getattr__``."""
    frames = [frame for frame, _ in traceback.walk_tb(exception.__traceback__)]
    return frames[-1].f_code.co_qualname if frames else ""


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return torch.equal(one, other.detach())
    return bool(one == other)


def _record_unet(unet: nn.Module, calls: Calls) -> list[Any]:
    """Record what a U-Net is given, and what it answers; return the hooks.

    Latents that were not doubled are doubled here, once that is recorded: this mistake would hide
    all others.
    """
    signature = inspect.signature(unet.forward)

    def before(_: nn.Module, args: Any, kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs).arguments
        sample, text = given["sample"], given["encoder_hidden_states"]
        calls.append(_call(given["timestep"], sample=sample, text=text))
        if isinstance(text, Tensor) and 2 * len(sample) == len(text):
            given["sample"] = torch.cat([sample, sample])
        return (), given

    def after(_: nn.Module, __: Any, ___: Any, answer: Any) -> None:
        calls[-1]["noise"] = answer[0].clone()

    return [
        unet.register_forward_pre_hook(before, with_kwargs=True),
        unet.register_forward_hook(after, with_kwargs=True),
    ]


def _record_decoder(vae: Any, decoded: list[Tensor]) -> list[Any]:
    """Record what is decoded; return the hook."""

    def before(_: nn.Module, args: Any) -> None:
        decoded.append(args[0].clone())

    return [vae.post_quant_conv.register_forward_pre_hook(before)]


def _images(value: Any) -> Any:
    """The same, with the mode, size (width, height) and pixels in place of images."""
    if isinstance(value, Image.Image):
        pixels = torch.from_numpy(np.array(value))
        return {"mode": value.mode, "size": list(value.size), "pixels": pixels}
    if isinstance(value, np.ndarray) and value.dtype.kind in "uif":
        return {"mode": "array", "pixels": torch.from_numpy(value.copy())}
    return [_images(each) for each in value] if isinstance(value, list | tuple) else value


def _call(timestep: Any, **tensors: Any) -> dict[str, Any]:
    """What is recorded of a call."""
    copies = {name: x.clone() for name, x in tensors.items() if isinstance(x, Tensor)}
    return {"time": _time(timestep), **copies}


def _time(timestep: Any) -> float:
    """A time, however it is given."""
    return float(torch.as_tensor(0 if timestep is None else timestep).float().mean())


# These run where the check runs.


def try_out(
    submission: Submission,
    name: str,
    *args: Any,
    parts: str = "tiny",
    contrast: float = 1.0,
    **kw: Any,
) -> dict[str, Any]:
    """Call the student's function ``name`` with lent parts; see :meth:`Studio.call`.

    If it raises, there is an ``error`` in place of a ``value``, a :class:`StudentError`.
    """
    function = submission.get(name)
    if not isinstance(function, Object):
        fail(f"`{name}` should be a function.")
    path = "helpers.checks.common.tiny_diffusion.Studio"
    answer = submission.build(path, parts, contrast).call("call", function, *args, **kw)
    found = answer if isinstance(answer, dict) else {}
    if "error" in found:
        match found["error"]:
            case ["unattempted", str(message)]:
                raise StudentError("unattempted", message)
            case [str(), str(message)]:
                found["error"] = StudentError("error", message)
            case _:
                found["error"] = StudentError("error", "The function gave no answer.")
    return found


def lend(submission: Submission, name: str, *args: Any, **kw: Any) -> dict[str, Any]:
    """:func:`try_out` where an error is the answer to the check."""
    found = try_out(submission, name, *args, **kw)
    if "error" in found:
        raise found["error"]
    return found


R = TypeVar("R")


def expect_same_for_several(run: Callable[[int], R], looks: Sequence[Callable[[R], None]]) -> None:
    """Fail if something goes wrong with three texts or images that is right with one.

    Args:
        run: calls the student's function for so many.
        looks: each fails if something is wrong.
    """
    one, several = run(1), run(3)
    n_right = 0
    for look in looks:
        try:
            look(one)
        except (CheckFailedError, StudentError):
            continue  # another check's concern
        n_right += 1
        look(several)
    expect(n_right > 0, "As long as one does not work, several cannot.", "See the checks above.")


def picture_pixels(picture: Any) -> Tensor | None:
    """The pixels (H, W, C) or (H, W) of an image that a lent call returned, if it is one."""
    pixels = picture.get("pixels") if isinstance(picture, dict) else None
    return pixels if isinstance(pixels, Tensor) else None
