"""What a new machine is told to install."""

import re
import shutil
import subprocess
import tomllib
from itertools import chain
from pathlib import Path

import yaml

from autograder import ROOT


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_dependency_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    wanted = [*project["dependencies"], *chain.from_iterable(extras)]
    names = {normal(re.split(r"[<>=\[ ]", line)[0]) for line in wanted} - {"latent-lab"}
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split(" ;")[0].split("==") for line in lines if not line.startswith("#"))
    assert names <= {normal(name) for name in pins}
    # A matching pair.
    assert (pins["torch"], pins["torchvision"]) == ("2.14.1", "0.29.1")


def test_environment_is_a_python_and_this_package() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *conda, pip = environment["dependencies"]
    assert conda == ["python>=3.11,<3.14", "pip"]
    assert pip == {"pip": ["--constraint constraints.txt", "--editable .[instructor,diffusion]"]}


def test_a_wrong_python_gets_one_sentence(tmp_path: Path) -> None:
    """As Make would run it in a fresh clone."""
    old = tmp_path / "python3.9"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.1 || exit 1\n')
    old.chmod(0o755)
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    for python in (old, tmp_path / "nowhere"):
        command = ["make", "setup", f"PYTHON={python}"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode != 0
        assert "Latent Lab needs Python 3.11 to 3.14" in done.stdout
        assert not (tmp_path / ".venv").exists()
