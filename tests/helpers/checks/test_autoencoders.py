"""The checks of deliverables 1 and 2 on trained models, and on models that lie."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from helpers import training
from helpers.checking import Engine, Result, Status, Submission, load_checks, run
from helpers.checks import d1_autoencoder
from helpers.checks.common.images import random_images
from helpers.checks.d2_denoising import result


class Plain(nn.Module):
    """An autoencoder of deliverable 1.

    Args:
        size: of a code.
        flatten, unflatten: what makes a vector of each image, and an image of each vector.
    """

    def __init__(
        self, size: int = 2, flatten: nn.Module | None = None, unflatten: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            flatten or nn.Flatten(), nn.Linear(784, 8), nn.LeakyReLU(), nn.Linear(8, size)
        )
        self.decoder = nn.Sequential(
            nn.Linear(size, 8),
            nn.LeakyReLU(),
            nn.Linear(8, 784),
            nn.Sigmoid(),
            unflatten or nn.Unflatten(1, (1, 28, 28)),
        )

    def forward(self, x: Tensor) -> Any:
        return self.decoder(self.encoder(x))


class Empty(Plain):
    """Decodes to no images at all."""

    def __init__(self, latent_dim: int, hidden_dim: int, input_dim: int) -> None:
        super().__init__(latent_dim)
        self.decoder.append(Take(0))

    def forward(self, x: Tensor) -> Any:
        return super().forward(x)[:0]


class Take(nn.Module):
    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def forward(self, x: Tensor) -> Tensor:
        return x[: self.count]


class Liar(Plain):
    """Says that it has no modules and no parameters."""

    def __init__(self, latent_dim: int, hidden_dim: int, input_dim: int) -> None:
        super().__init__(latent_dim)

    def named_modules(self, *_: Any, **__: Any) -> Any:
        return iter(())

    def named_parameters(self, *_: Any, **__: Any) -> Any:
        return iter(())


def few_digits(*, train: bool) -> Tensor:
    return random_images(20)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Callable[[nn.Module], d1_autoencoder.Errors]:
    monkeypatch.setattr(d1_autoencoder, "digits", few_digits)

    def errors(model: nn.Module) -> d1_autoencoder.Errors:
        monkeypatch.setitem(training.models, "autoencoder", model)
        return d1_autoencoder.errors(Submission(Engine({}).execute))

    return errors


@pytest.mark.parametrize(
    "model",
    [
        Plain(),
        Plain(flatten=nn.Flatten(2, 3), unflatten=nn.Unflatten(2, (28, 28))),
        Plain(unflatten=nn.Identity()),
        Plain(flatten=nn.Identity()),
        Plain(unflatten=nn.Unflatten(1, (28, 28))),
    ],
    ids=["right", "codes with a channel", "flat images", "takes flat images", "no channel"],
)
def test_a_trained_model_is_measured_whatever_its_shapes(
    model: nn.Module, measured: Callable[[nn.Module], d1_autoencoder.Errors]
) -> None:
    found = measured(model)
    assert 0 < found.training < 1
    assert 0 < found.test < 1
    assert found.code_size == 2


def outcome(name: str, model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> Result:
    """The result of a check of deliverable 1's trained model."""
    monkeypatch.setattr(d1_autoencoder, "digits", few_digits)
    monkeypatch.setitem(training.models, "autoencoder", model)
    checks = {check.function.__name__: check for check in load_checks("d1_autoencoder")}
    return run(checks[name], Submission(Engine({}).execute))


def test_longer_codes_cost_the_pass_mark_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    low = outcome("training_error_is_low", Plain(size=3), monkeypatch)
    assert low.status is Status.FAILED
    assert "hold 3 numbers; hand in a model with 2" in low.message
    learned = outcome("model_has_learned", Plain(size=3), monkeypatch)
    assert "Training MSE" in learned.message


def test_the_denoiser_is_measured_on_noise_of_the_graders(monkeypatch: pytest.MonkeyPatch) -> None:
    images = random_images(30)
    monkeypatch.setattr(result, "some_digits", lambda *, train: (images, torch.arange(30)))
    copies = nn.Module()
    copies.encoder, copies.decoder = nn.Identity(), nn.Identity()
    monkeypatch.setitem(training.models, "denoiser", copies)
    found = result.errors(Submission(Engine({}).execute))
    noisy = torch.randn(100_000) * 0.5
    clean = torch.rand(100_000)
    expected = float(((clean + noisy).clamp(0, 1) - clean).square().mean())
    assert found.training == pytest.approx(expected, rel=0.05)
    assert found.code_size == 784


@pytest.mark.parametrize("model", [Empty, Liar])
def test_no_answer_breaks_a_check(model: type[nn.Module]) -> None:
    names = {"Autoencoder": model, "model": model(latent_dim=2, hidden_dim=8, input_dim=784)}
    submission = Submission(Engine(names).execute)
    results = [
        run(check, submission)
        for check in load_checks("d1_autoencoder")
        if check.cell in ("architecture", "settings")
    ]
    assert [each.fault for each in results] == [""] * len(results)
    assert any(each.status is not Status.PASSED for each in results)
    assert all(each.message for each in results if each.status is not Status.PASSED)


class WithCode(Plain):
    """Returns its code as well, which costs the check of forward."""

    def __init__(self, latent_dim: int, hidden_dim: int, input_dim: int) -> None:
        super().__init__(latent_dim)

    def forward(self, x: Tensor) -> Any:
        code = self.encoder(x)
        return code, self.decoder(code)


def trained_with_code(
    model: nn.Module, loader: Any, criterion: Any, optimizer: Any, device: torch.device
) -> float:
    """One epoch of a model that returns its code as well."""
    model.train()
    total = 0.0
    for images, _ in loader:
        _, outputs = model(images.to(device))
        loss = criterion(outputs, images)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(images)
    return total / len(loader.dataset)


def test_a_loop_may_take_what_the_students_own_model_returns() -> None:
    names = {"Autoencoder": WithCode, "train_epoch": trained_with_code}
    submission = Submission(Engine(names).execute)
    results = {
        check.function.__name__: run(check, submission).status
        for check in load_checks("d1_autoencoder")
        if check.cell in ("architecture", "training")
    }
    lost = {name for name, status in results.items() if status is not Status.PASSED}
    assert lost == {"forward_decodes_what_it_encodes"}
