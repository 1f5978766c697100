"""Trains deliverable 11's text-to-image model: ``python scripts/train_digit_diffusion.py``.

The model draws coloured handwritten digits ("a red seven", "a photograph of the digit 7"). It has
the parts of Stable Diffusion (Rombach et al., 2022): a tokenizer, a text encoder that is trained
first and then frozen, an autoencoder, and a U-Net that removes noise from the autoencoder's scaled
latents, conditioned on the text. Each part is saved in the format of its own library, in the
folders of a ``CompVis/stable-diffusion-v1-4`` checkpoint, together with the measurements. Training
takes a quarter of an hour on one core. The stages can be run one by one (``text vae unet
measure``).
"""

import copy
import itertools
import json
import random
import sys
import time
from pathlib import Path

import torch
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from tokenizers import pre_tokenizers, trainers
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from helpers.data import mnist_tensors
from helpers.models import DIGIT_COLOURS, DIGITS, LATENT_SCALE, grey_digits, load_parts, recognise
from helpers.models.digit_diffusion import SMALL
from helpers.training import set_seed

#: The size of a token's embedding.
TEXT_DIM = 64
BATCH_SIZE = 64
TEXT_STEPS, VAE_STEPS, UNET_STEPS = 400, 700, 1400
#: The fraction of prompts replaced by the empty one, which guidance needs as the unconditional one.
DROPPED = 0.15
#: Templates of prompts. A prompt may leave the digit, the colour or both open.
BOTH = [
    *("a {c} {d}", "{c} {d}", "a handwritten {c} {d}", "a handwritten {d} in {c}", "{d} in {c}"),
    *("the digit {d} in {c}", "a photograph of a {c} {d}", "a photograph of the digit {d} in {c}"),
    *("a drawing of a {c} {d}", "the {c} digit {d}"),
]
DIGIT_ONLY = [
    *("a {d}", "{d}", "a handwritten {d}", "the digit {d}", "a photograph of the digit {d}"),
    *("a photograph of a {d}", "a drawing of a {d}"),
]
COLOUR_ONLY = ["{c}", "a {c} digit", "a handwritten {c} digit", "a digit in {c}", "in {c}"]
NEITHER = ["a digit", "a handwritten digit", "a photograph of a digit", "a drawing"]
#: The digit or colour that a prompt leaves open.
OPEN = -1
Prompt = tuple[str, int, int]


def prompts() -> list[Prompt]:
    """All prompts, each with the digit and the index of the colour that it asks for."""
    names = [(word, number) for number, word in enumerate(DIGITS)]
    names += [(str(number), number) for number in range(10)]
    found: list[Prompt] = [(text, OPEN, OPEN) for text in NEITHER]
    for colour, c in enumerate(DIGIT_COLOURS):
        found += [(text.format(c=c), OPEN, colour) for text in COLOUR_ONLY]
        for (d, digit), text in itertools.product(names, BOTH):
            found.append((text.format(c=c, d=d), digit, colour))
    for (d, digit), text in itertools.product(names, DIGIT_ONLY):
        found.append((text.format(d=d), digit, OPEN))
    # Both with and without a capital letter and a full stop.
    return found + [(f"{text.capitalize()}.", digit, colour) for text, digit, colour in found]


def train_text(folder: Path) -> None:
    """Train a tokenizer for these prompts, and an encoder that predicts digit and colour.

    Stable Diffusion's encoder was trained with CLIP's contrastive loss. This one is trained to
    predict these two properties, at each position after the last word of the prompt.
    """
    texts = prompts()
    blank = CLIPTokenizer(model_max_length=77)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=1000, end_of_word_suffix="</w>", initial_alphabet=alphabet, show_progress=False
    )
    blank.backend_tokenizer.train_from_iterator([text for text, _, _ in texts], trainer)
    merges = [
        tuple(pair) for pair in json.loads(blank.backend_tokenizer.to_str())["model"]["merges"]
    ]
    words = [*alphabet, *(f"{letter}</w>" for letter in alphabet), *map("".join, merges)]
    words = list(dict.fromkeys([*words, "<|startoftext|>", "<|endoftext|>"]))
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=77)
    tokenizer.save_pretrained(folder / "tokenizer")
    (folder / "tokenizer" / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False))
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "tokenizer" / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")

    encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(words),
            hidden_size=TEXT_DIM,
            intermediate_size=2 * TEXT_DIM,
            projection_dim=TEXT_DIM,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=77,
            bos_token_id=vocabulary["<|startoftext|>"],
            eos_token_id=vocabulary["<|endoftext|>"],
            pad_token_id=vocabulary["<|endoftext|>"],
        )
    )
    ids = token_ids(tokenizer, [text for text, _, _ in texts])
    # "Left open" is a class of its own.
    digits = torch.tensor([digit % 11 for _, digit, _ in texts])
    colours = torch.tensor([colour % (len(DIGIT_COLOURS) + 1) for _, _, colour in texts])
    heads = nn.ModuleList([nn.Linear(TEXT_DIM, 11), nn.Linear(TEXT_DIM, len(DIGIT_COLOURS) + 1)])
    optimizer = torch.optim.AdamW([*encoder.parameters(), *heads.parameters()], lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=TEXT_STEPS)
    for step in range(TEXT_STEPS):
        chosen = torch.randint(len(texts), (BATCH_SIZE,))
        hidden = encoder(ids[chosen])[0]
        after = (ids[chosen] == vocabulary["<|endoftext|>"])[..., None]
        mean = (hidden * after).sum(1) / after.sum(1)
        loss = functional.cross_entropy(heads[0](mean), digits[chosen])
        loss = loss + functional.cross_entropy(heads[1](mean), colours[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        report("text", step, TEXT_STEPS, loss)
    save(encoder, folder / "text_encoder")


def coloured(images: Tensor, colours: Tensor) -> Tensor:
    """Colour grey digits: (N, 1, 28, 28) in [0, 1] -> (N, 3, 32, 32) in [-1, 1]."""
    shades = torch.tensor(list(DIGIT_COLOURS.values()))[colours]
    return 2 * functional.pad(images, [2] * 4) * shades[:, :, None, None] - 1


def train_vae(folder: Path, images: Tensor) -> None:
    """Train an autoencoder for 32 x 32 pixels, with latents of 4 x 8 x 8."""
    vae = AutoencoderKL(
        block_out_channels=(16, 32, 32),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        norm_num_groups=8,
        sample_size=32,
    )
    optimizer = torch.optim.AdamW(vae.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=VAE_STEPS)
    for step in range(VAE_STEPS):
        chosen = torch.randint(len(images), (BATCH_SIZE,))
        x = coloured(images[chosen], torch.randint(len(DIGIT_COLOURS), (BATCH_SIZE,)))
        posterior = vae.encode(x).latent_dist
        x_hat = vae.decode(posterior.sample()).sample
        # Per image, sums over pixels and latents; a small KL weight bounds the size of the latents.
        loss = ((x_hat - x).square().sum() + 0.02 * posterior.kl().sum()) / len(x)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(vae.parameters(), 50.0)
        optimizer.step()
        schedule.step()
        report("vae", step, VAE_STEPS, loss)
    with torch.no_grad():
        x = coloured(images[:2000], torch.arange(2000) % len(DIGIT_COLOURS))
        spread = vae.encode(x).latent_dist.sample().std()
        # Latents of Stable Diffusion are divided by 0.18215 before they are decoded. To make that
        # factor right here too, the two 1 x 1 convolutions at the bottleneck rescale the latents.
        factor = 1 / (LATENT_SCALE * spread)
        vae.quant_conv.weight[:4] *= factor
        vae.quant_conv.bias[:4] *= factor
        vae.quant_conv.bias[4:] += 2 * factor.log()
        vae.post_quant_conv.weight /= factor
    save(vae, folder / "vae")


def train_unet(folder: Path, images: Tensor, labels: Tensor) -> None:
    """Train the U-Net on the latents of all images, each in one random colour."""
    save(new_unet(), folder / "unet")  # untrained, so that all parts can be loaded
    parts = load_parts(folder)
    colours = torch.randint(len(DIGIT_COLOURS), (len(images),))
    posteriors = []
    with torch.no_grad():
        for chosen in torch.arange(len(images)).split(500):
            x = coloured(images[chosen], colours[chosen])
            posteriors.append(parts.vae.encode(x).latent_dist.parameters)
    means, logvars = torch.cat(posteriors).chunk(2, dim=1)
    texts = prompts()
    with torch.no_grad():
        ids = token_ids(parts.tokenizer, [text for text, _, _ in texts])
        embeddings = torch.cat([parts.text_encoder(each)[0] for each in ids.split(200)])
        empty = parts.text_encoder(token_ids(parts.tokenizer, [""]))[0]
    fitting = {
        (d, c): [
            n
            for n, (_, digit, colour) in enumerate(texts)
            if digit in (OPEN, d) and colour in (OPEN, c)
        ]
        for d in range(10)
        for c in range(len(DIGIT_COLOURS))
    }
    unet = new_unet()
    average = copy.deepcopy(unet).requires_grad_(False)
    optimizer = torch.optim.AdamW(unet.parameters(), lr=1e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 1.5e-3, total_steps=UNET_STEPS, pct_start=0.1
    )
    for step in range(UNET_STEPS):
        chosen = torch.randint(len(images), (BATCH_SIZE,))
        wanted = [
            random.choice(fitting[d, c])
            for d, c in zip(labels[chosen].tolist(), colours[chosen].tolist(), strict=True)
        ]
        text = embeddings[wanted]
        text[torch.rand(BATCH_SIZE) < DROPPED] = empty
        eps = torch.randn(BATCH_SIZE, 4, 8, 8)
        latents = LATENT_SCALE * (
            means[chosen] + (logvars[chosen] / 2).exp() * torch.randn_like(eps)
        )
        t = torch.randint(len(parts.scheduler.alphas_cumprod), (BATCH_SIZE,))
        noisy = parts.scheduler.add_noise(latents, eps, t)
        loss = functional.mse_loss(unet(noisy, t, text).sample, eps)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        decay = min(0.995, (1 + step) / (10 + step))
        with torch.no_grad():
            for mean, new in zip(average.parameters(), unet.parameters(), strict=True):
                mean.lerp_(new, 1 - decay)
        report("unet", step, UNET_STEPS, loss)
        if step % 200 == 199:
            save(copy.deepcopy(average), folder / "unet")


def new_unet() -> UNet2DConditionModel:
    """A U-Net with two resolutions, 8 x 8 and 4 x 4; the coarse one attends to the text."""
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(48, 96),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=TEXT_DIM,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def scheduler() -> PNDMScheduler:
    """A scheduler with the settings of the v1-4 checkpoint."""
    return PNDMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        skip_prk_steps=True,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def measure(folder: Path, per_digit: int = 20, steps: int = 25) -> dict[str, float]:
    """The fraction of samples that a classifier recognises as the prompt's digit, by guidance."""
    parts = load_parts(folder)
    pipeline = StableDiffusionPipeline(
        **vars(parts), safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )
    pipeline.set_progress_bar_config(disable=True)
    wanted = torch.arange(10).repeat_interleave(per_digit)
    texts = [f"a handwritten {DIGITS[digit]}" for digit in wanted.tolist()]
    found = {}
    for scale in (0.0, 1.0, 2.0, 4.0, 8.0):
        generator = torch.Generator().manual_seed(0)
        # The library treats scales up to 1 as "no guidance", so 0 needs empty prompts.
        drawn = pipeline(
            texts if scale else [""] * len(texts),
            guidance_scale=scale,
            num_inference_steps=steps,
            generator=generator,
            output_type="pt",
            height=32,
            width=32,
        ).images
        found[f"{scale:g}"] = float((recognise(grey_digits(drawn)) == wanted).float().mean())
        print(f"guidance {scale:g}: {found[f'{scale:g}']:.3f} recognised", flush=True)
    return found


def token_ids(tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    """The token ids of texts, (N, 77)."""
    options = {"padding": "max_length", "max_length": 77, "truncation": True}
    ids: Tensor = tokenizer(texts, return_tensors="pt", **options).input_ids
    return ids


def save(model: nn.Module, folder: Path) -> None:
    """Save a model in half precision, which makes no visible difference to the images."""
    model.half().save_pretrained(folder)
    for file in folder.glob("*.safetensors"):
        file.chmod(0o644)  # the sandbox reads it as another user


def report(stage: str, step: int, steps: int, loss: Tensor) -> None:
    """Print a line every 50 steps."""
    if step % 50 == 49:
        clock = time.strftime("%H:%M:%S")
        print(f"{clock} {stage} {step + 1}/{steps}: loss {loss.item():.4f}", flush=True)


def main() -> None:
    """Run the stages named on the command line, by default all."""
    stages = sys.argv[1:] or ["text", "vae", "unet", "measure"]
    images, labels = mnist_tensors(train=True)
    scheduler().save_pretrained(SMALL / "scheduler")
    for stage in stages:
        set_seed(0)
        if stage == "text":
            train_text(SMALL)
        elif stage == "vae":
            train_vae(SMALL, images)
        elif stage == "unet":
            train_unet(SMALL, images, labels)
        elif stage == "measure":
            about = {"recognised_by_guidance": measure(SMALL), "unet_steps": UNET_STEPS, "seed": 0}
            (SMALL / "about.json").write_text(json.dumps(about, indent=2) + "\n")


if __name__ == "__main__":
    main()
