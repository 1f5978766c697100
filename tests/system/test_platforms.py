"""macOS and Windows: the student's side and ``release`` work; judging says that it needs Linux."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from autograder import cli

#: Takes away what Windows does not have, after the libraries have found what they use on Linux and
#: before anything of ours is imported.
WITHOUT_LINUX = """
import ctypes, os, signal, socket, sys
import diffusers, distributed, jupytext, nbgrader.apps.api, pytest, torchvision, transformers
for name in ("fcntl", "grp", "pwd", "resource", "termios"):
    sys.modules[name] = None
for module, names in {
    os: "chown fork geteuid getuid killpg pidfd_open setsid O_NOFOLLOW",
    signal: "SIGALRM SIGCHLD SIGKILL setitimer",
    socket: "AF_UNIX recv_fds send_fds",
}.items():
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)
class Library(ctypes.CDLL):
    def __init__(self, name, *arguments, **options):
        if name is None:
            raise TypeError("LoadLibrary() argument 1 must be str, not None")
        super().__init__(name, *arguments, **options)
ctypes.CDLL = Library
"""
IMPORT_ALL = """
import importlib, pkgutil
import autograder, helpers
for package in (helpers, autograder):
    for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        # What runs in the sandbox runs on Linux alone; pytest loads the other.
        if ".inside.forkserver" not in found.name and not found.name.endswith("__main__"):
            importlib.import_module(found.name)
"""
RELEASE = """
from autograder.cli import app
app(["release", "d1", "--course", sys.argv[1]], standalone_mode=False)
"""


def run(code: str, *arguments: str) -> str:
    command = [sys.executable, "-c", WITHOUT_LINUX + code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_everything_can_be_imported() -> None:
    run(IMPORT_ALL)


def test_release(tmp_path: Path) -> None:
    assert "Released" in run(RELEASE, str(tmp_path))
    assert (tmp_path / "latent-lab-kit.zip").is_file()


@pytest.mark.parametrize("platform", ["win32", "darwin"])
@pytest.mark.parametrize("arguments", [["check", "d1.zip"], ["grade", "d1"], ["demo"]])
def test_judging_needs_linux(
    platform: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == cli.BAD_INPUT
    assert result.stderr.startswith("Judging needs Linux")
