"""``pytest autograder --submission PATH`` says what the judge says."""

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from autograder import ROOT
from autograder.judging import load_master
from autograder.rubric import load_solutions, save_notebook, solved

ID = "d3_vae"


def run_pytest(submission: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "autograder", "--submission", str(submission)]
    command += ["-p", "no:cacheprovider", *more]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_a_wrong_solution_fails_the_tests_that_it_names(tmp_path: Path) -> None:
    master, wrong = load_master(ID), load_solutions(ID)[0][0]
    notebook = solved(master, wrong.changes(master))
    path, report = save_notebook(notebook, tmp_path / "handin", ID), tmp_path / "report.xml"
    finished = run_pytest(path, "-k", "not result", f"--junitxml={report}")
    assert finished.returncode == pytest.ExitCode.TESTS_FAILED, finished.stdout
    cases = ElementTree.parse(report).findall(".//testcase")
    failed = {case.get("name", "") for case in cases if case.find("failure") is not None}
    assert {name.rpartition(".")[2] for name in failed} == wrong.loses
    assert len(cases) > len(failed)
    assert "failed: " in finished.stdout


def test_a_damaged_notebook_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / f"{ID}.ipynb"
    path.write_text("{", encoding="utf-8")
    finished = run_pytest(path)
    assert finished.returncode == pytest.ExitCode.USAGE_ERROR
    assert finished.stderr.strip().splitlines()[-1].startswith("ERROR: The notebook is damaged")
    assert "Traceback" not in finished.stdout + finished.stderr
