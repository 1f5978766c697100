"""What a new machine is told to install."""

from __future__ import annotations

import re
import tomllib
from itertools import chain

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
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert names <= {normal(name) for name in pins}
    # A matching pair.
    assert (pins["torch"], pins["torchvision"]) == ("2.14.1", "0.29.1")


def test_environment_is_a_python_and_this_package() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *conda, pip = environment["dependencies"]
    assert conda == ["python=3.11", "pip"]
    assert pip == {"pip": ["--constraint constraints.txt", "--editable .[instructor]"]}
