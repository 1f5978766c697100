"""What was handed in, read with suspicion: a zip, a folder or a bare notebook.

Nothing is unpacked to disk and no link is followed. Sizes are checked before bytes are read. What
is wrong with a hand-in ends in one :class:`IntakeError`, whose text is for its author.
"""

from __future__ import annotations

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

from autograder.protocol import read_tensors
from helpers.deliverables import DELIVERABLES, MAX_HANDIN_BYTES, Deliverable, get

MAX_NOTEBOOK_BYTES = 50 * 2**20
#: A thousand epochs' history is far below this.
MAX_HISTORY_BYTES = 2**20
MAX_FILES = 1000
_MAX_CELLS = 2000
_MAX_SOURCE = 2**20


class IntakeError(Exception):
    """What was handed in cannot be read; one sentence says why."""


@dataclass(frozen=True)
class HandIn:
    """What was handed in.

    Attributes:
        cells: the notebook's cells: cell_type, source, metadata and attachments.
        checkpoints: the bytes of ``checkpoints/<name>.safetensors``, by name.
        histories: the bytes of ``checkpoints/<name>.json``, by name.
        sha256: of all the above.
    """

    cells: list[NotebookNode]
    checkpoints: dict[str, bytes] = field(default_factory=dict)
    histories: dict[str, bytes] = field(default_factory=dict)
    sha256: str = ""


def deliverable_of(path: Path, name: str | None = None) -> Deliverable:
    """The deliverable of a hand-in: ``name``, or the one that its own name tells.

    That is the name of the file, of the folder above, or of the only notebook in it.

    Raises:
        IntakeError: if there is nothing, or no such deliverable.
    """
    if not path.exists():
        raise IntakeError(f"There is no file or folder {path}.")
    if name is None:
        notebooks = [notebook.stem for notebook in path.glob("*.ipynb")]
        told = [path.stem, path.resolve().parent.name, *(notebooks if len(notebooks) == 1 else ())]
        found = [known for part in told for known in DELIVERABLES if part.startswith(known)]
        if not found:
            raise IntakeError(
                f"The name of {path.name} does not tell its deliverable: say --deliverable d1."
            )
        name = found[0]
    try:
        return get(name)
    except KeyError as error:
        raise IntakeError(str(error.args[0])) from None


def read_handin(path: Path, deliverable: Deliverable) -> HandIn:
    """Read a zip, a folder or a notebook.

    Raises:
        IntakeError: if there is no notebook in it that can be read, or it is too large.
    """
    files = wanted_files(path, deliverable)
    notebook = files.pop("notebook", None)
    if notebook is None:
        raise IntakeError(f"There is no notebook in {path.name}.")
    digest = hashlib.sha256(notebook)
    for name in sorted(files):
        digest.update(name.encode() + hashlib.sha256(files[name]).digest())
    names = deliverable.checkpoints
    return HandIn(
        cells=_cells(notebook),
        checkpoints={n: files[f"{n}.safetensors"] for n in names if f"{n}.safetensors" in files},
        histories={n: files[f"{n}.json"] for n in names if f"{n}.json" in files},
        sha256=digest.hexdigest(),
    )


def read_checkpoint(data: bytes) -> dict[str, Tensor]:
    """The tensors of a checkpoint's bytes.

    Raises:
        IntakeError: if they are no sound safetensors file of finite numbers.
    """
    try:
        tensors = read_tensors(data)
    except Exception as error:  # whatever the parsers raise
        raise IntakeError("The checkpoint is no sound safetensors file.") from error
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise IntakeError(f"The checkpoint has NaN or infinite numbers in {name!r:.80}.")
    return tensors


def read_losses(data: bytes) -> list[float]:
    """The losses of a history's bytes; empty if it is damaged, since no mark depends on it."""
    try:
        losses = json.loads(data)["losses"]
        return [float(loss) for loss in losses[:1000] if abs(float(loss)) < 1e30]
    except Exception:  # whatever a forged file makes of this
        return []


def wanted_files(path: Path, deliverable: Deliverable) -> dict[str, bytes]:
    """The files that count, by what they are: "notebook", "<name>.safetensors", "<name>.json"."""
    limits = {".ipynb": MAX_NOTEBOOK_BYTES, ".safetensors": MAX_HANDIN_BYTES}
    wanted: dict[str, bytes] = {}
    left = MAX_HANDIN_BYTES
    try:
        for name, file in _files(path, deliverable):
            kind = "notebook" if name.suffix == ".ipynb" else name.name
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
        raise IntakeError(f"{path.name} is damaged or no zip file.") from error
    return wanted


def _files(path: Path, deliverable: Deliverable) -> Iterator[tuple[PurePosixPath, IO[bytes]]]:
    """The files that count, the best notebook first: named as released, then least deep."""
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
        beside = path.parent / "checkpoints"
        is_folder = beside.is_dir() and not beside.is_symlink()
        for file in sorted(beside.iterdir()) if is_folder else []:
            if file.stem in deliverable.checkpoints and file.suffix in (".safetensors", ".json"):
                yield PurePosixPath(file.name), _open_regular(file)


def _choose(names: list[PurePosixPath], deliverable: Deliverable) -> list[PurePosixPath]:
    """The one notebook and the checkpoints among all names."""
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
    """Open a regular file, and nothing that only looks like one: no link, no FIFO, no device."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise IntakeError(f"{path.name} is no ordinary file.") from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise IntakeError(f"{path.name} is no ordinary file.")
    return os.fdopen(handle, "rb")


def _cells(data: bytes) -> list[NotebookNode]:
    """The cells of a notebook's bytes."""
    try:
        notebook: Any = json.loads(data.decode("utf-8-sig"))
        if notebook["nbformat"] == 4:  # nbformat itself stumbles over cells without metadata
            notebook = nbformat.from_dict(notebook)
        else:
            notebook = nbformat.reads(data.decode("utf-8-sig"), as_version=4)
        cells = [_cell(cell) for cell in notebook.cells]
        # Lone surrogates get through JSON, but into no file that is written later.
        json.dumps(cells, ensure_ascii=False).encode()
    except Exception as error:  # json, nbformat, recursion: many kinds
        raise IntakeError("The notebook is damaged: it is not valid notebook JSON.") from error
    if len(cells) > _MAX_CELLS or sum(len(cell.source) for cell in cells) > _MAX_SOURCE:
        raise IntakeError("The notebook is too large: its cells hold more than 1 MB of text.")
    return cells


def _cell(cell: NotebookNode) -> NotebookNode:
    """A cell, reduced to what counts."""
    source = cell.get("source", "")
    source = source if isinstance(source, str) else "".join(source)
    metadata = cell.metadata if isinstance(cell.get("metadata"), dict) else {}
    kept = {key: cell[key] for key in ("attachments",) if key in cell}
    return NotebookNode(
        cell_type=str(cell.cell_type), source=source, metadata=NotebookNode(metadata), **kept
    )
