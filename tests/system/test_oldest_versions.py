"""The notebooks with the oldest versions that pyproject.toml allows a student to have."""

import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from autograder import ROOT
from autograder.judging import Master, identify, load_master
from autograder.rubric import solved
from helpers.deliverables import DELIVERABLES

#: Runs cells, given as (kind, name, source), as a notebook would, and says what went wrong.
#: A few batches are enough to draw every figure; what a model has learned is not the question here.
RUN_CELLS = """
import itertools, json, sys, traceback
import helpers.training

class Few:
    def __init__(self, loader):
        self.loader = loader
    def __iter__(self):
        return itertools.islice(self.loader, 3)
    def __len__(self):
        return min(3, len(self.loader))
    def __getattr__(self, name):
        return getattr(self.loader, name)

def a_little(name, model, train_epoch, loader, n_epochs, train=helpers.training.train_or_restore):
    return train(name, model, train_epoch, Few(loader), 1)

helpers.training.train_or_restore = a_little
wrong = []
for kind, name, source in json.load(sys.stdin):
    try:
        if kind == "check":
            report = eval(source)
            if report.earned < report.points:
                wrong.append(f"{kind} {name}: {report}")
        else:
            exec(compile(source, f"{kind} {name}", "exec"))
    except Exception:
        wrong.append(f"{kind} {name}: {traceback.format_exc()}")
sys.exit("\\n".join(wrong) or 0)
"""
NOT_RUN = {("check", "result"), ("handin", "handin")}


def oldest() -> list[str]:
    """The lowest versions of what d1 to d11 need, as pip takes them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["diffusion"]
    assert all(re.fullmatch(r"[\w-]+>=[\d.]+", line) for line in wanted)
    return [line.replace(">=", "==") for line in wanted]


def cells(master: Master) -> list[tuple[str, str, str]]:
    """The code cells of the notebook with the reference's solutions: kind, name, source."""
    notebook = solved(master)
    known = [(node, identify(node, master)) for node in notebook.cells if node.cell_type == "code"]
    return [
        (cell.kind, cell.name, node.source)
        for node, cell in known
        if cell is not None and (cell.kind, cell.name) not in NOT_RUN
    ]


@pytest.fixture(scope="module")
def python() -> Iterator[Path]:
    """A Python with the oldest versions, and nothing else."""
    if sys.version_info >= (3, 13):
        pytest.skip("The oldest torch that we allow has no wheels for Python 3.13.")
    with tempfile.TemporaryDirectory(prefix="latent-lab-oldest-") as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder, "bin", "python")
        command = [python, "-m", "pip", "install", "-qq", "--only-binary=:all:", *oldest()]
        subprocess.run(command, check=True)
        yield python


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_every_cell_runs_and_every_check_passes(python: Path, tmp_path: Path) -> None:
    wrong = {}
    for name in DELIVERABLES:
        folder = tmp_path / name
        folder.mkdir()
        done = subprocess.run(
            [python, "-c", RUN_CELLS],
            input=json.dumps(cells(load_master(name))),
            capture_output=True,
            text=True,
            cwd=folder,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg"},
        )
        if done.returncode != 0:
            wrong[name] = done.stderr
    assert not wrong, "\n\n".join(wrong.values())
