"""Trained submissions through the real judge: the reference, and those that only look trained."""

import json
import math
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save

from autograder.judging import Judgement, Master, Outcome, judge
from autograder.rubric import solved
from helpers.checking import Status
from helpers.deliverables import get

ID = "d1_autoencoder"
CHECKPOINT, HISTORY = "checkpoints/autoencoder.safetensors", "checkpoints/autoencoder.json"
#: The checks that pay for what the trained model does.
PAID = ("model_has_learned", "training_error_is_low", "test_error_is_close_to_training_error")
Files = dict[str, bytes]


@pytest.fixture
def handed_in(trained_zip: Path, tmp_path: Path) -> Callable[[Callable[[Files], object]], Path]:
    """The reference's zip with something changed in it."""

    def change(edit: Callable[[Files], object]) -> Path:
        with zipfile.ZipFile(trained_zip) as archive:
            files = {name: archive.read(name) for name in archive.namelist()}
        edit(files)
        path = tmp_path / f"{ID}-changed.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        return path

    return change


def status(judgement: Judgement, name: str) -> Status:
    return next(c.status for c in judgement.checks if c.id.endswith(f".{name}"))


def result_only(path: Path) -> Judgement:
    return judge(path, ID, "student", only=frozenset({"result"}))


def test_reference_gets_full_marks(trained_zip: Path) -> None:
    judgement = judge(trained_zip, ID, "reference")
    assert judgement.status is Outcome.GRADED
    assert judgement.score == judgement.max_score == 90
    assert all(check.status is Status.PASSED for check in judgement.checks)
    assert not judgement.notices
    # The judge's own figure against the one that training reported, at most 10% apart.
    note = next(c.message for c in judgement.checks if c.id.endswith("training_error_is_low"))
    measured = float(note.split()[2])
    reported = judgement.reported_losses["autoencoder"]
    assert measured < get(ID).max_loss
    assert len(reported) <= get(ID).max_epochs
    assert math.isclose(reported[-1], measured, rel_tol=0.1)


def forward_is_identity(master: Master) -> Callable[[Files], object]:
    """A forward that returns its input, around an encoder and a decoder that never trained."""
    source = master.cell("model_class").source
    changed = source.replace("return self.decoder(self.encoder(x))", "return x")
    assert changed != source

    def edit(files: Files) -> None:
        files[f"{ID}.ipynb"] = notebook_bytes(master, {"model_class": changed})
        files[CHECKPOINT] = save(
            {k: 0.02 * torch.randn_like(v) for k, v in load(files[CHECKPOINT]).items()}
        )

    return edit


def encoder_remembers(master: Master) -> Callable[[Files], object]:
    """An encoder that keeps the images by number, and a decoder that looks them up."""
    source = """
MEMORY = {}


class Remember(nn.Module):
    def forward(self, x):
        start = len(MEMORY)
        for number, image in enumerate(x):
            MEMORY[start + number] = image
        numbers = torch.arange(start, start + len(x)).float()
        return torch.stack([numbers, numbers], 1)


class Recall(nn.Module):
    def forward(self, z):
        nothing = torch.zeros(1, 28, 28)
        return torch.stack([MEMORY.get(int(n), nothing) for n in z[:, 0]])


class Autoencoder(nn.Module):
    def __init__(self, latent_dim, hidden_dim, input_dim):
        super().__init__()
        self.encoder = nn.Sequential(Remember())
        self.decoder = nn.Sequential(Recall())
        self.unused = nn.Linear(1, 1)

    def forward(self, x):
        return self.decoder(self.encoder(x))
"""

    def edit(files: Files) -> None:
        files[f"{ID}.ipynb"] = notebook_bytes(master, {"model_class": source})
        files[CHECKPOINT] = save({"unused.weight": torch.ones(1, 1), "unused.bias": torch.ones(1)})

    return edit


@pytest.mark.parametrize("cheat", [forward_is_identity, encoder_remembers])
def test_cheats_earn_nothing_for_the_loss(
    cheat: Callable[[Master], Callable[[Files], object]],
    master: Master,
    handed_in: Callable[[Callable[[Files], object]], Path],
) -> None:
    judgement = result_only(handed_in(cheat(master)))
    assert {status(judgement, name) for name in PAID} == {Status.FAILED}
    # Only the size of what was handed in is right.
    assert judgement.score == 3


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda data: data[: len(data) // 2], Status.ERROR),
        (lambda data: b"\x80\x04K\x01.", Status.ERROR),
        (lambda data: b"", Status.ERROR),
        (lambda data: save({k: v * float("nan") for k, v in load(data).items()}), Status.ERROR),
        (lambda data: save({"other": torch.ones(3)}), Status.ERROR),
        (lambda data: save({k: v[:1].clone() for k, v in load(data).items()}), Status.ERROR),
        (lambda data: save({k: torch.zeros_like(v) for k, v in load(data).items()}), Status.FAILED),
    ],
    ids=["cut off", "pickle", "empty", "NaN", "other names", "other shapes", "zeros"],
)
def test_bad_checkpoints(
    damage: Callable[[bytes], bytes],
    expected: Status,
    handed_in: Callable[[Callable[[Files], object]], Path],
) -> None:
    judgement = result_only(
        handed_in(lambda files: files.update({CHECKPOINT: damage(files[CHECKPOINT])}))
    )
    assert {status(judgement, name) for name in PAID} == {expected}
    assert all(check.message for check in judgement.checks)


def test_budget_is_counted_from_the_checkpoint(
    master: Master, handed_in: Callable[[Callable[[Files], object]], Path]
) -> None:
    wide = master.cell("choices").source.replace("hidden_dim = 400", "hidden_dim = 800")
    shapes = {"0": (800, 784), "1": (800,), "2": (800, 800), "3": (800,), "4": (2, 800)}

    def edit(files: Files) -> None:
        files[f"{ID}.ipynb"] = notebook_bytes(master, {"choices": wide})
        files[CHECKPOINT] = save({name: torch.zeros(shape) for name, shape in shapes.items()})

    judgement = result_only(handed_in(edit))
    assert status(judgement, "checkpoint_is_within_its_budget") is Status.PASSED  # 1,270,400
    shapes["5"] = (1000, 300)
    judgement = result_only(handed_in(edit))
    assert status(judgement, "checkpoint_is_within_its_budget") is Status.FAILED


def test_a_forged_history_gains_nothing(
    master: Master, handed_in: Callable[[Callable[[Files], object]], Path]
) -> None:
    def edit(files: Files) -> None:
        forward_is_identity(master)(files)
        files[HISTORY] = json.dumps({"losses": [0.5, 0.001]}).encode()

    judgement = result_only(handed_in(edit))
    assert judgement.score == 3
    assert status(judgement, "reported_loss_agrees") is Status.FAILED


def test_command_line(trained_zip: Path, tmp_path: Path) -> None:
    """``autograder check``: the JSON that others read, and an exit code for bad input."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "autograder.cli", "check", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    out = tmp_path / "result.json"
    done = run(str(trained_zip), "--json", str(out))
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text())
    assert (result["deliverable"], result["student"]) == (ID, "reference")
    assert result["score"] == result["max_score"]
    assert result["status"] == "graded"
    assert result["isolation_level"] in (0, 1, 2, 3)
    fields = {"id", "cell", "points", "earned", "status", "message", "hidden"}
    assert all(fields <= check.keys() for check in result["checks"])

    corrupt = tmp_path / f"{ID}-corrupt.ipynb"
    corrupt.write_text('{"cells": [')
    done = run(str(corrupt), "--json", str(out))
    assert done.returncode == 2
    assert done.stderr.strip() == "The notebook is damaged: it is not valid notebook JSON."
    result = json.loads(out.read_text())
    assert (result["status"], result["score"]) == ("unreadable", None)

    done = run(str(tmp_path / "nothing.zip"))
    assert done.returncode == 2
    assert "There is no file" in done.stderr


def notebook_bytes(master: Master, changes: dict[str, str]) -> bytes:
    import nbformat

    return str(nbformat.writes(solved(master, changes))).encode()
