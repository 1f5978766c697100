"""The reference of deliverable 10 against the autoencoder of ``diffusers``, and its drawing."""

import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autograder.judging import all_checks, load_master
from helpers.checking import Engine, Submission, close, run
from helpers.checks.common.accumulation import AccumulatingTrial
from helpers.plotting import draw_stages

SOLUTIONS = (
    "self_attention",
    "attention_block_class",
    "residual_block_class",
    "resampling_classes",
    "network_classes",
    "model_class",
    "train_epoch",
)


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """What the master's solutions define."""
    master = load_master("d10_sd_vae")
    found: dict[str, Any] = {"torch": torch, "nn": nn}
    for name in SOLUTIONS:
        exec(master.cell(name).source, found)
    return found


#: What diffusers calls our encoder's and decoder's layers, in their order.
ENCODER = [
    "conv_in",
    *[f"down_blocks.0.{name}" for name in ("resnets.0", "resnets.1", "downsamplers.0")],
    *[f"down_blocks.1.{name}" for name in ("resnets.0", "resnets.1", "downsamplers.0")],
    *[f"down_blocks.2.{name}" for name in ("resnets.0", "resnets.1", "downsamplers.0")],
    *["down_blocks.3.resnets.0", "down_blocks.3.resnets.1"],
    *["mid_block.resnets.0", "mid_block.attentions.0", "mid_block.resnets.1"],
    *["conv_norm_out", "SiLU", "conv_out"],
]
DECODER = [
    "conv_in",
    *["mid_block.resnets.0", "mid_block.attentions.0", "mid_block.resnets.1"],
    *[f"up_blocks.0.{n}" for n in ("resnets.0", "resnets.1", "resnets.2", "upsamplers.0")],
    *[f"up_blocks.1.{n}" for n in ("resnets.0", "resnets.1", "resnets.2", "upsamplers.0")],
    *[f"up_blocks.2.{n}" for n in ("resnets.0", "resnets.1", "resnets.2", "upsamplers.0")],
    *[f"up_blocks.3.{n}" for n in ("resnets.0", "resnets.1", "resnets.2")],
    *["conv_norm_out", "SiLU", "conv_out"],
]
#: Parts of blocks, where they are called otherwise.
PARTS = {"shortcut": "conv_shortcut", "norm": "group_norm", "attention.out_proj": "to_out.0"}


def translated(theirs: dict[str, Tensor], ours: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of diffusers under our names."""

    def weights(name: str) -> Tensor:
        match = re.fullmatch(r"(encoder|decoder)\.(\d+)\.(?:(.+)\.)?(weight|bias)", name)
        if match is None:
            return theirs[name]  # the 1 x 1 convolutions are called the same
        network, number, part, kind = match.groups()
        layer = f"{network}.{(ENCODER if network == 'encoder' else DECODER)[int(number)]}"
        if part == "attention.in_proj":
            return torch.cat([theirs[f"{layer}.to_{letter}.{kind}"] for letter in "qkv"])
        return theirs[".".join(filter(None, (layer, PARTS.get(part, part), kind)))]

    return {name: weights(name) for name in ours}


@pytest.mark.parametrize(
    ("base_channels", "side"), [(32, 64), pytest.param(128, 64, marks=pytest.mark.long)]
)
def test_reference_agrees_with_diffusers(
    names: dict[str, Any], base_channels: int, side: int
) -> None:
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    b = base_channels
    peer = diffusers.AutoencoderKL(
        block_out_channels=(b, 2 * b, 4 * b, 4 * b),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        layers_per_block=2,
        norm_num_groups=32,
        sample_size=side,
    ).double()
    # Normalisations start at 1 and 0, which would hide a wrong one.
    with torch.no_grad():
        for parameter in peer.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
    theirs = peer.state_dict()
    model = names["VAE"](base_channels).double()
    ours = translated(theirs, model.state_dict())
    assert sum(v.numel() for v in ours.values()) == sum(v.numel() for v in theirs.values())
    model.load_state_dict(ours, strict=True)

    # In double precision, where nothing but a mistake is left of a difference.
    images = 2 * torch.rand(2, 3, side, side + 8, dtype=torch.float64) - 1
    latents = torch.randn(2, 4, side // 8, side // 8 + 1, dtype=torch.float64)
    with torch.no_grad():
        posterior = peer.encode(images).latent_dist
        mean, logvar = model.moments(images)
        decoded = model.decode(0.18215 * latents)
        expected = peer.decode(latents).sample
    for found, right in ((mean, posterior.mean), (logvar, posterior.logvar), (decoded, expected)):
        assert float((found - right).abs().max()) < 1e-9
        assert float(right.std()) > 0.01, "Nothing is compared where all is zero."


def test_full_width_has_as_many_parameters_as_the_real_one(names: dict[str, Any]) -> None:
    with torch.device("meta"):
        model = names["VAE"](128)

    def count(part: nn.Module) -> int:
        return sum(parameter.numel() for parameter in part.parameters())

    assert count(model) == 83_653_863
    assert count(model.encoder) == 34_163_592
    assert count(model.decoder) == 49_490_179
    assert count(model.quant_conv) + count(model.post_quant_conv) == 92


def test_accumulation_makes_the_step_of_a_larger_batch(names: dict[str, Any]) -> None:
    """The trial's own arithmetic: three batches gathered are one step, made by hand."""
    submission = Submission(Engine(names).execute)
    trial = AccumulatingTrial(submission, lr=0.1, n_accumulated=3)
    trial.epoch()
    state = trial.model.state()

    def moved_like(divisor: float) -> bool:
        right = trial.followed("bbbsz", (divisor,) * 3)
        return all(close(state[name], right[name], 2e-5) for name in right)

    assert moved_like(3)
    assert not moved_like(1)


def test_drawing_shows_the_image_twice() -> None:
    axes = draw_stages(torch.rand(3, 32, 32)).axes[0]
    assert len(axes.images) == 2
    labels = {text.get_text() for text in axes.texts}
    assert {"encoder", "decoder", "$z$", "56", "7"} <= labels


class Odd(nn.Module):
    """Stands for any class of the student's, and answers anything with one odd thing."""

    answer: Any = None

    def __init__(self, *_: Any) -> None:
        super().__init__()
        for name in ("norm", "norm1", "norm2", "conv", "conv1", "conv2", "in_proj", "out_proj"):
            setattr(self, name, nn.Conv1d(3, 3, 3))
        self.encoder = self.decoder = nn.Conv2d(3, 4, 3)
        self.quant_conv = nn.Conv2d(8, 8, 1)

    def forward(self, *_: Any) -> Any:
        return self.answer

    moments = reparameterize = encode = decode = forward


@pytest.mark.parametrize(
    "answer",
    [
        *[None, "text", 3, float("nan"), [], [None] * 3, {"epoch": None}, {"state": {}}, object()],
        *[torch.full((2, 3, 16, 24), float("nan")), torch.arange(3), torch.zeros(0)],
        *[[torch.zeros(2, 4, 2, 3)] * 2, [torch.zeros(2, 4, 2, 3)] * 3, (torch.zeros(()),) * 3],
    ],
    ids=lambda value: type(value).__name__,
)
def test_odd_answers_cost_marks_and_never_raise(answer: Any) -> None:
    odd = type("Odd", (Odd,), {"answer": answer})
    classes = ("SelfAttention", "AttentionBlock", "ResidualBlock", "Downsample", "Upsample")
    names = dict.fromkeys((*classes, "Encoder", "Decoder", "VAE"), odd)
    functions = ("vae_loss", "train_epoch", "preprocess", "attention_weights", "causal_mask")
    functions += ("spread", "draw", "activation", "kl_divergence", "unscaled", "checkpoint")
    names |= dict.fromkeys(functions, lambda *_: answer)
    submission = Submission(Engine(names).execute)
    for each in all_checks("d10_sd_vae"):
        result = run(each, submission)
        assert result.status in ("failed", "error", "unattempted"), each.id
        assert result.message
