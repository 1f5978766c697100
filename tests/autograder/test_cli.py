"""The command line: one clear sentence and an exit code for what cannot be done."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from autograder import cli, sandbox


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["check", "nowhere.zip"], "There is no file or folder nowhere.zip."),
        (["check", "unnamed.zip"], "is not clear from the name"),
        (["check", "unnamed.zip", "--deliverable", "d99"], "There is no deliverable 'd99'"),
        (["check", "unnamed.zip", "--deliverable", "d1"], "is damaged or is not a zip file"),
        (["grade", "d99"], "There is no deliverable 'd99'"),
        (["grade", "d1", "--handins", "nowhere", "--course", "course"], "There is no folder"),
        (["report", "d1", "--course", "course"], "There are no results of d1_autoencoder"),
        (["release", "d99"], "There is no deliverable 'd99'"),
    ],
)
def test_bad_input(
    arguments: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    # Whether this machine has a sandbox is not the question here.
    monkeypatch.setattr(sandbox, "isolation_level", lambda: 2)
    Path("unnamed.zip").write_bytes(b"not a zip")
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == cli.BAD_INPUT
    assert sentence in result.stderr.replace("\n", " ")
    assert "Traceback" not in result.output


def test_marks_need_a_sandbox(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sandbox, "isolation_level", lambda: 0)
    result = CliRunner().invoke(cli.app, ["grade", "d1", "--course", str(tmp_path)])
    assert result.exit_code == cli.BAD_INPUT
    assert "NO SANDBOX" in result.output
    assert "Marks need level 2" in result.stderr
