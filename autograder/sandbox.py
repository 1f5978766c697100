"""Starts an untrusted process with nothing to steal and nothing to break.

Level 2 is bubblewrap: namespaces of its own for users, processes, network and files; an
unprivileged uid; a read-only file system that holds a Python, its packages, the kit without its
data sets, and two files of the grader. Level 0 is a plain child process with resource limits: for
practice on machines without bubblewrap, never for marks. Standard library only.
"""

from __future__ import annotations

import atexit
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

_AUTOGRADER = Path(__file__).resolve().parent
_HELPERS = _AUTOGRADER.parent / "helpers"
#: All that the sandbox sees of this package.
_VISIBLE = ("__init__.py", "worker.py", "protocol.py")
#: Where the programs that set up level 2 are, on the outside.
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: Set to 1 to see what a sandboxed process prints.
_DEBUG = "LATENT_LAB_DEBUG"


class SandboxError(Exception):
    """The sandbox did not start: the machine's fault or ours, never a student's."""


@dataclass(frozen=True)
class Limits:
    """What one sandboxed process may use."""

    #: Address space, in bytes. A CUDA build of torch needs 3.8 GiB of it before it does anything.
    memory: int = 6 * 2**30
    #: Processes and threads together. DataLoader workers fit in; a fork bomb does not get far.
    processes: int = 128
    #: The largest file, in bytes; /tmp holds no more either.
    file: int = 64 * 2**20
    #: Processor time, in seconds. Above every deadline: it ends what slipped through.
    cpu: int = 600
    #: Open files.
    files: int = 256


#: Runs first inside, before any code that is not ours: limits, then the search path. Python is
#: started without its site module (-S), which would add the packages of another installation.
#: The kernel's session keyring is inherited, and would be a letter box between two sandboxes: the
#: system call is keyctl(KEYCTL_JOIN_SESSION_KEYRING, NULL), which starts a new one.
_BOOTSTRAP = """
import ctypes, json, os, resource, sys
limits, fd, path = json.loads(sys.argv[1])
keyctl = {"x86_64": 250, "aarch64": 219}.get(os.uname().machine)
if sys.platform == "linux" and keyctl:
    ctypes.CDLL(None).syscall(keyctl, 1, None)
try:
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")  # when the machine's memory runs out, this goes first
except OSError:
    pass
for name, value in limits.items():
    resource.setrlimit(getattr(resource, name), (value, value))
sys.path[:] = path[:1] + sys.path + path[1:]
"""
_RUN_WORKER = "from autograder.worker import main; main(fd)"

#: As root: bring the folders to where an unprivileged uid can reach them, in a mount namespace of
#: our own, and drop to that uid for good before bubblewrap starts. It is one chain of exec, so that
#: killing its pid kills all. Arguments: stage, uid, number of folders, the folders, the command.
_STAGE = """
set -e
stage=$1 uid=$2 count=$3; shift 3
mount -t tmpfs -o size=1m,mode=0755 tmpfs "$stage"
i=0
while [ "$i" -lt "$count" ]; do
    if [ -d "$1" ]; then mkdir "$stage/$i"; else : > "$stage/$i"; fi
    mount --bind "$1" "$stage/$i"
    i=$((i + 1)); shift
done
exec setpriv --reuid "$uid" --regid "$uid" --clear-groups --inh-caps=-all --bounding-set=-all \\
    --no-new-privs "$@"
"""


class Process:
    """A sandboxed process and our end of the socket to it."""

    def __init__(self, popen: subprocess.Popen[bytes], sock: socket.socket) -> None:
        self._popen = popen
        self.socket = sock
        self._killed = False

    @property
    def pid(self) -> int:
        """Process id of the outermost process."""
        return self._popen.pid

    def wait(self, timeout: float | None = None) -> int:
        """Exit status, 128 + n for a death by signal n. Raises subprocess.TimeoutExpired."""
        status = self._popen.wait(timeout)
        return status if status >= 0 else 128 - status

    @property
    def died_of_memory(self) -> bool:
        """Whether the kernel killed it, which it does when memory runs out."""
        return not self._killed and self._popen.poll() in (-signal.SIGKILL, 128 + signal.SIGKILL)

    def kill(self) -> None:
        """Kill it and all that it started. At level 2 the kernel sees to that, whatever it did."""
        # A process that has just broken off is given a moment, so that its own end is seen.
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(0.05)
        self._killed = self._popen.poll() is None
        with suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait()
        self.socket.close()

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def start(
    *,
    standin: Path | None = None,
    limits: Limits | None = None,
    level: int | None = None,
    code: str = _RUN_WORKER,
) -> Process:
    """Start a sandboxed Python.

    Args:
        standin: a folder that is mounted as the data set; without it there is none.
        level: 2 or 0; by default the best that works here.
        code: what it runs; ``fd`` is its end of the socket.

    Raises:
        SandboxError: if it cannot be started.
    """
    level = isolation_level() if level is None else level
    ours, theirs = socket.socketpair()
    limits = limits or Limits()
    if level >= 2:
        command = _bubblewrap(limits, code, theirs.fileno(), standin)
        environment, cwd = {"PATH": _PATH}, "/"
    else:
        command, environment = _plain(limits, code, theirs.fileno(), standin)
        cwd = tempfile.gettempdir()
    output = None if os.environ.get(_DEBUG) else subprocess.DEVNULL
    try:
        popen = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            cwd=cwd,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
    except OSError as error:
        ours.close()
        raise SandboxError(f"The sandbox cannot be started: {error}.") from error
    finally:
        theirs.close()
    return Process(popen, ours)


@cache
def isolation_level() -> int:
    """The best level that really holds on this machine, found by trying to break out of it."""
    if shutil.which("bwrap") is None:
        return 0
    try:
        return 2 if _canary_is_caged() else 0
    except SandboxError:
        return 0


def describe(level: int) -> str:
    """One sentence for people."""
    if level >= 2:
        return "level 2: bubblewrap, no network, read-only files, limited memory and processes"
    return (
        f"level {level}: NO SANDBOX (bubblewrap is missing or does not work here). Student code "
        "can read and change your files: for practice scores, never for marks"
    )


def _canary_is_caged() -> bool:
    """Start a process that tries what student code must not be able to do."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        canary = f"""
import os, socket
def works(function, *args):
    try:
        function(*args)
    except OSError:
        return 0
    return 1
escapes = [
    works(socket.create_connection, {listener.getsockname()!r}, 1),
    works(os.listdir, {str(_AUTOGRADER / "checks")!r}),
    works(os.listdir, "/opt/kit/autograder/checks"),
    works(open, "/etc/shadow"),
    works(open, "/opt/kit/helpers/check.py", "a"),
    int(os.getuid() == 0 or os.getpid() != 1 or len(os.listdir("/proc/self/task")) < 1),
]
socket.socket(fileno=fd).sendall(bytes(escapes))
"""
        with start(level=2, code=canary) as process:
            process.socket.settimeout(20)
            try:
                return process.socket.recv(64) == bytes(6)
            except OSError:
                return False


def _bubblewrap(limits: Limits, code: str, fd: int, standin: Path | None) -> list[str]:
    """The command of level 2."""
    python, executable = Path(sys.base_prefix), Path(os.path.realpath(sys.executable))
    site = Path(sysconfig.get_paths()["purelib"])
    mounts: dict[str, Path] = {
        "/opt/site": site,
        "/opt/kit/helpers": _HELPERS,
        **{f"/opt/kit/autograder/{name}": _AUTOGRADER / name for name in _VISIBLE},
    }
    inside = str(executable)
    if python == Path("/usr"):
        mounts[inside] = executable
    else:
        mounts["/opt/python"] = python
        inside = f"/opt/python/{executable.relative_to(python.resolve())}"
    if standin is not None:
        mounts["/opt/data"] = standin
    sources = [source for source in mounts.values() if source.exists()]
    mounts = {where: source for where, source in mounts.items() if source.exists()}

    wrap: list[str] = []
    if os.geteuid() == 0:
        stage = _stage_folder()
        uid = str(200_000 + secrets.randbelow(100_000))  # fresh: a dying fork bomb is its own
        mounts = {where: stage / str(n) for n, where in enumerate(mounts)}
        wrap = ["unshare", "--mount", "--propagation", "private", "--", "sh", "-c", _STAGE, "sh"]
        wrap += [str(stage), uid, str(len(sources)), *map(str, sources)]
    masked = ["/opt/kit/helpers/datasets"] if (_HELPERS / "datasets").is_dir() else []
    # Where this package is installed and not a checkout, site-packages would show all of it.
    masked += [f"/opt/site/{name}" for name in ("autograder", "helpers") if (site / name).is_dir()]
    return [
        *wrap,
        *("bwrap", "--unshare-all", "--unshare-user", "--disable-userns", "--as-pid-1"),
        *("--die-with-parent", "--new-session", "--clearenv", "--cap-drop", "ALL"),
        *("--hostname", "sandbox", "--perms", "0755", "--dir", "/opt"),
        *_system_libraries(),
        *_flatten(("--ro-bind", str(source), where) for where, source in mounts.items()),
        *_flatten(("--tmpfs", where, "--remount-ro", where) for where in masked),
        *("--dev", "/dev", "--size", str(32 * 2**20), "--tmpfs", "/dev/shm"),
        *("--remount-ro", "/dev", "--proc", "/proc"),
        *("--size", str(limits.file), "--tmpfs", "/tmp", "--chdir", "/tmp"),
        *("--remount-ro", "/"),
        *_flatten(("--setenv", key, value) for key, value in _environment("/opt/data").items()),
        *("--setenv", "LD_LIBRARY_PATH", "/opt/python/lib"),
        *("--", inside, "-I", "-S", "-c", _BOOTSTRAP + code),
        _arguments(limits, fd, ["/opt/kit", "/opt/site"], own_uid=True),
    ]


def _plain(
    limits: Limits, code: str, fd: int, standin: Path | None
) -> tuple[list[str], dict[str, str]]:
    """The command and environment of level 0."""
    path = [str(_AUTOGRADER.parent), sysconfig.get_paths()["purelib"]]
    arguments = _arguments(limits, fd, path, own_uid=False)
    environment = _environment(str(standin or "/nonexistent"))
    return [sys.executable, "-I", "-S", "-c", _BOOTSTRAP + code, arguments], environment


def _arguments(limits: Limits, fd: int, path: list[str], *, own_uid: bool) -> str:
    """What the bootstrap is told."""
    names = {
        "memory": "RLIMIT_AS",
        "file": "RLIMIT_FSIZE",
        "cpu": "RLIMIT_CPU",
        "files": "RLIMIT_NOFILE",
    }
    if own_uid:  # it counts all processes of the uid: elsewhere that would be the whole desktop
        names["processes"] = "RLIMIT_NPROC"
    values = {names[key]: value for key, value in asdict(limits).items() if key in names}
    return json.dumps([{**values, "RLIMIT_CORE": 0}, fd, path])


def _environment(data: str) -> dict[str, str]:
    """All that the environment holds."""
    return {
        "HOME": "/tmp",
        "LANG": "C.UTF-8",
        "LATENT_LAB_WORKER": "1",
        "LATENT_LAB_DATA": data,
        "MPLBACKEND": "Agg",
        # One thread, and waiting without spinning: two threads a worker beside another busy worker
        # are slower by two orders of magnitude.
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "passive",
    }


def _system_libraries() -> list[str]:
    """The C library and its kin, where the dynamic linker looks for them."""
    arguments: list[str] = []
    for name in ("lib", "lib64"):
        if Path(f"/usr/{name}").is_dir():
            arguments += ["--ro-bind", f"/usr/{name}", f"/usr/{name}"]
        if Path(f"/{name}").is_symlink():
            arguments += ["--symlink", f"usr/{name}", f"/{name}"]
        elif Path(f"/{name}").is_dir():
            arguments += ["--ro-bind", f"/{name}", f"/{name}"]
    if Path("/etc/ld.so.cache").is_file():
        arguments += ["--ro-bind", "/etc/ld.so.cache", "/etc/ld.so.cache"]
    return arguments


@cache
def _stage_folder() -> Path:
    """An empty folder, on which each start mounts what it needs in a namespace of its own."""
    folder = Path(tempfile.mkdtemp(prefix="latent-lab-stage-", dir="/tmp"))
    folder.chmod(0o755)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _flatten(groups: Iterable[tuple[str, ...]]) -> list[str]:
    return [item for group in groups for item in group]
