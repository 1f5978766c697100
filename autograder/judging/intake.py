"""Reads a hand-in, which is not trusted: a zip, a folder or a notebook.

Nothing is unpacked to disk, no link is followed, and sizes are checked before bytes are read.
Anything wrong with a hand-in raises one :class:`IntakeError`, whose text is for the student.
"""

import hashlib
import json
import os
import stat
import zipfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any

import nbformat
import torch
from nbformat import NotebookNode
from torch import Tensor

from autograder import UserError
from autograder.sandbox.inside.protocol import read_tensors
from helpers.deliverables import DELIVERABLES, MAX_HANDIN_BYTES, Deliverable, get

#: The key of the notebook among the files that are read.
NOTEBOOK = "notebook"
MAX_NOTEBOOK_BYTES = 50 * 2**20
#: The history of a thousand epochs is much smaller.
MAX_HISTORY_BYTES = 2**20
MAX_FILES = 1000
_MAX_CELLS = 2000
_MAX_SOURCE = 2**20


class IntakeError(UserError):
    """A hand-in cannot be read; one sentence says why."""


@dataclass(frozen=True)
class HandIn:
    """The contents of a hand-in.

    Attributes:
        cells: the notebook's cells, each with cell_type, source, metadata and attachments.
        notebook: the notebook's bytes, unchanged.
        document: the whole notebook, parsed; None if nothing could be read.
        checkpoints: the bytes of ``checkpoints/<name>.safetensors``, by name.
        histories: the bytes of ``checkpoints/<name>.json``, by name.
        sha256: the hash of all these files.
    """

    cells: list[NotebookNode]
    notebook: bytes = b""
    document: NotebookNode | None = None
    checkpoints: dict[str, bytes] = field(default_factory=dict)
    histories: dict[str, bytes] = field(default_factory=dict)
    sha256: str = ""


def deliverable_of(path: Path, name: str | None = None) -> Deliverable:
    """The deliverable of a hand-in.

    Args:
        name: the deliverable. By default it is taken from the name of the file or folder, of its
            parent folder, or of the only notebook in it.

    Raises:
        IntakeError: if the hand-in does not exist, or there is no such deliverable.
    """
    if not path.exists():
        raise IntakeError(f"There is no file or folder {path}.")
    if name is None:
        notebooks = [notebook.stem for notebook in path.glob("*.ipynb")]
        told = [path.stem, path.resolve().parent.name, *(notebooks if len(notebooks) == 1 else ())]
        found = [known for part in told for known in DELIVERABLES if part.startswith(known)]
        if not found:
            raise IntakeError(
                f"The deliverable is not clear from the name {path.name}: add --deliverable d1, "
                "for example."
            )
        name = found[0]
    try:
        return get(name)
    except KeyError as error:
        raise IntakeError(str(error.args[0])) from None


def read_handin(path: Path, deliverable: Deliverable) -> HandIn:
    """Read a zip, a folder or a notebook.

    Raises:
        IntakeError: if it has no readable notebook, or is too large.
    """
    files = _wanted_files(path, deliverable)
    document, cells = _parse(files[NOTEBOOK])
    names = deliverable.checkpoints
    return HandIn(
        cells=cells,
        notebook=files[NOTEBOOK],
        document=document,
        checkpoints={n: files[f"{n}.safetensors"] for n in names if f"{n}.safetensors" in files},
        histories={n: files[f"{n}.json"] for n in names if f"{n}.json" in files},
        sha256=_digest(files),
    )


def handin_digest(path: Path, deliverable: Deliverable) -> str:
    """The ``sha256`` of a hand-in, computed without parsing it.

    Raises:
        IntakeError: if it has no notebook, or is too large.
    """
    return _digest(_wanted_files(path, deliverable))


def _digest(files: dict[str, bytes]) -> str:
    digest = hashlib.sha256(files[NOTEBOOK])
    for name in sorted(files.keys() - {NOTEBOOK}):
        digest.update(name.encode() + hashlib.sha256(files[name]).digest())
    return digest.hexdigest()


def read_checkpoint(data: bytes) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint.

    Raises:
        IntakeError: if the bytes are not a valid safetensors file of finite numbers.
    """
    try:
        tensors = read_tensors(data)
    except Exception as error:  # the parsers raise many kinds
        raise IntakeError("The checkpoint is not a valid safetensors file.") from error
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise IntakeError(f"The checkpoint has NaN or infinite numbers in {name!r:.80}.")
    return tensors


def read_losses(data: bytes) -> list[float]:
    """Read the losses of a history; empty if it is damaged, since no mark depends on it."""
    try:
        losses = json.loads(data)["losses"]
        return [float(loss) for loss in losses[:1000] if abs(float(loss)) < 1e30]
    except Exception:  # a forged file may raise anything
        return []


def _wanted_files(path: Path, deliverable: Deliverable) -> dict[str, bytes]:
    """The files to read, by kind: NOTEBOOK, "<name>.safetensors", "<name>.json"."""
    limits = {".ipynb": MAX_NOTEBOOK_BYTES, ".safetensors": MAX_HANDIN_BYTES}
    wanted: dict[str, bytes] = {}
    left = MAX_HANDIN_BYTES
    try:
        for name, file in _files(path, deliverable):
            kind = NOTEBOOK if name.suffix == ".ipynb" else name.name
            limit = min(limits.get(name.suffix, MAX_HISTORY_BYTES), left)
            with closing(file):
                data = file.read(limit + 1)
            if len(data) > limit:
                raise IntakeError(f"{name.name} in {path.name} is too large.")
            left -= len(data)
            wanted.setdefault(kind, data)
    except IntakeError:
        raise
    except FileNotFoundError as error:
        raise IntakeError(f"There is no file or folder {path}.") from error
    except Exception as error:  # zipfile raises many kinds
        raise IntakeError(f"{path.name} is damaged or is not a zip file.") from error
    if NOTEBOOK not in wanted:
        raise IntakeError(f"There is no notebook in {path.name}.")
    return wanted


def _files(path: Path, deliverable: Deliverable) -> Iterator[tuple[PurePosixPath, IO[bytes]]]:
    """The files to read. The first notebook is named as released, or else the least deep."""
    if path.is_dir():
        names = [
            (PurePosixPath(root).relative_to(path.as_posix()) / name)
            for root, _, files in os.walk(path)
            for name in files
        ]
        for name in _choose(names, deliverable):
            yield name, _open_regular(path / name)
    elif path.suffix == ".zip":
        with zipfile.ZipFile(_open_regular(path)) as archive:
            infos = {
                PurePosixPath(info.filename): info
                for info in archive.infolist()[: MAX_FILES + 1]
                if not info.is_dir() and not stat.S_ISLNK(info.external_attr >> 16)
            }
            for name in _choose(list(infos), deliverable):
                yield name, archive.open(infos[name])
    else:
        yield PurePosixPath(path.name), _open_regular(path)
        folder = path.parent / "checkpoints"
        is_folder = folder.is_dir() and not folder.is_symlink()
        for file in sorted(folder.iterdir()) if is_folder else []:
            if file.stem in deliverable.checkpoints and file.suffix in (".safetensors", ".json"):
                yield PurePosixPath(file.name), _open_regular(file)


def _choose(names: list[PurePosixPath], deliverable: Deliverable) -> list[PurePosixPath]:
    """Choose the notebook, the checkpoints and their histories among all names."""
    if len(names) > MAX_FILES:
        raise IntakeError(f"More than {MAX_FILES} files were handed in.")
    seen = [n for n in names if not {".ipynb_checkpoints", "__MACOSX"} & set(n.parts)]
    notebooks = [n for n in seen if n.suffix == ".ipynb"]
    notebooks.sort(key=lambda n: (n.stem != deliverable.id, len(n.parts), n.name))
    trained = [
        n
        for n in seen
        if n.suffix in (".safetensors", ".json")
        and n.stem in deliverable.checkpoints
        and n.parent.name == "checkpoints"
    ]
    return notebooks[:1] + sorted(trained, key=lambda n: (len(n.parts), n.name))


def _open_regular(path: Path) -> IO[bytes]:
    """Open a regular file; a link, FIFO, device or anything else raises IntakeError."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise IntakeError(f"{path.name} is not a regular file.") from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise IntakeError(f"{path.name} is not a regular file.")
    return os.fdopen(handle, "rb")


def _parse(data: bytes) -> tuple[NotebookNode, list[NotebookNode]]:
    """Parse a notebook: the whole document, which may be invalid, and its cells."""
    try:
        text = data.decode("utf-8-sig")
        notebook: Any = json.loads(text)
        if notebook["nbformat"] == 4:  # nbformat.reads fails on cells without metadata
            notebook = nbformat.from_dict(notebook)
        else:
            notebook = nbformat.reads(text, as_version=4)
        cells = [_cell(cell) for cell in notebook.cells]
        # JSON allows lone surrogates, but they could not be written to a file later.
        json.dumps(cells, ensure_ascii=False).encode()
    except Exception as error:  # json, nbformat and deep recursion raise many kinds
        raise IntakeError("The notebook is damaged: it is not valid notebook JSON.") from error
    if len(cells) > _MAX_CELLS or sum(len(cell.source) for cell in cells) > _MAX_SOURCE:
        raise IntakeError("The notebook is too large: its cells hold more than 1 MB of text.")
    return notebook, cells


def _cell(cell: NotebookNode) -> NotebookNode:
    """A cell, reduced to the parts that are used."""
    source = cell.get("source", "")
    source = source if isinstance(source, str) else "".join(source)
    metadata = cell.metadata if isinstance(cell.get("metadata"), dict) else {}
    kept = {"attachments": cell["attachments"]} if "attachments" in cell else {}
    return NotebookNode(
        cell_type=str(cell.cell_type), source=source, metadata=NotebookNode(metadata), **kept
    )
