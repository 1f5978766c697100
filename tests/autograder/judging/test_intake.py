"""Hand-ins of every shape: what can be read is read, and the rest is refused in one sentence."""

import io
import json
import os
import random
import stat
import struct
import sys
import tempfile
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save

from autograder.judging import HandIn, IntakeError, deliverable_of, intake, read_handin
from autograder.judging.intake import read_checkpoint, read_losses
from helpers import deliverables

ID = "d1_autoencoder"
DELIVERABLE = deliverables.get(ID)
NAME = f"{ID}.ipynb"
CHECKPOINT = save({"weight": torch.ones(2, 3)})
HISTORY = b'{"losses": [0.5, 0.25]}'

Files = dict[str, bytes | str]


def cell(source: Any = "x = 1", **more: Any) -> dict[str, Any]:
    return {"cell_type": "code", "metadata": {}, "source": source, "outputs": [], **more}


def notebook(*cells: Any, **more: Any) -> bytes:
    whole = {"cells": list(cells or [cell()]), "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(whole | more).encode()


def zipped(folder: Path, files: Files, name: str = "hand-in.zip") -> Path:
    with zipfile.ZipFile(folder / name, "w", zipfile.ZIP_DEFLATED) as archive:
        for file, data in files.items():
            archive.writestr(file, data)
    return folder / name


def read(path: Path) -> HandIn:
    return read_handin(path, DELIVERABLE)


def sources(handin: HandIn) -> list[str]:
    return [cell.source for cell in handin.cells]


def refused(path: Path) -> str:
    """Why a path is refused: one short sentence."""
    with pytest.raises(IntakeError) as caught:
        read(path)
    assert len(str(caught.value)) < 300
    return str(caught.value)


#: A cell of nbformat 3.
OLD_CELL = {
    "cell_type": "code",
    "input": ["old"],
    "language": "python",
    "outputs": [],
    "collapsed": False,
    "metadata": {},
}
COMPLETE: Files = {
    NAME: notebook(),
    "checkpoints/autoencoder.safetensors": CHECKPOINT,
    "checkpoints/autoencoder.json": HISTORY,
}


def unpacked(folder: Path, files: Files) -> Path:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return folder


@pytest.mark.parametrize(
    ("notebooks", "told"),
    [
        (["d1_autoencoder (1)"], True),  # as a browser names the second download
        (["d1_autoencoder", "d2_denoising"], False),
        (["homework"], False),
    ],
)
def test_folder_that_only_its_notebook_names(
    notebooks: list[str], told: bool, tmp_path: Path
) -> None:
    for name in notebooks:
        (tmp_path / f"{name}.ipynb").touch()
    if told:
        assert deliverable_of(tmp_path) == DELIVERABLE
    else:
        with pytest.raises(IntakeError, match="is not clear from the name"):
            deliverable_of(tmp_path)


class TestSound:
    @pytest.mark.parametrize(
        "shape",
        [
            lambda folder: zipped(folder, COMPLETE),
            lambda folder: zipped(folder, {f"a/b/{n}": d for n, d in COMPLETE.items()}),
            lambda folder: unpacked(folder, COMPLETE),
            lambda folder: unpacked(folder / "deep" / "er", COMPLETE).parent,
            lambda folder: unpacked(folder, COMPLETE) / NAME,
        ],
        ids=["zip", "zip with folders", "folder", "nested folder", "bare notebook"],
    )
    def test_shapes(self, shape: Callable[[Path], Path], tmp_path: Path) -> None:
        handin = read(shape(tmp_path))
        assert sources(handin) == ["x = 1"]
        assert handin.checkpoints == {"autoencoder": CHECKPOINT}
        assert handin.histories == {"autoencoder": HISTORY}

    def test_hash_is_of_what_counts(self, tmp_path: Path) -> None:
        (tmp_path / "zip").mkdir()
        first = read(zipped(tmp_path / "zip", {**COMPLETE, "notes.txt": "hello"}))
        second = read(unpacked(tmp_path / "folder", COMPLETE))
        other = read(unpacked(tmp_path / "other", {**COMPLETE, NAME: notebook(cell("y"))}))
        assert first.sha256 == second.sha256 != other.sha256

    def test_which_notebook(self, tmp_path: Path) -> None:
        """The one named as released; else the least deep one."""
        files: Files = {
            "a.ipynb": notebook(cell("a")),
            f"deep/{NAME}": notebook(cell("named")),
            "deep/er/b.ipynb": notebook(cell("b")),
        }
        assert sources(read(zipped(tmp_path, files))) == ["named"]
        del files[f"deep/{NAME}"]
        assert sources(read(zipped(tmp_path, files, "two.zip"))) == ["a"]

    def test_what_systems_add_is_passed_over(self, tmp_path: Path) -> None:
        files: Files = {
            f"__MACOSX/._{NAME}": b"\0\5\26\7",
            f"__MACOSX/{NAME}": b"rubbish",
            f".ipynb_checkpoints/{NAME}": notebook(cell("old")),
            "__MACOSX/checkpoints/autoencoder.safetensors": b"rubbish",
        }
        handin = read(zipped(tmp_path, {**files, **COMPLETE}))
        assert sources(handin) == ["x = 1"]
        assert handin.checkpoints == {"autoencoder": CHECKPOINT}

    def test_names_that_are_not_asked_for(self, tmp_path: Path) -> None:
        files: Files = {
            "checkpoints/other.safetensors": CHECKPOINT,
            "autoencoder.safetensors": CHECKPOINT,
            "checkpoints/autoencoder.pt": CHECKPOINT,
            "Checkpoints/Autoencoder.safetensors": CHECKPOINT,
        }
        assert read(zipped(tmp_path, {NAME: notebook(), **files})).checkpoints == {}

    @pytest.mark.parametrize(
        ("data", "expected"),
        [
            (b"\xef\xbb\xbf" + notebook(cell("bom")), ["bom"]),
            (notebook({"cell_type": "code"} | {"source": "bare"}), ["bare"]),
            (notebook({"cell_type": "code"}), [""]),
            (notebook(cell(["a\n", "b"])), ["a\nb"]),
            (notebook(cell("x", metadata=None)), ["x"]),
            (notebook(cell("x", metadata=[1])), ["x"]),
            (notebook(cell("x", attachments={})), ["x"]),
            (notebook(cell(cell_type="raw"), cell(cell_type="markdown")), ["x = 1"] * 2),
            (notebook(metadata={"kernelspec": None}), ["x = 1"]),
            (notebook(cell(outputs=[{"text": float("nan")}])), ["x = 1"]),
            (
                json.dumps(
                    {
                        "nbformat": 3,
                        "nbformat_minor": 0,
                        "metadata": {"name": ""},
                        "worksheets": [{"cells": [OLD_CELL]}],
                    }
                ).encode(),
                ["old"],
            ),
        ],
        ids=[
            "BOM",
            "no metadata",
            "no source",
            "list",
            "metadata null",
            "metadata list",
            "attachments",
            "kinds",
            "no kernel",
            "NaN",
            "nbformat 3",
        ],
    )
    def test_notebooks(self, data: bytes, expected: list[str], tmp_path: Path) -> None:
        assert sources(read(unpacked(tmp_path, {NAME: data}))) == expected


class TestUnsound:
    @pytest.mark.parametrize(
        ("name", "data"),
        [
            ("hand-in.zip", b"no zip"),
            ("hand-in.zip", b""),
            ("hand-in.zip", b"PK\x05\x06" + bytes(18)),
            ("hand-in.zip", b"PK\x03\x04" + bytes(200)),
            (NAME, b""),
            (NAME, b"\xff\xfe\x00"),
            (NAME, b"{"),
            (NAME, b"null"),
            (NAME, b"[]"),
            (NAME, b"{}"),
            (NAME, b"[" * 10**6),
            (NAME, b'{"cells":' * 10**5),
            (NAME, b'{"nbformat": ' + b"9" * 5000 + b"}"),
            (NAME, notebook(nbformat=5)),
            (NAME, notebook(nbformat="4")),
            (NAME, notebook(nbformat=-1)),
            (NAME, notebook(nbformat=float("nan"))),
            (NAME, notebook(cells={})[:-1]),
            (NAME, notebook(cells=None)),
            (NAME, notebook(cells="abc")),
            (NAME, notebook(1)),
            (NAME, notebook(None)),
            (NAME, notebook([])),
            (NAME, notebook({"source": "x"})),
            (NAME, notebook(cell(None))),
            (NAME, notebook(cell(5))),
            (NAME, notebook(cell([1, 2]))),
            (NAME, notebook(cell([["a"]]))),
            (NAME, notebook(cell("\ud800"))),
            (NAME, notebook(cell(metadata={"nbgrader": {"grade_id": "\udfff"}}))),
            (NAME, notebook(*[cell()] * 2001)),
            (NAME, notebook(cell("x" * (2**20 + 1)))),
            (NAME, b'{"nbformat": 3, "worksheets": [{"cells": [1]}]}'),
        ],
        ids=range(33),
    )
    def test_bytes(self, name: str, data: bytes, tmp_path: Path) -> None:
        refused(unpacked(tmp_path, {name: data}) / name)

    @pytest.mark.parametrize("files", [{}, {"a.txt": "x"}, {"checkpoints/autoencoder.json": "{}"}])
    def test_without_a_notebook(self, files: Files, tmp_path: Path) -> None:
        assert "no notebook" in refused(zipped(tmp_path, files))
        (tmp_path / "folder").mkdir()
        assert "no notebook" in refused(unpacked(tmp_path / "folder", files))

    def test_nothing_there(self, tmp_path: Path) -> None:
        for name in ("missing.zip", "missing.ipynb", "missing"):
            refused(tmp_path / name)

    def test_damaged_zip(self, tmp_path: Path) -> None:
        """Any byte may be wrong: it is read all the same or refused, and never raises otherwise."""
        data = bytearray(zipped(tmp_path, COMPLETE).read_bytes())
        rng = random.Random(0)
        for _ in range(200):
            broken = bytearray(data)
            for _ in range(rng.randint(1, 4)):
                broken[rng.randrange(len(broken))] = rng.randrange(256)
            path = tmp_path / "broken.zip"
            path.write_bytes(broken[: rng.choice([len(broken), rng.randrange(len(broken))])])
            with suppress(IntakeError):
                read(path)

    def test_encrypted_zip(self, tmp_path: Path) -> None:
        path = zipped(tmp_path, {NAME: notebook()})
        data = bytearray(path.read_bytes())
        data[6] |= 1  # the flag in the file's own header, and in the directory
        data[data.index(b"PK\x01\x02") + 8] |= 1
        path.write_bytes(data)
        refused(path)

    def test_unknown_compression(self, tmp_path: Path) -> None:
        path = zipped(tmp_path, {NAME: notebook()})
        data = bytearray(path.read_bytes())
        data[8] = data[data.index(b"PK\x01\x02") + 10] = 99
        path.write_bytes(data)
        refused(path)


class TestSizes:
    def test_bombs(self, tmp_path: Path) -> None:
        """Files that are small when packed: no more is unpacked than may count."""
        bombs = {
            NAME: intake.MAX_NOTEBOOK_BYTES,
            "checkpoints/autoencoder.json": intake.MAX_HISTORY_BYTES,
            "checkpoints/autoencoder.safetensors": deliverables.MAX_HANDIN_BYTES,
        }
        for number, (name, limit) in enumerate(bombs.items()):
            files: Files = {NAME: notebook(), name: bytes(limit + 1)}
            path = zipped(tmp_path, files, f"{number}.zip")
            assert path.stat().st_size < 2**20
            assert "too large" in refused(path)

    def test_42_megabytes_of_zeros(self, tmp_path: Path) -> None:
        """Within the caps: read, and refused as a notebook or as a checkpoint."""
        zeros = bytes(42 * 2**20)
        start = time.monotonic()
        refused(zipped(tmp_path, {NAME: zeros}))
        files: Files = {NAME: notebook(), "checkpoints/autoencoder.safetensors": zeros}
        with suppress(IntakeError):
            handin = read(zipped(tmp_path, files, "second.zip"))
            with pytest.raises(IntakeError):
                read_checkpoint(handin.checkpoints["autoencoder"])
        assert time.monotonic() - start < 10

    def test_lying_size(self, tmp_path: Path) -> None:
        """A directory that promises one byte: no more than the caps is unpacked."""
        path = zipped(tmp_path, {NAME: bytes(200 * 2**20)})
        data = bytearray(path.read_bytes())
        place = data.index(b"PK\x01\x02") + 24
        data[place : place + 4] = struct.pack("<I", 1)
        path.write_bytes(data)
        tracemalloc.start()
        refused(path)
        assert tracemalloc.get_traced_memory()[1] < 2.5 * intake.MAX_NOTEBOOK_BYTES
        tracemalloc.stop()

    def test_all_files_together(self, tmp_path: Path) -> None:
        """One name many times over does not add up to more than a hand-in may have."""
        with zipfile.ZipFile(tmp_path / "many.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(NAME, notebook())
            for number in range(20):
                archive.writestr(f"{number}/checkpoints/autoencoder.safetensors", bytes(8 * 2**20))
        assert "too large" in refused(tmp_path / "many.zip")

    def test_many_files(self, tmp_path: Path) -> None:
        files: Files = {f"{number}.txt": "" for number in range(intake.MAX_FILES + 1)}
        assert "files" in refused(zipped(tmp_path, {NAME: notebook(), **files}))
        assert "files" in refused(unpacked(tmp_path / "folder", {NAME: notebook(), **files}))

    def test_large_folder_is_not_read(self, tmp_path: Path) -> None:
        unpacked(tmp_path, COMPLETE)
        with (tmp_path / "video.mp4").open("wb") as file:
            file.truncate(2**40)
        with (tmp_path / "big.ipynb").open("wb") as file:
            file.truncate(2**40)
        assert sources(read(tmp_path)) == ["x = 1"]
        assert "too large" in refused(tmp_path / "big.ipynb")


class TestFiles:
    """What only looks like a file."""

    @pytest.fixture(params=["link", "FIFO", "directory", "socket", "dangling link", "device"])
    def odd(self, request: pytest.FixtureRequest) -> Callable[[Path], None]:
        def link(path: Path) -> None:
            secret = path.parent / "secret"
            secret.write_bytes(notebook(cell("secret")))
            path.symlink_to(secret)

        def device(path: Path) -> None:
            try:
                os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))
            except PermissionError:
                pytest.skip("only root makes devices")

        def unix_socket(path: Path) -> None:
            os.mknod(path, stat.S_IFSOCK | 0o666)

        makers: dict[str, Callable[[Path], None]] = {
            "link": link,
            "FIFO": os.mkfifo,
            "directory": Path.mkdir,
            "socket": unix_socket,
            "dangling link": lambda path: path.symlink_to("/nowhere"),
            "device": device,
        }
        return makers[request.param]

    def test_notebook(self, odd: Callable[[Path], None], tmp_path: Path) -> None:
        odd(tmp_path / NAME)
        if not (tmp_path / NAME).is_dir():  # a directory of that name is a folder handed in
            refused(tmp_path / NAME)
        refused(tmp_path)

    def test_checkpoint(self, odd: Callable[[Path], None], tmp_path: Path) -> None:
        unpacked(tmp_path, {NAME: notebook(), "checkpoints/readme": ""})
        odd(tmp_path / "checkpoints" / "autoencoder.safetensors")
        for path in (tmp_path, tmp_path / NAME):
            with suppress(IntakeError):
                assert read(path).checkpoints == {}

    def test_zip(self, odd: Callable[[Path], None], tmp_path: Path) -> None:
        odd(tmp_path / "hand-in.zip")
        refused(tmp_path / "hand-in.zip")

    def test_folder_of_checkpoints_that_is_a_link(self, tmp_path: Path) -> None:
        unpacked(tmp_path / "elsewhere", {"autoencoder.safetensors": CHECKPOINT})
        unpacked(tmp_path / "mine", {NAME: notebook()})
        (tmp_path / "mine" / "checkpoints").symlink_to(tmp_path / "elsewhere")
        for path in (tmp_path / "mine", tmp_path / "mine" / NAME):
            with suppress(IntakeError):
                assert read(path).checkpoints == {}

    def test_links_in_a_zip(self, tmp_path: Path) -> None:
        link = zipfile.ZipInfo(NAME)
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        with zipfile.ZipFile(tmp_path / "hand-in.zip", "w") as archive:
            archive.writestr(link, "/etc/passwd")
        assert "no notebook" in refused(tmp_path / "hand-in.zip")

    @pytest.mark.parametrize(
        "name", [f"../../{NAME}", f"/etc/{NAME}", f"C:\\{NAME}", f"a/../../{NAME}", f"./{NAME}"]
    )
    def test_names_that_lead_elsewhere(self, name: str, tmp_path: Path) -> None:
        """Nothing is written anywhere, so a name is only a name."""
        folder = tmp_path / "a" / "b"
        folder.mkdir(parents=True)
        path = zipped(folder, {name: notebook(), "../../checkpoints/autoencoder.json": HISTORY})
        assert sources(read(path)) == ["x = 1"]
        assert [p for p in tmp_path.rglob("*") if p.is_file()] == [path]

    def test_one_name_twice(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "hand-in.zip", "w") as archive:
            archive.writestr(NAME, notebook(cell("first")))
            with pytest.warns(UserWarning, match="Duplicate"):
                archive.writestr(NAME, notebook(cell("second")))
        assert len(read(tmp_path / "hand-in.zip").cells) == 1

    def test_names_that_differ_by_case(self, tmp_path: Path) -> None:
        files: Files = {NAME.upper().replace("IPYNB", "ipynb"): notebook(cell("upper")), **COMPLETE}
        assert sources(read(zipped(tmp_path, files))) == ["x = 1"]


def with_header(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(begin: int, end: int, shape: Any = (3,), dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


class TestCheckpoint:
    def test_sound(self) -> None:
        assert read_checkpoint(CHECKPOINT)["weight"].tolist() == [[1.0] * 3] * 2

    def test_without_tensors(self) -> None:
        assert read_checkpoint(with_header({})) == {}

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"\0" * 7,
            b"\0" * 8,
            CHECKPOINT[:-1],
            CHECKPOINT[:20],
            CHECKPOINT + b"\0",
            with_header(b"[]"),
            with_header(b"\xff"),
            with_header({}, length=2**63),
            with_header({f"{n}": entry(0, 0, [0]) for n in range(10**4)}),
            with_header({"a": entry(0, 12), "b": entry(0, 12)}, bytes(12)),
            with_header({"a": entry(0, 12), "b": entry(8, 20)}, bytes(20)),
            with_header({"a": entry(4, 16)}, bytes(16)),
            with_header({"a": entry(0, 12, [2**62])}, bytes(12)),
            with_header({"a": entry(0, 12, [-3])}, bytes(12)),
            with_header({"a": entry(0, 12, dtype="OBJECT")}, bytes(12)),
            with_header({"a": entry(0, 2**40)}, bytes(12)),
            save({"a": torch.tensor([1.0, float("nan")])}),
            save({"a": torch.tensor([float("inf")], dtype=torch.float16)}),
            save({"a": torch.tensor([complex(float("nan"), 0)])}),
            save({"a": torch.tensor([float("nan")]).to(torch.float8_e4m3fn)}),
            b"\x80\x04cos\nsystem\n.",
        ],
        ids=range(22),
    )
    def test_unsound(self, data: bytes) -> None:
        with pytest.raises(IntakeError) as caught:
            read_checkpoint(data)
        assert len(str(caught.value)) < 200

    def test_pickle_under_another_name(self) -> None:
        buffer = io.BytesIO()
        torch.save({"weight": torch.ones(3)}, buffer)
        with pytest.raises(IntakeError):
            read_checkpoint(buffer.getvalue())

    @given(
        st.binary(max_size=100)
        | st.builds(
            lambda place, byte: CHECKPOINT[:place] + bytes([byte]) + CHECKPOINT[place + 1 :],
            st.integers(0, len(CHECKPOINT) - 1),
            st.integers(0, 255),
        )
    )
    def test_fuzz(self, data: bytes) -> None:
        with suppress(IntakeError):
            read_checkpoint(data)


@pytest.mark.parametrize(
    ("data", "losses"),
    [
        (HISTORY, [0.5, 0.25]),
        (b'{"losses": []}', []),
        (b'{"losses": [true, "0.5", 1]}', [1.0, 0.5, 1.0]),
        (b'{"losses": [NaN, Infinity, 1e40, -1e40, 2]}', [2.0]),
        (b'{"losses": {"a": 1}}', []),
        (b'{"losses": "123"}', [1.0, 2.0, 3.0]),
        (b'{"losses": [[1]]}', []),
        (b'{"losses": [' + b"9" * 5000 + b"]}", []),
        (b'{"losses": [' + b"9" * 400 + b"]}", []),
        (b'{"losses": null}', []),
        (b"[" * 10**5, []),
        (b"[]", []),
        (b"\xff", []),
        (b"", []),
    ],
    ids=lambda value: str(value)[:30],
)
def test_history(data: bytes, losses: list[float]) -> None:
    assert read_losses(data) == losses


def test_history_is_cut() -> None:
    assert len(read_losses(json.dumps({"losses": [1.0] * 5000}).encode())) == 1000


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
ANY_CELL = st.fixed_dictionaries(
    {},
    optional={
        "cell_type": st.sampled_from(["code", "markdown", "raw", "heading", ""]) | JSON,
        "source": st.text(max_size=10) | JSON,
        "metadata": JSON,
        "outputs": JSON,
        "attachments": JSON,
        "input": JSON,
        "id": JSON,
    },
)


@given(
    st.binary(max_size=100)
    | JSON.map(lambda tree: json.dumps(tree).encode())
    | st.builds(
        lambda version, cells, metadata: json.dumps(
            {
                "nbformat": version,
                "nbformat_minor": 5,
                "cells": cells,
                "worksheets": [{"cells": cells}],
                "metadata": metadata,
            }
        ).encode(),
        st.sampled_from([2, 3, 4, 4, 4]) | JSON,
        st.lists(ANY_CELL, max_size=3),
        JSON,
    )
)
def test_fuzz_notebook(data: bytes) -> None:
    limit = sys.getrecursionlimit()
    with suppress(IntakeError):
        for found in intake._parse(data)[1]:
            assert isinstance(found.source, str)
            assert isinstance(found.metadata, dict)
            json.dumps(found, ensure_ascii=False).encode()
    assert sys.getrecursionlimit() == limit


def _archive() -> bytes:
    """A small hand-in, its entries stored and deflated, in a folder and not."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(f"{ID}/{NAME}", notebook())
        archive.writestr("checkpoints/autoencoder.safetensors", CHECKPOINT, zipfile.ZIP_DEFLATED)
        archive.writestr("checkpoints/autoencoder.json", HISTORY, zipfile.ZIP_LZMA)
    return file.getvalue()


ARCHIVE = _archive()


@given(
    st.lists(
        st.tuples(st.integers(0, len(ARCHIVE) - 1), st.binary(min_size=1, max_size=4)), max_size=4
    ),
    st.integers(0, len(ARCHIVE)),
)
def test_fuzz_zip(changes: list[tuple[int, bytes]], length: int) -> None:
    """Whatever bytes of a zip are changed, and wherever it is cut off, it is read or refused."""
    data = bytearray(ARCHIVE)
    for place, other in changes:
        data[place : place + len(other)] = other
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "d1_autoencoder-ada.zip"
        path.write_bytes(data[:length] if length % 2 else data)
        with suppress(IntakeError):
            assert len(read(path).sha256) == 64
