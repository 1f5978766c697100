"""Makes the students' zip: helpers, data sets and released notebooks."""

import json
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

from autograder import ROOT
from autograder.release.notebooks import NOTEBOOKS
from helpers import __version__, deliverables

KIT_NAME = "latent-lab-kit.zip"
#: What the kit's pyproject.toml has in common with this repository's.
_KEPT = ("name", "description", "license", "license-files", "requires-python", "dependencies")
_KIT_README = """\
# Latent Lab

Autoencoders and variational autoencoders in PyTorch: the notebooks, and the helpers they import.

1. Unpack this zip.
2. In the unpacked folder, run `python -m pip install ".[lab]"`.
3. Run `jupyter lab` and open a notebook in `notebooks/`.

Each notebook says what to do, checks your work as you go, and builds the zip to hand in.
"""


def student_kit(path: Path, notebooks: Path = NOTEBOOKS) -> Path:
    """Write the zip for students without git: helpers, data sets and released notebooks.

    Args:
        path: the zip's path, or the folder for ``latent-lab-kit.zip``.
        notebooks: the folder of the released notebooks.

    Returns:
        The zip's path. The same contents give the same bytes.
    """
    path = path / KIT_NAME if path.is_dir() else path
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in sorted(_kit_files(notebooks)):
            info = zipfile.ZipInfo(name)  # with the default date, 1 January 1980
            info.external_attr = 0o644 << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, data)
    return path


def _kit_files(notebooks: Path) -> Iterator[tuple[str, bytes]]:
    """The names and contents of the kit's files."""
    yield "README.md", _KIT_README.encode()
    yield "pyproject.toml", _kit_pyproject().encode()
    yield "LICENSE", (ROOT / "LICENSE").read_bytes()
    for file in (ROOT / "helpers").rglob("*"):
        inside = file.relative_to(ROOT)
        hidden = any(part.startswith(".") or part == "__pycache__" for part in inside.parts)
        if file.is_file() and not file.is_symlink() and not hidden and file.suffix != ".pyc":
            yield inside.as_posix(), file.read_bytes()
    for name in deliverables.DELIVERABLES:
        file = notebooks / name / f"{name}.ipynb"
        if file.is_file():
            yield f"notebooks/{name}/{name}.ipynb", file.read_bytes()


def _kit_pyproject() -> str:
    """A pyproject.toml for the helpers only, with the same dependencies as this repository's."""
    ours = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project, data = ours["project"], ours["tool"]["setuptools"]["package-data"]["helpers"]
    tables = {
        "build-system": ours["build-system"],
        "project": {key: project[key] for key in _KEPT}
        | {"version": __version__, "readme": "README.md"},
        "project.optional-dependencies": {"lab": project["optional-dependencies"]["lab"]},
        "tool.setuptools.packages.find": {"include": ["helpers*"]},
        "tool.setuptools.package-data": {"helpers": data},
    }
    # Strings and lists of strings look the same in JSON and in TOML.
    return "\n".join(
        f"[{table}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in rows.items())
        for table, rows in tables.items()
    )
