"""The sandbox from within: what code that wants out can see, reach, keep and leave behind."""

import ctypes
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from autograder import ROOT, sandbox
from autograder.judging import standin_folder
from autograder.sandbox import Limits, Process, cgroup, launch, process
from autograder.sandbox.command import INSIDE
from autograder.sandbox.forking import ForkServer
from autograder.sandbox.inside import hardening
from autograder.sandbox.process import ForkedProcess

SYSTEM_PYTHON = Path("/usr/bin/python3.11")

needs_bubblewrap = pytest.mark.skipif(
    shutil.which("bwrap") is None, reason="bubblewrap is not installed: there is no level 2"
)

#: Every snippet ends with its `reply`.
_BEGIN = """
import ctypes, json, os, socket, sys, time
sock = socket.socket(fileno=fd)
reply = None
def tried(function, *args):
    try:
        function(*args)
    except OSError as error:
        return False
    return True
"""
_END = "\nsock.sendall(json.dumps(reply).encode())\n"

ENDLESS = "while True: pass"
FORK_BOMB = """
while True:
    try:
        os.fork()
    except OSError:
        pass
"""


def begin(code: str, **options: Any) -> Process:
    # Forked ones have no command line of their own, so a marker is made their name, too.
    marked = re.search("marker-[0-9a-f]+", code)
    name = f"ctypes.CDLL(None).prctl(15, b'{marked[0][:15]}')\n" if marked else ""
    return sandbox.start(code=_BEGIN + name + code + _END, **{"level": 2, **options})


def answer(process: Process, seconds: float = 20) -> Any:
    """A snippet's reply; None if it ended without one."""
    process.socket.settimeout(seconds)
    data = b""
    while piece := process.socket.recv(2**16):
        data += piece
    return json.loads(data or b"null")


def run(code: str, **options: Any) -> Any:
    with begin(code, **options) as process:
        return answer(process)


def alive(marker: str) -> int:
    """How many processes of this machine carry a marker in their command line or their name."""
    count = 0
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (folder / "cmdline").read_bytes() + (folder / "comm").read_bytes()
            count += marker.encode() in words or marker[:15].encode() in words
    return count


def memory_beyond_the_start(n_bytes: int) -> Limits:
    """Limits that leave some bytes of address space to what is loaded when a process starts."""
    taken = run("reply = int(open('/proc/self/statm').read().split()[0]) * os.sysconf(30)")
    return Limits(memory=taken + n_bytes)


def is_gone(marker: str, seconds: float = 5) -> bool:
    """Whether no process with a marker is left; a fork bomb needs a second to drain."""
    end = time.monotonic() + seconds
    while alive(marker) and time.monotonic() < end:
        time.sleep(0.05)
    return alive(marker) == 0


def wait_for(condition: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "It did not come to pass."
        time.sleep(0.02)


@pytest.fixture
def marker() -> str:
    return f"marker-{secrets.token_hex(8)}"


@pytest.fixture(params=["forked", "started afresh"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The two ways to start a process at level 2."""
    if request.param == "started afresh":
        monkeypatch.setattr(launch, "_forkserver", lambda standin: None)
    return str(request.param)


pytestmark = pytest.mark.timeout(60)


@needs_bubblewrap
def test_a_fork_server_works_here() -> None:
    with sandbox.start(level=2, code="pass") as process:
        assert isinstance(process, ForkedProcess)


@needs_bubblewrap
@pytest.mark.usefixtures("kind")
class TestReach:
    """What a sandboxed process can see and touch."""

    def test_canary_finds_the_level(self) -> None:
        assert sandbox.isolation_level() == (3 if cgroup.entrances() else 2)

    def test_network(self, marker: str) -> None:
        with (
            socket.create_server(("127.0.0.1", 0)) as tcp,
            socket.socket(socket.AF_UNIX) as abstract,
        ):
            abstract.bind(f"\0{marker}")
            abstract.listen()
            code = f"""
reply = [
    tried(socket.create_connection, ("127.0.0.1", {tcp.getsockname()[1]}), 1),
    tried(socket.create_connection, ("1.1.1.1", 53), 1),
    tried(socket.socket(socket.AF_UNIX).connect, "\\0{marker}"),
    tried(socket.socket, socket.AF_INET),
    [line.split(":")[0].strip() for line in open("/proc/net/dev").readlines()[2:]],
]
"""
            assert run(code) == [False, False, False, False, ["lo"]]

    def test_files_of_the_host(self) -> None:
        private = [ROOT, ROOT / "solutions", ROOT / "autograder", ROOT / ".git"]
        private += [Path("/root"), Path("/home"), Path("/work")]
        private += [Path("/etc/shadow"), Path("/etc/passwd"), Path("/var"), Path("/run")]
        private += [Path("/opt/kit/solutions"), Path("/opt/kit/autograder")]
        private += [Path("/proc/1/root") / ROOT]
        code = f"reply = [path for path in {list(map(str, private))} if os.path.lexists(path)]"
        assert run(code) == []

    def test_files_of_the_kit(self) -> None:
        files = run("""
reply = [os.path.join(f, n) for f, _, ns in os.walk("/opt/kit") for n in ns if n.endswith(".py")]
""")
        inside = {Path("/opt/kit/inside", file.name) for file in INSIDE.glob("*.py")}
        assert {Path(f) for f in files if not f.startswith("/opt/kit/helpers/")} == inside
        assert any(f.startswith("/opt/kit/helpers/checks/") for f in files)
        # Nor may an installed copy of the grader lie among the packages.
        assert run("reply = os.path.exists('/opt/site/autograder')") is False

    def test_secrets_of_the_launcher(self, monkeypatch: pytest.MonkeyPatch, marker: str) -> None:
        monkeypatch.setenv("LATENT_LAB_SECRET", marker)
        code = f"""
found = []
for folder in os.listdir("/proc"):
    for name in ("environ", "cmdline", "mountinfo", "maps"):
        try:
            found.append(open(f"/proc/{{folder}}/{{name}}", "rb").read().decode(errors="replace"))
        except OSError:
            pass
text = "".join(found)
processes = [p for p in os.listdir("/proc") if p.isdigit()]
reply = [processes, "{marker[::-1]}"[::-1] in text, sorted(os.environ)]
"""
        processes, leaked, names = run(code)
        assert processes == ["1"]
        assert not leaked
        assert not [n for n in names if "SECRET" in n or n == "PATH"]

    def test_standin_takes_the_place_of_the_data(self) -> None:
        code = """
folders = "/opt/kit/helpers/data/files", os.environ["LATENT_LAB_DATA"]
reply = [sum(len(files) for _, _, files in os.walk(folder)) for folder in folders]
"""
        assert run(code) == [0, 0]
        hidden, shown = run(code, standin=standin_folder())
        assert hidden == 0
        assert shown > 0

    def test_writing(self) -> None:
        folders = ["/", "/dev", "/etc", "/opt", "/opt/data", "/opt/kit/helpers", "/opt/site"]
        folders += [
            "/opt/kit/helpers/data/files",
            "/opt/python/lib",
            "/usr/lib",
            "/tmp",
            "/dev/shm",
        ]
        code = f"reply = [f for f in {folders} if tried(open, f + '/new-file', 'w')]"
        assert run(code, standin=standin_folder()) == ["/tmp", "/dev/shm"]
        assert run("reply = tried(open, '/proc/sys/kernel/hostname', 'w')") is False
        assert run("reply = tried(open, '/opt/kit/helpers/budget.py', 'a')") is False

    @pytest.mark.parametrize(("folder", "megabytes"), [("/tmp", 64), ("/dev/shm", 32)])
    def test_writing_is_bounded(self, folder: str, megabytes: int) -> None:
        code = f"""
piece, reply = bytes(2**20), 0
try:
    for number in range(200):
        with open(f"{folder}/{{number}}", "wb", buffering=0) as file:
            reply += file.write(piece)
except OSError:
    pass
"""
        written = run(code)
        assert 1 <= written / 2**20 <= megabytes

    def test_nothing_to_gain_by_privilege(self) -> None:
        code = """
libc = ctypes.CDLL(None)
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
reply = [
    os.getuid() == 0,
    int(status["CapEff"], 16) | int(status["CapBnd"], 16),
    int(status["NoNewPrivs"]),
    libc.unshare(0x10000000),  # a user namespace
    libc.mount(b"tmpfs", b"/tmp", b"tmpfs", 0, None),
    tried(os.setuid, 0),
    tried(os.kill, -1, 0),
]
"""
        assert run(code) == [False, 0, 1, -1, -1, False, False]

    def test_system_calls_that_no_notebook_needs(self) -> None:
        code = """
libc = ctypes.CDLL(None, use_errno=True)
refused = []
for call in (("ptrace", 0, 0, 0, 0), ("memfd_create", b"x", 0), ("unshare", 0),
             ("setns", 0, 0), ("personality", 0), ("chroot", b"/"), ("umount2", b"/tmp", 0)):
    refused.append(getattr(libc, call[0])(*call[1:]) == -1 and ctypes.get_errno() == 1)
allowed = [tried(os.getpid), tried(os.pipe), tried(socket.socketpair)]
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
reply = [refused, allowed, status["Seccomp"].strip()]
"""
        assert run(code) == [[True] * 7, [True] * 3, "2"]

    def test_nothing_is_left_for_the_next_process(self, marker: str) -> None:
        write = f"open('/tmp/left', 'w').write('x'); open('/dev/shm/{marker}', 'w').write('x')"
        run(write)
        assert run("reply = os.listdir('/tmp') + os.listdir('/dev/shm')") == []

    @pytest.mark.parametrize("keyring", [-3, -4], ids=["session", "user"])
    def test_keyring_of_the_kernel_is_no_letter_box(self, keyring: int, marker: str) -> None:
        numbers = {"x86_64": (248, 249, 250), "aarch64": (217, 218, 219)}
        add_key, request_key, keyctl = numbers.get(os.uname().machine, (0, 0, 0))
        # A session keyring is inherited: this process gets one, as a desktop's log-in gives.
        if not keyctl or ctypes.CDLL(None).syscall(keyctl, 1, None) < 0:
            pytest.skip("no kernel keyrings here")
        call = "reply = ctypes.CDLL(None).syscall"
        assert run(f'{call}({add_key}, b"user", b"{marker}", b"images", 6, {keyring})') < 0
        assert run(f'{call}({request_key}, b"user", b"{marker}", None, 0)') < 0


@needs_bubblewrap
@pytest.mark.usefixtures("kind")
class TestBounds:
    """What a sandboxed process can use up, and what it leaves."""

    @pytest.fixture(autouse=True)
    def neighbour(self) -> Iterator[None]:
        """After every hostile process, an honest one must do its work."""
        yield
        assert run("reply = sum(range(10))") == 45

    def test_memory(self) -> None:
        code = """
pieces = []
try:
    while True:
        pieces.append(bytearray(b"x" * 10**7))
except MemoryError:
    reply = len(pieces)
    pieces.clear()
"""
        # 53 pieces fit; a few more where imports left free space behind.
        assert 10 < run(code, limits=memory_beyond_the_start(2**29)) < 70

    def test_memory_of_many_together(self, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Each within its own limit; together, and with what they put into /tmp, beyond theirs."""
        doors = cgroup.entrances(memory=3 * 2**29)
        if not doors:
            pytest.skip("no control group can be made here")
        monkeypatch.setattr(cgroup, "entrances", lambda: doors)
        if kind == "forked":
            server = ForkServer(None)
            monkeypatch.setattr(launch, "_forkserver", lambda standin: server)
        code = """
open("/tmp/full", "wb").write(bytes(60 * 2**20))
for _ in range(8):
    if os.fork() == 0:
        taken = b"x" * 2**28
        time.sleep(60)
time.sleep(0.1)
reply = os.waitstatus_to_exitcode(os.wait()[1])
"""
        assert run(code) in (-9, None)  # one of them was killed, or all
        assert run("reply = 'still here'") == "still here"

    def test_kernel_prefers_it_when_memory_runs_out(self) -> None:
        assert run("reply = int(open('/proc/self/oom_score_adj').read())") == 1000

    def test_fork_bomb(self, marker: str) -> None:
        code = f"'{marker}'\n{FORK_BOMB}"
        with begin(code, limits=Limits(processes=24)) as process:
            wait_for(lambda: alive(marker) >= 20)
            assert alive(marker) <= 24 + 8  # with those outside that started it
            assert run("reply = 1") == 1
            process.kill()
        assert is_gone(marker)

    def test_threads_count_as_processes(self) -> None:
        code = """
import threading
reply = 0
try:
    while reply < 100:
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
        reply += 1
except RuntimeError:
    pass
"""
        assert run(code, limits=Limits(processes=24)) < 24

    def test_endless_loop(self, marker: str) -> None:
        with begin(f"'{marker}'\nsock.sendall(b'1')\n{ENDLESS}") as process:
            assert process.socket.recv(1) == b"1"
            start = time.monotonic()
            process.kill()
            assert time.monotonic() - start < 2
        assert is_gone(marker)

    def test_processor_time(self) -> None:
        with begin(ENDLESS, limits=Limits(cpu=1)) as process:
            assert process.wait(20) == 128 + 9

    @pytest.mark.parametrize("ends", ["killed", "by itself"])
    def test_daemon(self, marker: str, ends: str) -> None:
        code = f"""
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execv(sys.executable, [sys.executable, "-c", "import time; time.sleep(99)", "{marker}"])
    os._exit(0)
time.sleep(0.3)
"""
        code += "\n" if ends == "by itself" else f"sock.sendall(b'1')\n{ENDLESS}"
        with begin(code) as process:
            process.socket.settimeout(20)
            process.socket.recv(1)
        assert is_gone(marker)

    def test_much_is_printed(self) -> None:
        code = """
for file in (1, 2):
    for _ in range(100):
        os.write(file, bytes(2**20))
reply = sys.stdin.read()
"""
        assert run(code) == ""

    @pytest.mark.parametrize(
        ("code", "status"),
        [
            ("pass", 0),
            ("os._exit(7)", 7),
            ("sys.exit(3)", 3),
            ("raise ValueError", 1),
            ("ctypes.string_at(0)", 128 + 11),
        ],
    )
    def test_exit_status(self, code: str, status: int) -> None:
        with begin(code) as process:
            assert process.wait(20) == status
            process.kill()
            assert not process.died_of_memory

    def test_honest_process_between_hostile_ones(self, marker: str) -> None:
        with (
            begin(f"'{marker}'\n{FORK_BOMB}", limits=Limits(processes=8)),
            begin("reply = sum(range(10))") as honest,
            begin(f"'{marker}'\nbytes(10**9)\n{ENDLESS}", limits=memory_beyond_the_start(2**29)),
        ):
            assert answer(honest) == 45
            assert honest.wait(20) == 0
        assert is_gone(marker)


@pytest.mark.skipif(hardening.landlock_version() < 1, reason="this kernel has no Landlock")
class TestLevel1:
    """Without bubblewrap, behind Landlock and seccomp: nothing to read, nowhere to write to."""

    def test_is_found_and_said(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(shutil, "which", lambda name: None)
        assert sandbox.isolation_level.__wrapped__() == 1
        assert "Landlock" in sandbox.describe(1)
        assert "not for marks" in sandbox.describe(1)

    def test_files(self, tmp_path: Path) -> None:
        (tmp_path / "secret").write_text("secret")
        closed = [
            str(tmp_path / "secret"),
            str(ROOT / "autograder" / "judging" / "checks" / "d1_autoencoder.py"),
            str(ROOT / "autograder" / "judging" / "judge.py"),
            str(ROOT / "solutions" / "d1_autoencoder.py"),
            str(
                ROOT / "helpers" / "data" / "files" / "MNIST" / "raw" / "t10k-labels-idx1-ubyte.gz"
            ),
            "/etc/passwd",
            f"/proc/{os.getpid()}/environ",
            "/proc/self/environ",
        ]
        opened = run(f"reply = [p for p in {closed} if tried(open, p, 'rb')]", level=1)
        assert opened == []
        code = (
            "import helpers.checks.d1_autoencoder, helpers.genpic; reply = helpers.genpic.__name__"
        )
        assert run(code, level=1) == "helpers.genpic"

    def test_writing(self, tmp_path: Path) -> None:
        places = [str(tmp_path / "new"), "/tmp/new", "/dev/shm/new", str(ROOT / "helpers" / "new")]
        assert run(f"reply = [p for p in {places} if tried(open, p, 'w')]", level=1) == []
        code = "open('mine', 'w').write('x'); reply = [os.getcwd(), os.listdir()]"
        folder, found = run(code, level=1)
        assert found == ["mine"]
        assert not Path(folder).exists()

    def test_network(self, marker: str) -> None:
        with socket.socket(socket.AF_UNIX) as abstract:
            abstract.bind(f"\0{marker}")
            abstract.listen()
            code = f"""
reply = [
    tried(socket.socket, family, kind)
    for family in (socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK, socket.AF_PACKET)
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM)
]
unix = socket.socket(socket.AF_UNIX)
reply.append(tried(unix.connect, "\\0{marker}"))
"""
            found = run(code, level=1)
        scopes = hardening.landlock_version() >= 6  # older ones do not know abstract sockets
        assert found == [False] * 8 + [not scopes]

    def test_signals_outwards(self) -> None:
        if hardening.landlock_version() < 6:
            pytest.skip("this kernel's Landlock does not know signals")
        assert run(f"reply = tried(os.kill, {os.getpid()}, 0)", level=1) is False

    @pytest.mark.parametrize("keyring", [-3, -4], ids=["session", "user"])
    def test_keyrings(self, keyring: int, marker: str) -> None:
        number = {"x86_64": 248, "aarch64": 217}.get(os.uname().machine, 0)
        call = f'ctypes.CDLL(None).syscall({number}, b"user", b"{marker}", b"x", 1, {keyring})'
        assert run(f"reply = {call}", level=1) == -1

    def test_bounds(self, marker: str) -> None:
        code = "try:\n    bytes(10**9)\nexcept MemoryError:\n    reply = 'none left'"
        assert run(code, level=1, limits=Limits(memory=2**29)) == "none left"
        with begin(f"'{marker}'\nsock.sendall(b'1')\n{ENDLESS}", level=1) as process:
            assert process.socket.recv(1) == b"1"
        assert is_gone(marker)


class TestLevel0:
    """Without bubblewrap and Landlock: accidents only."""

    def test_is_found_and_said(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(shutil, "which", lambda name: None)
        monkeypatch.setattr(launch, "is_caged", lambda start, alone: False)
        assert sandbox.isolation_level.__wrapped__() == 0
        assert "NO SANDBOX" in sandbox.describe(0)
        assert "never for marks" in sandbox.describe(0)

    def test_honest_snippet(self) -> None:
        assert run("reply = sum(range(10))", level=0) == 45

    def test_environment_is_not_inherited(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LATENT_LAB_SECRET", "secret")
        assert run("reply = 'LATENT_LAB_SECRET' in os.environ", level=0) is False

    def test_kill(self, marker: str) -> None:
        code = f"'{marker}'\nos.fork()\nsock.sendall(b'1')\n{ENDLESS}"
        with begin(code, level=0) as process:
            assert process.socket.recv(1) == b"1"
        assert is_gone(marker)

    def test_memory(self) -> None:
        code = "try:\n    bytes(10**9)\nexcept MemoryError:\n    reply = 'none left'"
        assert run(code, level=0, limits=Limits(memory=2**29)) == "none left"


@needs_bubblewrap
@pytest.mark.skipif(os.geteuid() != 0, reason="the other tests run as an ordinary user already")
@pytest.mark.skipif(not SYSTEM_PYTHON.exists(), reason=f"there is no {SYSTEM_PYTHON}")
def test_ordinary_user(marker: str) -> None:
    """Where root runs the tests, those above run as root: an ordinary user gets level 2 too."""
    inside = (
        _BEGIN
        + "reply = [os.getuid() == 0, os.getpid(), os.listdir('/proc/1/task'), os.listdir('/tmp'), "
        + "os.path.exists('/root'), "
        + "open('/proc/1/environ').read().count('SECRET')]"
        + _END
    )
    outside = f"""
import sys, time
sys.path.insert(0, sys.argv[1])
from autograder import sandbox
assert sandbox.isolation_level() == 2
with sandbox.start(code={inside!r}) as process:
    print(process.socket.recv(65536).decode())
with sandbox.start(code={f"'{marker}'" + FORK_BOMB!r}) as process:
    time.sleep(0.3)
"""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        for package in ("autograder", "helpers"):
            (folder / package).mkdir(mode=0o755)
            shutil.copy(ROOT / package / "__init__.py", folder / package)
        shutil.copytree(ROOT / "autograder" / "sandbox", folder / "autograder" / "sandbox")
        drop = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        done = subprocess.run(
            [*drop, str(SYSTEM_PYTHON), "-B", "-c", outside, name],
            env={"PATH": os.environ["PATH"], "SECRET": marker},
            cwd="/",
            capture_output=True,
            text=True,
            timeout=30,
        )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [False, 1, ["1"], [], False, 0]
    assert is_gone(marker)


def test_killed_twice_while_its_keeper_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fork bomb can take longer to clear away than the judge waits for it."""
    monkeypatch.setattr(process, "_CLEARING_SECONDS", 0.1)
    (ours, theirs), (life, keeper) = socket.socketpair(), socket.socketpair()
    with theirs, keeper:
        forked = ForkedProcess(ours, life)
        forked.kill()
        forked.kill()
        assert forked.wait(0) == 128 + signal.SIGKILL
