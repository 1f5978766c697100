"""The parts of text-to-image models: loaded one by one, and joined as the library joins them."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor
from torchvision.transforms.functional import to_tensor
from transformers import CLIPTextConfig, CLIPTextModel

from autograder.judging import load_master
from helpers.deliverables import get
from helpers.models import DIGITS, Parts, grey_digits, load_parts, recognise
from helpers.models.digit_diffusion import SMALL

ID = "d11_text_to_image"


@pytest.fixture(scope="module")
def random_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained parts of other sizes than the small model's: a factor of 8, 16 x 24 pixels."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("parts")
    tokenizer = load_parts("small").tokenizer
    tokenizer.save_pretrained(folder / "tokenizer")
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=24,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    networks = {
        "text_encoder": CLIPTextModel(text),
        "vae": AutoencoderKL(
            block_out_channels=(8,) * 4,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            norm_num_groups=4,
            sample_size=32,
        ),
        "unet": UNet2DConditionModel(
            sample_size=4,
            block_out_channels=(8, 16),
            layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=24,
            attention_head_dim=4,
            norm_num_groups=4,
        ),
    }
    for name, network in networks.items():
        # Untrained text encoders hardly tell texts apart, and guidance would have nothing to do.
        for parameter in network.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
        network.save_pretrained(folder / name)
    PNDMScheduler.from_pretrained(SMALL, subfolder="scheduler").save_pretrained(
        folder / "scheduler"
    )
    return folder


def reference(parts: Parts) -> dict[str, Any]:
    """The master's three functions, over these parts."""
    from PIL import Image

    names: dict[str, Any] = {"torch": torch, "Image": Image, "device": "cpu", **vars(parts)}
    for cell in ("prompt_to_emb", "emb_to_latents", "latents_to_pil"):
        exec(load_master(ID).cell(cell).source, names)
    return names


def drawn(parts: Parts, texts: list[str], negative: Any = None, **settings: Any) -> Tensor:
    """Images (N, 3, h, w) in [0, 1] by the reference."""
    names = reference(parts)
    latents = names["emb_to_latents"](names["prompt_to_emb"](texts, negative), **settings)
    return torch.stack([to_tensor(image) for image in names["latents_to_pil"](latents)])


@pytest.mark.parametrize(
    ("texts", "negative", "scale", "seed"),
    [
        (["a red seven"], None, 8, 64),
        (["a red seven"], None, 2.5, 7),
        (["a blue one", "An astronaut riding a horse."], None, 8, 64),
        (["a blue one", "two"], "yellow", 5, 3),
        (["a blue one", "two"], ["yellow", "a drawing"], 8, 3),
    ],
)
def test_reference_draws_what_the_pipeline_draws(
    texts: list[str], negative: Any, scale: float, seed: int, random_folder: Path
) -> None:
    parts = load_parts(random_folder)
    settings = {"height": 16, "width": 24, "num_inference_steps": 6, "guidance_scale": scale}
    found = drawn(parts, texts, negative, seed=seed, **settings)
    pipeline = StableDiffusionPipeline(
        **vars(load_parts(random_folder)),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    if isinstance(negative, str):
        negative = [negative] * len(texts)
    images = pipeline(
        texts,
        negative_prompt=negative,
        generator=torch.Generator().manual_seed(seed),
        **settings,
    ).images
    right = torch.stack([to_tensor(image) for image in images])
    assert found.shape == right.shape == (len(texts), 3, 16, 24)
    assert right.std() > 0.02
    # One level where rounding falls to the other side.
    assert float((found - right).abs().max()) < 1.5 / 255


def test_text_and_guidance_make_a_difference(random_folder: Path) -> None:
    """Else the test above would say little."""
    parts = load_parts(random_folder)
    settings: Any = {"height": 16, "width": 24, "num_inference_steps": 6}
    one = drawn(parts, ["a red seven"], **settings)
    for texts, negative, scale in (
        (["a blue one"], None, 8),
        (["a red seven"], "two", 8),
        (["a red seven"], None, 2),
    ):
        other = drawn(parts, texts, negative, guidance_scale=scale, **settings)
        assert float((one - other).abs().max()) > 5 / 255


def test_small_model_is_small_and_of_the_right_sizes() -> None:
    parts = load_parts("small")
    assert sum(file.stat().st_size for file in SMALL.rglob("*") if file.is_file()) < 8e6
    assert 1e6 <= sum(p.numel() for p in parts.unet.parameters()) <= 3e6
    ids = parts.tokenizer(["a"], padding="max_length", return_tensors="pt").input_ids
    assert ids.shape == (1, get(ID)["n_tokens"])
    assert not any(p.requires_grad for p in parts.vae.parameters())
    with torch.no_grad():
        latents = parts.vae.encode(torch.zeros(2, 3, 32, 32)).latent_dist.mean
    assert latents.shape == (2, 4, 8, 8)


def test_small_model_draws_what_it_is_asked_for() -> None:
    wanted = torch.arange(10).repeat_interleave(4)
    texts = [f"a handwritten {DIGITS[digit]}" for digit in wanted]
    parts = load_parts("small")
    shares = {}
    for scale in (0, 8):
        images = drawn(
            parts, texts, height=32, width=32, num_inference_steps=15, guidance_scale=scale
        )
        shares[scale] = float((recognise(grey_digits(images)) == wanted).float().mean())
    assert shares[8] >= 0.85
    assert shares[0] < 0.3


def test_what_was_measured_is_written_beside_the_weights() -> None:
    about = json.loads((SMALL / "about.json").read_text())
    by_scale = about["recognised_by_guidance"]
    assert by_scale["8"] >= 0.9
    assert by_scale["1"] < by_scale["8"]
    assert by_scale["0"] < 0.2


def test_one_sentence_where_the_libraries_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec

    def without(name: str, *rest: Any) -> Any:
        return None if name == "diffusers" else find_spec(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    with pytest.raises(ImportError, match="diffusers is missing: run  %pip install"):
        load_parts("small")


def test_the_grader_draws_with_the_small_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LATENT_LAB_WORKER", "1")
    assert load_parts("full").vae.config.sample_size == 32


def test_grey_digits_take_the_brightest_colour() -> None:
    images = torch.zeros(2, 3, 32, 32)
    images[0, 0, 16, 16], images[1, 2, 2, 29] = 1, 0.5
    grey = grey_digits(images)
    assert grey.shape == (2, 1, 28, 28)
    assert grey[0, 0, 14, 14] == 1
    assert grey[1, 0, 0, 27] == 0.5
