"""The setup cell, in fresh processes that know torch but not this repository.

Colab, Kaggle without internet, a computer with the kit unpacked: what differs between them is where
the kit lies, and the cell is run with it lying there.
"""

import os
import subprocess
import sys
import sysconfig
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from autograder import ROOT
from autograder.judging import load_master
from autograder.release import KIT_NAME, student_kit

CELL = load_master("d1_autoencoder").cell("setup").source
PACKAGES = sysconfig.get_path("purelib")
#: Adds the installed packages, but follows no .pth file: this repository is not among them.
START = f"import sys; sys.path[:0] = ['', {PACKAGES!r}]\n"
WHERE = "import helpers; print(helpers.__file__)\n"


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kit that students get."""
    return student_kit(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def tiny_kit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kit without data sets, which is fast to unpack."""
    path = tmp_path_factory.mktemp("tiny") / KIT_NAME
    with zipfile.ZipFile(path, "w") as archive:
        for file in (ROOT / "helpers").rglob("*.py"):
            archive.write(file, file.relative_to(ROOT))
    return path


@pytest.fixture(scope="module")
def server(kit: Path, tiny_kit: Path) -> Iterator[str]:
    """Its address: it has the kit, the tiny kit in /tiny, and zips that are none."""
    (kit.parent / "tiny").mkdir()
    (kit.parent / "tiny" / KIT_NAME).symlink_to(tiny_kit)
    (kit.parent / "page.zip").write_text("<html>Please log in.</html>")
    with zipfile.ZipFile(kit.parent / "other.zip", "w") as archive:
        archive.writestr("latent-lab-main/helpers/deliverables.py", "")

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            pass

        def do_GET(self) -> None:
            if self.path != "/broken.zip":
                return super().do_GET()
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"PK")  # and no more: the connection is lost
            return None

    http = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(kit.parent)))
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{http.server_port}"
    http.shutdown()
    http.server_close()


def run(
    code: str, cwd: Path, start: str = START, **environment: object
) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter. The kit's usual address answers to nobody."""
    cwd.mkdir(parents=True, exist_ok=True)
    inherited = {"PATH": os.environ["PATH"], "HOME": str(cwd)}
    ours = {"LATENT_LAB_KIT": "http://127.0.0.1:9/kit.zip", **environment}
    return subprocess.run(
        [sys.executable, "-S", "-c", start + code],
        cwd=cwd,
        env=inherited | {name: str(value) for name, value in ours.items()},
        capture_output=True,
        text=True,
        timeout=120,
    )


def assert_uses(kit: Path, done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [str(kit / "helpers" / "__init__.py")]
    assert done.stderr == ""


def test_these_processes_do_not_know_the_repository(tmp_path: Path) -> None:
    assert "No module named 'helpers'" in run(WHERE, tmp_path).stderr
    assert run("import nbformat", tmp_path).returncode == 0


# Colab.


def test_colab(server: str, tmp_path: Path) -> None:
    """The kit as released is fetched, and the notebook's imports and data work."""
    imports = load_master("d1_autoencoder").cell("imports").source
    code = f"{CELL}\n{WHERE}{imports}\nprint(MNIST(train=False))"
    done = run(code, tmp_path, LATENT_LAB_KIT=f"{server}/{KIT_NAME}", MPLBACKEND="agg")
    assert done.returncode == 0, done.stderr
    unpacked = tmp_path / "latent-lab-kit"
    file, data = done.stdout.splitlines()
    assert file == str(unpacked / "helpers" / "__init__.py")
    raw = unpacked / "helpers" / "data" / "files" / "MNIST" / "raw"
    assert data == f"MNIST: 10,000 test images from {raw}"


def test_run_again_it_does_not_fetch_again(server: str, tmp_path: Path) -> None:
    first = run(
        CELL + "\n" + CELL + "\n" + WHERE, tmp_path, LATENT_LAB_KIT=f"{server}/tiny/{KIT_NAME}"
    )
    assert_uses(tmp_path / "latent-lab-kit", first)
    after_restart = run(f"{CELL}\n{WHERE}", tmp_path)
    assert_uses(tmp_path / "latent-lab-kit", after_restart)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("missing.zip", "HTTP Error 404"),
        ("page.zip", "not a zip file"),
        ("other.zip", "no item named 'helpers/deliverables.py'"),
        ("broken.zip", "IncompleteRead"),
    ],
)
def test_no_kit_at_the_address(path: str, reason: str, server: str, tmp_path: Path) -> None:
    done = run(CELL, tmp_path, LATENT_LAB_KIT=f"{server}/{path}")
    assert_says_what_to_do(done, f"{server}/{path}", reason)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/kit.zip", "", "kit.zip", "https://["])
def test_no_server(address: str, tmp_path: Path) -> None:
    assert_says_what_to_do(run(CELL, tmp_path, LATENT_LAB_KIT=address), address)


def assert_says_what_to_do(
    done: subprocess.CompletedProcess[str], address: str, reason: str = ""
) -> None:
    """One line, and no traceback."""
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"The course kit could not be downloaded from {address} (")
    assert reason in line
    assert line.endswith(
        "On Kaggle, turn on the internet or attach the kit as a dataset; "
        "otherwise ask your instructor for help."
    )


# Kaggle without internet.


@pytest.mark.parametrize("place", ["latent-lab-kit", "datasets/owner/kit/latent-lab-kit"])
def test_kaggle_with_the_kit_unpacked(place: str, tiny_kit: Path, tmp_path: Path) -> None:
    attached = tmp_path / "input" / place
    zipfile.ZipFile(tiny_kit).extractall(attached)
    done = run(f"{CELL}\n{WHERE}", tmp_path / "working", LATENT_LAB_KAGGLE_INPUT=tmp_path / "input")
    assert_uses(attached, done)


@pytest.mark.parametrize("place", [".", "datasets/owner/my kit"])
def test_kaggle_with_the_zip(place: str, tiny_kit: Path, tmp_path: Path) -> None:
    attached = tmp_path / "input" / place
    attached.mkdir(parents=True)
    (attached / KIT_NAME).symlink_to(tiny_kit)
    working = tmp_path / "working"
    done = run(f"{CELL}\n{WHERE}", working, LATENT_LAB_KAGGLE_INPUT=tmp_path / "input")
    assert_uses(working / "latent-lab-kit", done)


def test_kaggle_with_a_damaged_zip(tmp_path: Path) -> None:
    (tmp_path / "input").mkdir()
    archive = tmp_path / "input" / KIT_NAME
    archive.write_bytes(b"PK")
    done = run(CELL, tmp_path / "working", LATENT_LAB_KAGGLE_INPUT=tmp_path / "input")
    assert_says_what_to_do(done, archive.as_uri(), "not a zip file")


def test_kaggle_with_other_data_sets_only(tmp_path: Path) -> None:
    (tmp_path / "input" / "cats" / "helpers").mkdir(parents=True)
    done = run(CELL, tmp_path / "working", LATENT_LAB_KAGGLE_INPUT=tmp_path / "input")
    assert_says_what_to_do(done, "http://127.0.0.1:9/kit.zip")


# On one's own computer.


def test_kit_unpacked_and_not_installed(tiny_kit: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(tiny_kit).extractall(tmp_path / "course")
    done = run(f"{CELL}\n{WHERE}", tmp_path / "course" / "notebooks" / "d1_autoencoder")
    assert_uses(tmp_path / "course", done)


def test_installed_kit_is_used_as_it_is(tiny_kit: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(tiny_kit).extractall(tmp_path / "installed")
    start = f"{START}sys.path.append({str(tmp_path / 'installed')!r})\n"
    code = f"before = [*sys.path]\n{CELL}\nassert sys.path == before\n{WHERE}"
    assert_uses(tmp_path / "installed", run(code, tmp_path / "work", start))
    assert list((tmp_path / "work").iterdir()) == []


def test_missing_packages_are_named(tiny_kit: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(tiny_kit).extractall(tmp_path)
    done = run(CELL, tmp_path, start="import sys; sys.path.insert(0, '')\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"{name} is missing. Run  %pip install {name}  and then this cell again."
        for name in ("safetensors", "torchsummary")
    ]
