"""Parameter counts and the torchsummary text."""

import pytest
import torch
from torch import Tensor, nn

from helpers.budget import count_parameters, summary


def small_encoder() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 8), nn.LeakyReLU(), nn.Linear(8, 2))


class TiedAutoencoder(nn.Module):
    """Its decoder's weight is the encoder's, so that it counts once; and it returns a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Linear(784, 784, bias=False)
        self.up = nn.Linear(784, 784, bias=False)
        self.up.weight = self.down.weight

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = self.down(x.flatten(1))
        return self.up(z), z


class Codebook(nn.Module):
    """Uses the weight of a layer that it never calls: torchsummary does not see it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.codes = nn.Embedding(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.codes.weight[torch.cdist(self.layer(x), self.codes.weight).argmin(1)]


class RaggedOutput(nn.Module):
    """Contains a layer whose tuple holds None, which torchsummary cannot measure."""

    class Inner(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, None]:
            return x, None

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.inner = self.Inner()

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.inner(self.layer(x))[0]
        return output


def test_counts_what_is_trained() -> None:
    model = small_encoder()
    assert count_parameters(model) == 784 * 8 + 8 + 8 * 2 + 2
    model[1].requires_grad_(False)
    assert count_parameters(model) == 8 * 2 + 2


def test_shared_parameters_count_once_and_buffers_not() -> None:
    assert count_parameters(TiedAutoencoder()) == 784 * 784
    assert count_parameters(nn.BatchNorm2d(5)) == 10
    assert count_parameters(nn.ReLU()) == 0


def test_lazy_layers_are_explained() -> None:
    model = nn.Sequential(nn.Flatten(), nn.LazyLinear(2))
    with pytest.raises(ValueError, match="send one batch through it first"):
        count_parameters(model)
    model(torch.rand(2, 1, 28, 28))
    assert count_parameters(model) == 784 * 2 + 2


def test_summary_is_torchsummarys_text_and_prints_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = summary(small_encoder(), (1, 28, 28))
    assert "Linear-2" in text
    assert "[-1, 8]" in text
    assert "Trainable params: 6,298" in text
    assert "torchsummary" not in text
    assert capsys.readouterr().out == ""


def test_summary_leaves_model_and_random_numbers_alone() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    summary(model, (1, 28, 28))
    assert torch.equal(torch.rand(3), expected)
    assert model.training
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_wrong_counts_are_put_right() -> None:
    text = summary(Codebook(), (4,))
    assert "torchsummary counts 15 trainable parameters here, but the model has 45" in text
    assert "codes.weight" in text

    text = summary(TiedAutoencoder(), (1, 28, 28))
    assert "the model has 614,656" in text


@pytest.mark.parametrize(
    ("model", "size"),
    [
        (small_encoder(), (1, 14, 14)),  # a wrong input size: forward raises
        (nn.Linear(4, 3), (4,)),  # a single layer: torchsummary itself raises
        (RaggedOutput(), (4,)),
    ],
)
def test_where_torchsummary_fails_there_is_a_table(model: nn.Module, size: tuple[int, ...]) -> None:
    text = summary(model, size)
    sentence, _, table = text.partition("\n\n")
    assert sentence.startswith("torchsummary could not describe this model (")
    assert "\n" not in sentence
    assert f"Trainable params: {count_parameters(model):,}" in table


def test_table_tells_frozen_from_trained() -> None:
    model = nn.Linear(4, 3)
    model.weight.requires_grad_(False)
    text = summary(model, (4,))
    assert "frozen" in text
    assert "Trainable params: 3\nNon-trainable params: 12" in text
