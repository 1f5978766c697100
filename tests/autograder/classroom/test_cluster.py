"""A class judged over Dask on loopback, encrypted, while one of two workers is killed."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from autograder.classroom import ClusterError, judge_on_cluster, pool, store
from autograder.judging import load_master
from autograder.release import released_notebook
from autograder.rubric import save_notebook, solved

pytest.importorskip("distributed")

ID = "d1_autoencoder"
STUDENTS = [f"student{number}" for number in range(6)]


@pytest.fixture
def course(tmp_path: Path) -> Path:
    """Six hand-ins of three kinds."""
    master = load_master(ID)
    kinds = [
        solved(master),
        released_notebook(master),
        solved(master, {"choices": "import os; os._exit(0)"}),
    ]
    for number, student in enumerate(STUDENTS):
        save_notebook(kinds[number % 3], tmp_path / "course" / "submitted" / student / ID, ID)
    return tmp_path / "course"


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for everybody, signed by itself."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make a certificate with")
    path = tmp_path / "both.pem"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "cert.pem")]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    subprocess.run([*command, *subject, *files], check=True, capture_output=True)
    path.write_bytes((tmp_path / "key.pem").read_bytes() + (tmp_path / "cert.pem").read_bytes())
    return path


def settings(certificate: Path) -> dict[str, str]:
    """The recipe of docs/grading.md."""
    prefix = "DASK_DISTRIBUTED__COMM__"
    roles = ("SCHEDULER", "WORKER", "CLIENT")
    return {
        f"{prefix}REQUIRE_ENCRYPTION": "True",
        f"{prefix}TLS__CA_FILE": str(certificate),
        **{f"{prefix}TLS__{role}__CERT": str(certificate) for role in roles},
        **{f"{prefix}TLS__{role}__KEY": str(certificate) for role in roles},
    }


@contextmanager
def running(*command: str, env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process and all that it starts, until the block ends."""
    with subprocess.Popen(
        [sys.executable, "-m", *command],
        env={**os.environ, **env},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def results(course: Path) -> dict[str, Any]:
    found = {}
    for result in store.read_results(course, ID):
        about = json.loads(result.model_dump_json())
        del about["seconds"]
        found[result.student] = about
    return found


@pytest.mark.timeout(240)
def test_class_with_a_worker_lost(course: Path, certificate: Path, tmp_path: Path) -> None:
    env, address = settings(certificate), f"tls://127.0.0.1:{free_port()}"
    host, port = address.removeprefix("tls://").split(":")
    scheduler = ["dask", "scheduler", "--host", f"tls://{host}", "--port", port]
    worker = ["dask", "worker", address, "--no-nanny", "--nthreads", "1"]
    grade = ["autograder.cli", "grade", "d1", "--course", str(course), "--min-level", "0"]
    with (
        running(*scheduler, "--no-dashboard", env=env),
        running(*worker, "--no-dashboard", env=env) as lost,
        running(*worker, "--no-dashboard", env=env),
        running(*grade, "--scheduler", address, env=env) as grading_process,
    ):
        end = time.monotonic() + 120
        while not results(course) and grading_process.poll() is None:
            assert time.monotonic() < end, "No result came."
            time.sleep(0.1)
        os.killpg(lost.pid, signal.SIGKILL)
        assert grading_process.wait(120) == 0
    assert sorted(results(course)) == STUDENTS

    here = Path(shutil.copytree(course, tmp_path / "here"))
    shutil.rmtree(here / "results")
    list(pool.judge_class(here, ID, STUDENTS))
    assert results(course) == results(here)


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("tcp://grader.example:8786", "not encrypted"),
        ("grader.example:8786", "not encrypted"),
        ("tcp://10.0.0.1:8786", "not encrypted"),
        ("tcp://127.0.0.1:1", "no scheduler"),
    ],
)
def test_bad_addresses(
    address: str, sentence: str, course: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autograder.classroom.cluster._PATIENCE", "1s")
    with pytest.raises(ClusterError, match=sentence):
        list(judge_on_cluster(course, ID, STUDENTS, scheduler=address, min_level=0))
    assert results(course) == {}


@pytest.mark.long
@pytest.mark.timeout(240)
def test_slow_ones_come_last(course: Path) -> None:
    """What runs out of time beside others is judged once more, after them."""
    endless = solved(load_master(ID), {"choices": "while True: pass"})
    save_notebook(endless, course / "submitted" / "slow" / ID, ID)
    address = f"tcp://127.0.0.1:{free_port()}"
    scheduler = ["dask", "scheduler", "--host", "127.0.0.1", "--port", address.rpartition(":")[2]]
    worker = ["dask", "worker", address, "--no-nanny", "--nthreads", "1", "--no-dashboard"]
    with running(*scheduler, "--no-dashboard", env={}), running(*worker, env={}):
        students = ["slow", *STUDENTS[:2]]
        judged = list(judge_on_cluster(course, ID, students, scheduler=address, min_level=0))
    assert [result.student for result in judged] == [*STUDENTS[:2], "slow"]
    assert pool.ran_out_of_time(judged[-1])
    assert set(results(course)) == {"slow", *STUDENTS[:2]}
