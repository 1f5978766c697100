"""Builds the zip to hand in."""

import io
import json
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from helpers import deliverables
from helpers.notebook import cells
from helpers.training import write_atomic

FOLDER = Path("checkpoints")


def build_zip(
    deliverable: deliverables.Deliverable, student: str, notebook: str | None
) -> tuple[list[str], str]:
    """Build the zip, whatever is wrong with what is put into it.

    Returns:
        Sentences about it, the most important one first, and its name, or "" if there is none.
    """
    try:
        return _build(deliverable, student, notebook or f"{deliverable.id}.ipynb")
    except Exception as error:  # no permission, a full disk, Colab's browser does not answer ...
        return [f"No zip was made ({type(error).__name__}: {error})."], ""


def _build(
    deliverable: deliverables.Deliverable, student: str, notebook: str
) -> tuple[list[str], str]:
    content = _notebook_content(notebook)
    if content is None:
        return [
            f"No zip was made: there is no {notebook} in {Path.cwd()}. If your notebook has "
            "another name, write it here: handin(..., notebook='my_file.ipynb')."
        ], ""
    wanted = [
        f"{name}{end}" for name in deliverable.checkpoints for end in (".safetensors", ".json")
    ]
    packed, problems = io.BytesIO(), []
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{deliverable.id}.ipynb", content)
        missing = [name for name in wanted if not (FOLDER / name).is_file()]
        for name in wanted:
            if name not in missing:
                try:
                    data = (FOLDER / name).read_bytes()
                except OSError as error:
                    problems.append(f"{FOLDER / name} cannot be read ({error}).")
                else:
                    archive.writestr((FOLDER / name).as_posix(), data)
        unpacked = sum(info.file_size for info in archive.infolist())
    path = f"{deliverable.id}-{student}.zip"
    write_atomic(Path(path), packed.getvalue())
    size = max(packed.tell(), unpacked)
    if size > deliverables.MAX_HANDIN_BYTES:
        limit = f"{deliverables.MAX_HANDIN_BYTES / 2**20:.0f} MB"
        return [
            f"{path} is too large to hand in ({size / 2**20:.0f} MB, and the limit is {limit}).",
            "Clear large outputs of your notebook, save it, and run this cell again.",
        ], path
    if missing:
        problems.append(
            "It contains no trained model yet: run the training cell, then run this cell again."
        )
    text = content.decode("utf-8", "replace")
    problems += _warnings(text)
    about = f"{path} ({packed.tell() / 2**20:.1f} MB)"
    return [f"Before you hand in {about}:" if problems else f"Hand in {about}.", *problems], path


def _warnings(content: str) -> list[str]:
    """What the student may have forgotten in the notebook, a sentence each."""
    warnings = []
    with suppress(Exception):  # a broken history of the kernel must not prevent the zip
        if changed := cells.unsaved(content):
            where = _listed([f"`{name}`" for name in changed])
            warnings.append(
                f"The saved notebook differs from what you ran last (in {where}): save it, or run "
                "those cells again, and then run this cell again."
            )
    with suppress(Exception):
        if questions := cells.unanswered(content):
            verb = "says" if len(questions) == 1 else "say"
            warnings.append(f"{_listed(questions)} still {verb} YOUR ANSWER HERE.")
    return warnings


def _listed(words: Sequence[str]) -> str:
    """Words in a sentence: ``a``, ``a and b``, ``a, b and c``."""
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last


def _notebook_content(name: str) -> bytes | None:
    """The notebook's JSON: from its file or, on Colab, where there is no file, from the browser."""
    if Path(name).is_file():
        return Path(name).read_bytes()
    try:
        from google.colab import _message  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        return None
    answer = _message.blocking_request("get_ipynb", timeout_sec=60)
    return json.dumps(answer["ipynb"]).encode() if answer else None
