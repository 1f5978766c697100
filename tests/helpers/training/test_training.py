"""Training, its checkpoint and its history, with a real model on a few random images."""

import json
import math
import os
import random
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from helpers.training import (
    Batches,
    History,
    models,
    pick_device,
    randomness,
    set_seed,
    train_or_restore,
)


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.delenv("LATENT_LAB_WORKER", raising=False)
    monkeypatch.setattr(randomness, "last_seed", None)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def loader() -> DataLoader[tuple[Tensor, ...]]:
    return DataLoader(TensorDataset(torch.rand(50, 1, 28, 28)), batch_size=16, shuffle=True)


def build(hidden_dim: int = 8) -> nn.Module:
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(784, hidden_dim),
        nn.LeakyReLU(),
        nn.BatchNorm1d(hidden_dim),
        nn.Linear(hidden_dim, 784),
        nn.Sigmoid(),
        nn.Unflatten(1, (1, 28, 28)),
    )


def trainer(model: nn.Module) -> Callable[[Batches], float]:
    """What a student writes."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)

    def train_epoch(batches: Batches) -> float:
        total = 0.0
        for (images,) in batches:
            loss = nn.functional.mse_loss(model(images), images)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(images)
        return total / len(batches.dataset)

    return train_epoch


def same_weights(a: nn.Module, b: nn.Module) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return all(torch.equal(ours[key], theirs[key]) for key in ours)


def never(batches: Batches) -> float:
    raise AssertionError("should not train")


# --- training and restoring -------------------------------------------------------------------


def test_trains_and_restores(
    tmp_path: Path,
    loader: DataLoader[tuple[Tensor, ...]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    set_seed(3)
    model = build()
    history = train_or_restore("ae", model, trainer(model), loader, 3, directory=tmp_path)
    printed = capsys.readouterr()
    assert "Trained 'ae'" in printed.out
    assert "3 epochs" in printed.out
    assert "epoch 3/3" in printed.err
    assert "12/12" in printed.err  # batches of the whole training
    assert "loss=" in printed.err
    assert history.finished
    assert len(history.losses) == len(history.seconds) == 3
    assert history.losses[-1] < history.losses[0]
    assert history.seed == 3
    assert history.n_parameters == 784 * 8 + 8 + 16 + 8 * 784 + 784
    assert set(history.versions) == {"python", "torch", "torchvision"}
    assert models["ae"] is model

    fresh = build()
    assert not same_weights(fresh, model)
    restored = train_or_restore("ae", fresh, never, loader, 3, directory=tmp_path)
    line = capsys.readouterr().out
    assert line.count("\n") == 1
    assert "Restored 'ae', trained on 20" in line
    assert "3 epochs, last loss" in line
    assert "To train again, delete" in line
    assert restored == history
    assert same_weights(fresh, model)
    assert models["ae"] is fresh


def test_restoring_says_when_n_epochs_changed(
    tmp_path: Path,
    loader: DataLoader[tuple[Tensor, ...]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = build()
    train_or_restore("ae", model, trainer(model), loader, 1, directory=tmp_path)
    train_or_restore("ae", model, never, loader, 9, directory=tmp_path)
    assert "1 epoch (n_epochs is now 9)" in capsys.readouterr().out


def test_retrain(tmp_path: Path, loader: DataLoader[tuple[Tensor, ...]]) -> None:
    model = build()
    train_or_restore("ae", model, trainer(model), loader, 1, directory=tmp_path)
    again = train_or_restore(
        "ae", model, trainer(model), loader, 2, directory=tmp_path, retrain=True
    )
    assert len(again.losses) == 2
    assert History.from_json((tmp_path / "ae.json").read_bytes()) == again


def test_files_are_readable_by_others_and_nothing_else_is_left(
    tmp_path: Path, loader: DataLoader[tuple[Tensor, ...]]
) -> None:
    model = build()
    train_or_restore("ae", model, trainer(model), loader, 2, directory=tmp_path / "new" / "dir")
    files = sorted((tmp_path / "new" / "dir").iterdir())
    assert [file.name for file in files] == ["ae.json", "ae.safetensors"]
    if os.name == "posix":
        assert [stat.S_IMODE(file.stat().st_mode) for file in files] == [0o644, 0o644]


def test_tied_weights_are_saved_under_both_names(
    tmp_path: Path, loader: DataLoader[tuple[Tensor, ...]]
) -> None:
    def tied() -> nn.Sequential:
        model = nn.Sequential(nn.Flatten(), nn.Linear(784, 784), nn.Linear(784, 784))
        model[2].weight = model[1].weight
        return model

    model = tied()
    train_or_restore("tied", model, lambda batches: 0.5, loader, 1, directory=tmp_path)
    state = safetensors.torch.load_file(tmp_path / "tied.safetensors")
    assert set(state) == set(model.state_dict())
    fresh = tied()
    train_or_restore("tied", fresh, never, loader, 1, directory=tmp_path)
    assert same_weights(fresh, model)
    assert fresh[2].weight is fresh[1].weight


def test_lazy_layers_are_saved_and_restored(
    tmp_path: Path, loader: DataLoader[tuple[Tensor, ...]]
) -> None:
    def lazy() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.LazyLinear(2))

    model = lazy()

    def train_epoch(batches: Batches) -> float:
        return float(np.mean([model(images).square().mean().item() for (images,) in batches]))

    history = train_or_restore("lazy", model, train_epoch, loader, 1, directory=tmp_path)
    assert history.n_parameters == 784 * 2 + 2
    fresh = lazy()
    train_or_restore("lazy", fresh, never, loader, 1, directory=tmp_path)
    assert same_weights(fresh, model)


# --- what is there cannot be used ------------------------------------------------------------


def test_another_architecture_trains_anew_from_untouched_weights(
    tmp_path: Path,
    loader: DataLoader[tuple[Tensor, ...]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = build(8)
    train_or_restore("ae", model, trainer(model), loader, 1, directory=tmp_path)
    wider = build(9)
    before = {key: value.clone() for key, value in wider.state_dict().items()}
    seen: list[bool] = []

    def train_epoch(batches: Batches) -> float:
        # The biases of the last layer have the same shape in both: not even they may be copied.
        seen.extend(torch.equal(before[key], value) for key, value in wider.state_dict().items())
        return 0.1

    history = train_or_restore("ae", wider, train_epoch, loader, 1, directory=tmp_path)
    out = capsys.readouterr().out
    assert "does not fit this model ('1.weight' has shape (8, 784) there, (9, 784)" in out
    assert "Training again." in out
    assert all(seen)
    assert history.losses == [0.1]
    train_or_restore("ae", wider, never, loader, 1, directory=tmp_path)


@pytest.mark.parametrize("damage", ["weights", "empty", "history", "no weights", "no history"])
def test_a_damaged_checkpoint_trains_anew(
    tmp_path: Path,
    loader: DataLoader[tuple[Tensor, ...]],
    capsys: pytest.CaptureFixture[str],
    damage: str,
) -> None:
    model = build()
    train_or_restore("ae", model, trainer(model), loader, 1, directory=tmp_path)
    weights, history = tmp_path / "ae.safetensors", tmp_path / "ae.json"
    match damage:
        case "weights":
            weights.write_bytes(weights.read_bytes()[:-100])
        case "empty":
            weights.write_bytes(b"")
        case "history":
            history.write_text(history.read_text()[:-20])
        case "no weights":
            weights.unlink()
        case "no history":
            history.unlink()
    capsys.readouterr()
    again = train_or_restore("ae", model, trainer(model), loader, 1, directory=tmp_path)
    out = capsys.readouterr().out
    assert out.splitlines()[0].endswith("Training again.")
    assert "Traceback" not in out
    assert again.finished
    train_or_restore("ae", model, never, loader, 1, directory=tmp_path)


# --- stopping ---------------------------------------------------------------------------------


def test_interrupt_keeps_the_last_full_epoch(
    tmp_path: Path,
    loader: DataLoader[tuple[Tensor, ...]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = build()
    step = trainer(model)
    epochs = 0

    def train_epoch(batches: Batches) -> float:
        nonlocal epochs
        epochs += 1
        loss = step(batches)
        if epochs == 3:
            raise KeyboardInterrupt
        return loss

    history = train_or_restore("ae", model, train_epoch, loader, 5, directory=tmp_path)
    assert not history.finished
    assert len(history.losses) == len(history.seconds) == 2
    out = capsys.readouterr().out
    assert "after 2 epochs" in out
    saved = build()
    saved.load_state_dict(safetensors.torch.load_file(tmp_path / "ae.safetensors"))
    assert same_weights(saved, model)

    fresh = build()
    again = train_or_restore("ae", fresh, trainer(fresh), loader, 2, directory=tmp_path)
    out = capsys.readouterr().out
    assert "stopped after 2 epochs, and its optimizer's state is gone. Training again." in out
    assert again.finished


def test_interrupt_in_the_first_epoch_leaves_an_earlier_checkpoint(
    tmp_path: Path,
    loader: DataLoader[tuple[Tensor, ...]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = build()
    train_or_restore("ae", model, trainer(model), loader, 1, directory=tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}

    def stop(batches: Batches) -> float:
        raise KeyboardInterrupt

    history = train_or_restore("ae", model, stop, loader, 1, directory=tmp_path, retrain=True)
    assert history.losses == []
    assert not history.finished
    assert "nothing was saved" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_interrupt_while_saving_leaves_no_half_written_file(
    tmp_path: Path, loader: DataLoader[tuple[Tensor, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build()
    train_or_restore("ae", model, trainer(model), loader, 1, directory=tmp_path)
    before = (tmp_path / "ae.safetensors").read_bytes()
    real = os.replace

    def stop(source: str, target: Path) -> None:
        if target.suffix == ".safetensors":
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(os, "replace", stop)
    history = train_or_restore(
        "ae", model, trainer(model), loader, 1, directory=tmp_path, retrain=True
    )
    assert history.losses == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ae.json", "ae.safetensors"]
    assert (tmp_path / "ae.safetensors").read_bytes() == before
    # The old weights are whole, but what lies beside them says that a new training had begun.
    assert not History.from_json((tmp_path / "ae.json").read_bytes()).finished


# --- a model that has been trained --------------------------------------------------------------


def test_training_on_from_trained_weights_is_said(
    tmp_path: Path, loader: DataLoader[tuple[Tensor, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    """Otherwise a model might be trained for more epochs than are allowed, unnoticed."""
    said = "training continues from its weights. To start from scratch, run the cells that create"

    def trains_on(model: nn.Module) -> bool:
        capsys.readouterr()
        (tmp_path / "ae.json").unlink(missing_ok=True)
        (tmp_path / "ae.safetensors").unlink(missing_ok=True)
        train_or_restore("ae", model, trainer(model), loader, 1, directory=tmp_path)
        return said in capsys.readouterr().out

    model, restored = build(), build()
    assert not trains_on(model)
    assert trains_on(model)
    train_or_restore("ae", restored, never, loader, 1, directory=tmp_path)
    assert trains_on(restored)
    assert not trains_on(build())


# --- what train_epoch returns -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "returned None. Return the mean loss"),
        (torch.ones(3), r"tensor of shape \(3,\). Return one number"),
        ("0.1", "of type str"),
        ([0.1], "of type list"),
        (True, "of type bool"),
        (math.nan, "epoch 1 is nan: .* smaller learning rate"),
        (torch.tensor(math.inf), "epoch 1 is inf: .* smaller learning rate"),
    ],
)
def test_what_is_no_loss_is_explained(
    tmp_path: Path, loader: DataLoader[tuple[Tensor, ...]], value: object, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        train_or_restore(
            "ae",
            build(),
            lambda batches: value,  # type: ignore[arg-type, return-value]
            loader,
            2,
            directory=tmp_path,
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "value", [0.5, 1, np.float32(0.5), np.array([0.5]), torch.tensor(0.5), torch.ones(1, 1)]
)
def test_numbers_of_every_kind_are_losses(
    tmp_path: Path, loader: DataLoader[tuple[Tensor, ...]], value: float
) -> None:
    history = train_or_restore("ae", build(), lambda batches: value, loader, 1, directory=tmp_path)
    assert [type(loss) for loss in history.losses] == [float]
    assert History.from_json(history.to_json()) == history


def test_todo_goes_through_untouched(
    tmp_path: Path, loader: DataLoader[tuple[Tensor, ...]]
) -> None:
    error = NotImplementedError()

    def todo(batches: Batches) -> float:
        raise error

    with pytest.raises(NotImplementedError) as caught:
        train_or_restore("ae", build(), todo, loader, 1, directory=tmp_path)
    assert caught.value is error
    assert list(tmp_path.iterdir()) == []


# --- the loader with a bar --------------------------------------------------------------------


def test_batches_are_the_loader(tmp_path: Path, loader: DataLoader[tuple[Tensor, ...]]) -> None:
    def train_epoch(batches: Batches) -> float:
        assert len(batches) == len(loader) == 4
        assert batches.dataset is loader.dataset
        assert batches.batch_size == 16
        assert not hasattr(batches, "no_such_thing")
        shapes = [tuple(images.shape) for (images,) in batches]
        assert shapes == [(16, 1, 28, 28)] * 3 + [(2, 1, 28, 28)]
        return 0.1

    train_or_restore("ae", build(), train_epoch, loader, 1, directory=tmp_path)


@pytest.mark.parametrize("passes", [0, 1, 3])
def test_the_bar_ends_full_however_often_the_batches_are_seen(
    tmp_path: Path,
    loader: DataLoader[tuple[Tensor, ...]],
    capsys: pytest.CaptureFixture[str],
    passes: int,
) -> None:
    ends: list[tuple[int, int]] = []

    def train_epoch(batches: Batches) -> float:
        for _ in range(passes):
            for _ in batches:
                ends.append((batches.bar.n, batches.epoch_end))
        return 0.1

    train_or_restore("ae", build(), train_epoch, loader, 2, directory=tmp_path)
    assert all(n <= end for n, end in ends)
    assert "8/8" in capsys.readouterr().err


# --- the autograder's sandbox -----------------------------------------------------------------


def test_worker_only_registers(
    tmp_path: Path, loader: DataLoader[tuple[Tensor, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LATENT_LAB_WORKER", "1")
    model = build()
    history = train_or_restore("ae", model, never, loader, 3, directory=tmp_path)
    assert models == {"ae": model}
    assert history == History("ae")
    assert not history.finished
    assert list(tmp_path.iterdir()) == []


# --- arguments, seeds, devices ----------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "../ae", "a b", "a/b"])
def test_names_are_file_names(
    tmp_path: Path, loader: DataLoader[tuple[Tensor, ...]], name: str
) -> None:
    with pytest.raises(ValueError, match="letters, digits"):
        train_or_restore(name, build(), never, loader, 1, directory=tmp_path)


@pytest.mark.parametrize("n_epochs", [0, -1, 1.5, True])
def test_epochs_are_counted(
    tmp_path: Path, loader: DataLoader[tuple[Tensor, ...]], n_epochs: int
) -> None:
    with pytest.raises(ValueError, match="whole number of at least 1"):
        train_or_restore("ae", build(), never, loader, n_epochs, directory=tmp_path)


def test_seed_fixes_every_generator() -> None:
    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    set_seed(7)
    first = draw()
    set_seed(7)
    assert draw() == first
    set_seed(8)
    assert draw() != first
    with pytest.raises(ValueError, match="eed"):
        set_seed(-1)


def test_device_is_one_that_works() -> None:
    assert torch.ones(2, device=pick_device()).sum().item() == 2


# --- the history ------------------------------------------------------------------------------

GOOD = History(
    "ae", [0.5, 0.25], [1.0, 1.5], 10, "cuda", {"torch": "2"}, 3, "2025-11-21T09:30:00+01:00", True
)


def test_history_survives_json() -> None:
    assert History.from_json(GOOD.to_json()) == GOOD
    assert History.from_json(History("new").to_json()) == History("new")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"losses": "0.5"}, "'losses' should be a list of finite numbers"),
        ({"losses": [0.5, True]}, "'losses' should be"),
        ({"losses": [0.5, math.nan]}, "'losses' should be"),
        ({"losses": [0.5, 10**400]}, "'losses' should be"),
        ({"losses": [0.5]}, "differ in length"),
        ({"losses": [], "seconds": []}, "finished without an epoch"),
        ({"seconds": [1.0, None]}, "'seconds' should be"),
        ({"n_parameters": -1}, "'n_parameters' should be a whole number"),
        ({"n_parameters": 1.5}, "'n_parameters' should be"),
        ({"versions": {"torch": 2}}, "'versions' should be"),
        ({"seed": "3"}, "'seed' should be a whole number or null"),
        ({"trained_at": "yesterday"}, "'trained_at' should be a time"),
        ({"finished": 1}, "'finished' should be true or false"),
        ({"extra": 1}, "exactly the entries"),
    ],
)
def test_damaged_history_is_one_sentence(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        History.from_json(json.dumps(json.loads(GOOD.to_json()) | change))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", b"\xff\xfe\x00", "[" * 100_000])
def test_what_is_no_history_is_one_sentence(text: str | bytes) -> None:
    with pytest.raises(ValueError, match="This training history is damaged") as caught:
        History.from_json(text)
    assert "\n" not in str(caught.value)
