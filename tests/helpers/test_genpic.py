"""The command ``genpic``, as a process of its own, with the solved notebook of deliverable 9."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from autograder.judging import load_master
from autograder.release import released_notebook
from autograder.rubric import solved
from helpers import genpic
from helpers.data import draw_face
from helpers.deliverables import FACE_SIZES

ID = "d9_image_variations"
MASTER = load_master(ID)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student's folder: the notebook, a checkpoint (not trained), a picture."""
    folder = tmp_path_factory.mktemp("student")
    nbformat.write(solved(MASTER), folder / f"{ID}.ipynb")
    names = genpic.read_definitions(folder / f"{ID}.ipynb")
    settings = FACE_SIZES["small"]
    torch.manual_seed(0)
    model = names["VAE"](settings.image_size, settings.latent_dim, settings.hidden_dims)
    (folder / "checkpoints").mkdir()
    save_file(model.state_dict(), folder / "checkpoints" / "vae.safetensors")
    draw_face(3, 0).save(folder / "photo.png")
    return folder


@pytest.fixture
def student(prepared: Path, tmp_path: Path) -> Path:
    """A copy of that folder, to be changed."""
    shutil.copytree(prepared, tmp_path / "work")
    return tmp_path / "work"


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "helpers.genpic", *arguments]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=240, check=False
    )


def test_a_picture_becomes_a_grid(student: Path) -> None:
    done = run(student, "photo.png", "-n", "4", "--scale", "0.5", "--seed", "3", "-o", "out.jpg")
    assert (done.returncode, done.stderr) == (0, "")
    assert "out.jpg" in done.stdout
    assert (student / "out.jpg").read_bytes()[:3] == b"\xff\xd8\xff"
    with Image.open(student / "out.jpg") as grid:
        assert grid.format == "JPEG"
        assert grid.width > 5 * 150 > 150 < grid.height < 170
        first = np.asarray(grid.convert("RGB"), dtype=int)[2:152, 2:152]
    # The first picture is the one that was given, resized and cut.
    original = draw_face(3, 0).resize((150, 184), Image.Resampling.BILINEAR).crop((0, 17, 150, 167))
    assert (
        np.abs(first - np.asarray(original, dtype=int)).mean() < 8
    )  # JPEG; another face differs by 50


def broken(student: Path, what: str) -> list[str]:
    """Damage something; the arguments of the command."""
    arguments = ["photo.png"]
    checkpoint, notebook = student / "checkpoints" / "vae.safetensors", student / f"{ID}.ipynb"
    if what == "no picture":
        arguments = ["nothing.png"]
    elif what == "no image file":
        (student / "photo.png").write_text("hello")
    elif what == "cut-off image":
        (student / "photo.png").write_bytes((student / "photo.png").read_bytes()[:2000])
    elif what == "no checkpoint":
        checkpoint.unlink()
    elif what == "damaged checkpoint":
        checkpoint.write_bytes(b"\x80\x04K\x01.")
    elif what == "other checkpoint":
        save_file({"other": torch.ones(3)}, checkpoint)
    elif what == "no notebook":
        notebook.unlink()
    elif what == "damaged notebook":
        notebook.write_text('{"cells": [')
    elif what == "unsolved notebook":
        nbformat.write(released_notebook(MASTER), notebook)
    elif what == "empty notebook":
        notebook.write_text(json.dumps({"cells": []}))
    elif what == "raising notebook":
        book = solved(MASTER)
        for node in book.cells:
            node.source = node.source.replace(
                "eps = torch.randn(n,", "eps = 1 / 0 + torch.randn(n,"
            )
        nbformat.write(book, notebook)
    elif what == "no variations":
        arguments += ["-n", "0"]
    elif what == "negative scale":
        arguments += ["--scale", "-1"]
    elif what == "scale of nan":
        arguments += ["--scale", "nan"]
    elif what == "other format":
        arguments += ["-o", "out.png"]
    elif what == "no folder":
        arguments += ["-o", "nowhere/out.jpg"]
    return arguments


SENTENCES = {
    "no picture": "no picture nothing.png",
    "no image file": "cannot be read as a picture",
    "cut-off image": "cannot be read as a picture",
    "no checkpoint": "no checkpoint",
    "damaged checkpoint": "damaged",
    "other checkpoint": "does not fit",
    "no notebook": "no notebook",
    "damaged notebook": "cannot be read as a notebook",
    "unsolved notebook": "TODO",
    "empty notebook": "does not define VAE",
    "raising notebook": "ZeroDivisionError",
    "no variations": "1 to 200",
    "negative scale": "at least 0",
    "scale of nan": "at least 0",
    "other format": ".jpg",
    "no folder": "no folder",
}


@pytest.mark.parametrize("what", SENTENCES)
def test_bad_input_is_one_sentence(
    what: str,
    student: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arguments = broken(student, what)
    monkeypatch.chdir(student)
    assert genpic.main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert SENTENCES[what] in printed.err
    assert printed.err.startswith("genpic: ")
    assert printed.err.count("\n") == 1
    assert not list(student.glob("*.jpg"))


def test_exit_code_of_the_process(student: Path) -> None:
    done = run(student, "nothing.png")
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
