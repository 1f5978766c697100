"""What several test files need: the reference, trained once."""

import os
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import settings

# Before torch is imported, here and in the kernels that tests start: with two threads each, two
# that train side by side wait for each other most of the time.
os.environ["OMP_NUM_THREADS"] = "1"

from autograder.judging import Master, load_master
from autograder.rubric import hand_in
from helpers import training

# How long the fuzzing tests run: the same few examples each time, or with
# ``--hypothesis-profile=long`` many new ones.
settings.register_profile("quick", max_examples=50, deadline=None, derandomize=True, database=None)
settings.register_profile("long", max_examples=5000, deadline=None)
settings.load_profile("quick")


@pytest.fixture(autouse=True)
def nothing_trained() -> None:
    """Each test begins as a new kernel does: the models that another trained answer no check."""
    training.models.clear()
    training.histories.clear()


@pytest.fixture(scope="session")
def master() -> Master:
    return load_master("d1_autoencoder")


@pytest.fixture(scope="session")
def trained_zip(master: Master, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reference, trained on real MNIST in a real kernel at the real settings, handed in.

    It takes most of a minute, and is done once for all of pytest-xdist's workers.
    """
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    path = folder / "reference" / f"{master.deliverable.id}-reference.zip"
    with FileLock(folder / "reference.lock"):
        if not path.exists():
            path.parent.mkdir()
            hand_in(master, "reference", {}, path.parent / "work", path.parent)
    return path
