"""Small parts of a text-to-image model, for trying out the code that joins them.

They have the interfaces of diffusers' and transformers' parts, with simple formulas inside. They
reveal mistakes that real parts would hide: the scheduler's initial sigma is not 1, its scaling
depends on the time, and one of its times comes twice. They record what they are given.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from helpers.checking import Object, Submission, fail
from helpers.models import LATENT_SCALE, Parts, load_parts

#: Tokens of a text, size of a token's vector, channels of the latents.
N_TOKENS, DIM, CHANNELS = 77, 6, 4
#: Side of an image divided by the side of its latents.
FACTOR = 4
INITIAL_SIGMA = 3.7
_START, _END, _VOCABULARY = 0, 1, 99
#: What is recorded of each call, oldest first: its time, and copies of tensors by name.
Calls = list[dict[str, Any]]


class Answer(dict[str, Any]):
    """Several values, each by name (as item or attribute) or by number."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, int | slice):
            return tuple(self.values())[key]
        return super().__getitem__(key)

    def to(self, *_: Any, **__: Any) -> Answer:
        """Itself: everything is on the CPU."""
        return self


class TinyTokenizer:
    """Texts -> numbers: one for each word, one before the first and one after the last."""

    model_max_length = N_TOKENS
    pad_token_id = eos_token_id = _END
    bos_token_id = _START

    def __call__(
        self,
        text: str | Sequence[str],
        text_pair: None = None,
        padding: bool | str = False,
        truncation: bool | str = False,
        max_length: int | None = None,
        return_tensors: str | None = None,
        **_: Any,
    ) -> Answer:
        """Like the call of a real one."""
        rows = [self._numbers(each) for each in ([text] if isinstance(text, str) else text)]
        length = max_length or self.model_max_length
        if truncation:
            rows = [row if len(row) <= length else [*row[: length - 1], _END] for row in rows]
        masks = [[1] * len(row) for row in rows]
        if padding:
            to = length if padding == "max_length" else max(map(len, rows))
            rows = [row + [_END] * (to - len(row)) for row in rows]
            masks = [mask + [0] * (to - len(mask)) for mask in masks]
        if return_tensors is None:
            return Answer(input_ids=rows, attention_mask=masks)
        if len({len(row) for row in rows}) > 1:
            raise ValueError("Texts of different lengths make no tensor: use padding='max_length'.")
        return Answer(input_ids=torch.tensor(rows), attention_mask=torch.tensor(masks))

    def _numbers(self, text: str) -> list[int]:
        words = text.lower().split()
        letters = [sum(n * ord(letter) for n, letter in enumerate(word, 1)) for word in words]
        return [_START, *(2 + number % (_VOCABULARY - 2) for number in letters), _END]


class _Network(nn.Module):
    """The attributes that callers read from a network."""

    device = torch.device("cpu")
    dtype = torch.float32


class TinyTextEncoder(_Network):
    """Token numbers (N, L) -> vectors (N, L, 6), each dependent on all tokens before it."""

    config = Answer(hidden_size=DIM, max_position_embeddings=N_TOKENS, use_attention_mask=False)

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.words: Tensor
        self.places: Tensor
        self.register_buffer("words", torch.randn(_VOCABULARY, DIM, generator=generator))
        self.register_buffer("places", torch.randn(N_TOKENS, DIM, generator=generator))

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        return_dict: bool = True,
        **_: Any,
    ) -> Any:
        """Vectors (N, L, 6), and that of the first end-of-text token, (N, 6)."""
        length = input_ids.shape[1]
        if length > N_TOKENS:
            raise ValueError(f"A text may have {N_TOKENS} tokens at most; there are {length}.")
        vectors = self.words[input_ids] + self.places[:length]
        weights = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        total = (vectors * weights[..., None]).cumsum(dim=1)
        hidden = torch.tanh(vectors + 4 * total / weights.cumsum(dim=1)[..., None])
        first_end = (input_ids == _END).int().argmax(dim=1)
        pooled = hidden[torch.arange(len(hidden)), first_end]
        answer = Answer(last_hidden_state=hidden, pooler_output=pooled)
        return answer if return_dict else answer[:]


class TinyUNet(_Network):
    """Noisy latents (N, 4, h, w), a time, vectors of a text (N, L, 6) -> noise (N, 4, h, w)."""

    config = Answer(in_channels=CHANNELS, sample_size=8, cross_attention_dim=DIM)

    def __init__(self) -> None:
        super().__init__()
        self.calls: Calls = []
        weight = torch.randn(DIM, CHANNELS, generator=torch.Generator().manual_seed(2))
        self.weight: Tensor
        self.register_buffer("weight", weight)

    def forward(
        self,
        sample: Tensor,
        timestep: Any,
        encoder_hidden_states: Tensor,
        return_dict: bool = True,
        **_: Any,
    ) -> Any:
        """The noise: bounded, and different for each text."""
        if len(sample) != len(encoder_hidden_states):
            raise ValueError(
                f"The U-Net was given {len(sample)} latents and {len(encoder_hidden_states)} texts."
            )
        text = (3 * encoder_hidden_states.mean(dim=1)) @ self.weight
        noise = torch.tanh(0.6 * sample + text[:, :, None, None])
        noise = noise + 0.3 * math.sin(_time(timestep) / 90)
        self.calls.append(_call(timestep, sample=sample, text=encoder_hidden_states, noise=noise))
        return Answer(sample=noise) if return_dict else (noise,)


class TinyScheduler:
    """Takes steps that depend on the one before. It has one time more than steps."""

    order = 1
    init_noise_sigma = INITIAL_SIGMA
    config = Answer(num_train_timesteps=1000)

    def __init__(self) -> None:
        self.timesteps = torch.arange(999, -1, -1)
        self.num_inference_steps: int | None = None
        self.scalings: Calls = []
        self.steps: Calls = []
        self._last: Tensor | None = None

    def set_timesteps(self, num_inference_steps: int, device: Any = None) -> None:
        """From 961 down to 1; the second comes twice, as with PNDM."""
        times = torch.linspace(961, 1, num_inference_steps).round().long()
        self.timesteps = torch.cat([times[:2], times[1:]])
        self.num_inference_steps = num_inference_steps
        self._last = None

    def scale_model_input(self, sample: Tensor, timestep: Any = None, *_: Any, **__: Any) -> Tensor:
        """The latents as the U-Net should see them."""
        scaled = sample / (1 + _time(timestep) / 500)
        self.scalings.append(_call(timestep, sample=sample, scaled=scaled))
        return scaled

    def step(
        self,
        model_output: Tensor,
        timestep: Any,
        sample: Tensor,
        *_: Any,
        return_dict: bool = True,
        **__: Any,
    ) -> Any:
        """The latents after one more step towards an image."""
        if self.num_inference_steps is None:
            raise ValueError("The number of steps is not set: call scheduler.set_timesteps first.")
        last = model_output if self._last is None else self._last
        self._last = model_output
        new = sample - (0.05 + _time(timestep) / 4000) * (1.5 * model_output - 0.5 * last)
        self.steps.append(_call(timestep, noise=model_output, sample=sample, new=new))
        return Answer(prev_sample=new) if return_dict else (new,)


class TinyAutoencoderKL(_Network):
    """Latents (N, 4, h, w) -> images (N, 3, 4 h, 4 w): the first three channels times 0.25."""

    config = Answer(
        block_out_channels=(8, 8, 8),
        latent_channels=CHANNELS,
        scaling_factor=LATENT_SCALE,
        sample_size=64,
    )

    def __init__(self) -> None:
        super().__init__()
        self.decoded: list[Tensor] = []

    def decode(self, z: Tensor, return_dict: bool = True, **_: Any) -> Any:
        """The images."""
        self.decoded.append(z.clone())
        image = painted(z)
        return Answer(sample=image) if return_dict else (image,)


def painted(z: Tensor) -> Tensor:
    """What :class:`TinyAutoencoderKL` makes of latents."""
    return 0.25 * z[:, :3].repeat_interleave(FACTOR, dim=2).repeat_interleave(FACTOR, dim=3)


def tiny_parts() -> Parts:
    """All five."""
    autoencoder = TinyAutoencoderKL()
    return Parts(TinyTokenizer(), TinyTextEncoder(), TinyUNet(), TinyScheduler(), autoencoder)


class Studio:
    """Gives parts to a student's function, for one call, in place of the notebook's own.

    Args:
        kind: "tiny" for the parts above, "small" for those of the digit model.
    """

    def __init__(self, kind: str = "tiny") -> None:
        self._kind = kind

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Call a function.

        The function finds the parts by their global names, which refer to the lent parts during the
        call.

        Returns:
            The function's answer as ``value``, whether torch's global random state changed as
            ``touched``, and what tiny parts recorded.
        """
        names = getattr(inspect.unwrap(function), "__globals__", None)
        if names is None:
            raise TypeError("this should be a function, made with `def`")
        parts = tiny_parts() if self._kind == "tiny" else load_parts("small")
        lent = {**vars(parts), "device": torch.device("cpu")}
        own = {name: names[name] for name in lent if name in names}
        torch.rand(())  # a function that seeds everything would otherwise find the state it left
        before = torch.random.get_rng_state()
        names.update(lent)
        try:
            value = function(*args, **kwargs)
        finally:
            for name in lent:
                del names[name]
            names.update(own)
        touched = not torch.equal(before, torch.random.get_rng_state())
        found = {"value": _images(value), "touched": touched}
        if self._kind == "tiny":
            found["unet"] = parts.unet.calls
            found |= {"scalings": parts.scheduler.scalings, "steps": parts.scheduler.steps}
            found["decoded"] = parts.vae.decoded
        return found


def _images(value: Any) -> Any:
    """The same, with the mode, size (width, height) and pixels in place of PIL images."""
    if isinstance(value, Image.Image):
        pixels = torch.from_numpy(np.array(value))
        return {"mode": value.mode, "size": list(value.size), "pixels": pixels}
    return [_images(each) for each in value] if isinstance(value, list | tuple) else value


def _call(timestep: Any, **tensors: Tensor) -> dict[str, Any]:
    """What is recorded of a call."""
    return {"time": _time(timestep), **{name: x.clone() for name, x in tensors.items()}}


def _time(timestep: Any) -> float:
    """A time, however it is given."""
    return float(torch.as_tensor(0 if timestep is None else timestep).float().mean())


# These run where the check runs.


def lend(submission: Submission, name: str, *args: Any, parts: str = "tiny", **kw: Any) -> Any:
    """Call the student's function ``name`` with lent parts; see :meth:`Studio.call`."""
    function = submission.get(name)
    if not isinstance(function, Object):
        fail(f"`{name}` should be a function.")
    studio = submission.build("helpers.checks.common.tiny_diffusion.Studio", parts)
    found = studio.call("call", function, *args, **kw)
    return found if isinstance(found, dict) else {}


def picture_pixels(picture: Any) -> Tensor | None:
    """The pixels (H, W, C) or (H, W) of an image that a lent call returned, if it is one."""
    pixels = picture.get("pixels") if isinstance(picture, dict) else None
    return pixels if isinstance(pixels, Tensor) else None
