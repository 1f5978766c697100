"""Starts an untrusted process with nothing to steal and nothing to break.

Level 2 is bubblewrap: namespaces of its own for users, processes, network and files; an
unprivileged uid; a read-only file system that holds a Python, its packages, the kit without its
data sets, and a few files of the grader. Most of a start is importing torch, so that is done
once: a nursery inside such a sandbox forks the processes, each into namespaces of its own. Level 3
is the same with a control group around it, which limits all memory together. Level 1
is a child process behind Landlock and seccomp, level 0 one with resource limits alone: for practice
on machines without bubblewrap, never for marks. Standard library only.
"""

from __future__ import annotations

import atexit
import json
import os
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import sys
import sysconfig
import tempfile
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache, lru_cache, partial
from pathlib import Path

from autograder import cgroup, walls

_AUTOGRADER = Path(__file__).resolve().parent
_HELPERS = _AUTOGRADER.parent / "helpers"
#: All that the sandbox sees of this package.
_VISIBLE = ("__init__.py", "nursery.py", "protocol.py", "walls.py", "worker.py")
#: What Landlock leaves open inside bubblewrap, behind whose walls it stands.
_INSIDE = {"readable": ["/"], "writable": ["/tmp", "/dev"]}
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


#: Runs first inside, before any code that is not ours: search path, limits, walls. Python is
#: started without its site module (-S), which would add the packages of another installation.
_BOOTSTRAP = """
import importlib.util, json, resource, sys
limits, fd, path, beneath = json.loads(sys.argv[1])
sys.path[:] = path[:1] + sys.path + path[1:]
for name, value in limits.items():
    resource.setrlimit(getattr(resource, name), (value, value))
if beneath is not None:
    from autograder import walls
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")  # when the machine's memory runs out, this goes first
    except OSError:
        pass
    walls.leave_keyring()
    if beneath:
        # The import system lists a folder once; behind the walls it cannot, where it may not read
        # all that is beneath.
        importlib.util.find_spec("helpers.check")
        walls.landlock(**beneath)
        walls.seccomp()
"""
_RUN_WORKER = "from autograder.worker import serve; serve(fd)"
_RUN_NURSERY = "from autograder.nursery import main; main(fd)"
_NURSERY_SECONDS = 60.0
#: How long to wait until everything in a killed sandbox is gone.
_CLEARING_SECONDS = 10.0

#: As root: bring the folders to where an unprivileged uid can reach them, in a mount namespace of
#: our own, and drop to that uid for good before bubblewrap starts. It is one chain of exec, so that
#: killing its pid kills all. Arguments: files to write the pid to (in one, separated by blanks),
#: stage, uid, number of folders, the folders, the command.
_STAGE = """
set -e
for entrance in $1; do echo $$ > "$entrance"; done
stage=$2 uid=$3 count=$4; shift 4
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


class Process(ABC):
    """A sandboxed process and our end of the socket to it."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self._killed = False

    @abstractmethod
    def wait(self, timeout: float | None = None) -> int:
        """Exit status, 128 + n for a death by signal n. Raises TimeoutError."""

    @abstractmethod
    def _end(self) -> None:
        """Kill it and all that it started, and wait for that."""

    @property
    def died_of_memory(self) -> bool:
        """Whether the kernel killed it, which it does when memory runs out."""
        return not self._killed and self._ended(0) == 128 + signal.SIGKILL

    def kill(self) -> None:
        """Kill it and all that it started. At level 2 the kernel sees to that, whatever it did."""
        # A process that has just broken off is given a moment, so that its own end is seen.
        self._killed = self._ended(0.05) is None or self._killed
        self._end()
        self.socket.close()

    def _ended(self, timeout: float) -> int | None:
        """The exit status, or None if it lives."""
        try:
            return self.wait(timeout)
        except TimeoutError:
            return None

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


class Child(Process):
    """One that is a child of ours."""

    def __init__(
        self, popen: subprocess.Popen[bytes], sock: socket.socket, folder: Path | None = None
    ) -> None:
        super().__init__(sock)
        self._popen = popen
        self._folder = folder  # of its own; removed with it

    def wait(self, timeout: float | None = None) -> int:
        try:
            status = self._popen.wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise TimeoutError from error
        return status if status >= 0 else 128 - status

    def _end(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


class Nursling(Process):
    """One that a nursery forked: its keeper tells how it ended, and kills it when we hang up."""

    def __init__(self, sock: socket.socket, life: socket.socket) -> None:
        super().__init__(sock)
        self._life = life
        self._status: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        if self._status is None:
            # A timeout of 0 would mean something else to a socket.
            self._life.settimeout(timeout if timeout is None else max(timeout, 1e-3))
            with suppress(ConnectionError):
                told = self._life.recv(4)
                # Nothing is told by a keeper that was killed with the whole nursery.
                status = struct.unpack("i", told)[0] if len(told) == 4 else -signal.SIGKILL
                self._status = status if status >= 0 else 128 - status
        return 128 + signal.SIGKILL if self._status is None else self._status

    def _end(self) -> None:
        with suppress(OSError):
            self._life.shutdown(socket.SHUT_WR)
        with suppress(TimeoutError):
            self.wait(_CLEARING_SECONDS)
        if self._status is None:
            # Its keeper is slow to tell (a fork bomb takes long to clear away), but kills it.
            self._status = 128 + signal.SIGKILL
        self._life.close()


class Nursery:
    """A process inside a sandbox that has imported torch, and forks the others.

    Args:
        standin: a folder that is mounted as the data set; without it there is none.

    Raises:
        SandboxError: if it does not start.
    """

    def __init__(self, standin: Path | None) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = _bubblewrap(None, _RUN_NURSERY, theirs.fileno(), standin)
        self._popen = _popen(command, {"PATH": _PATH}, "/", theirs)
        self._control = ours
        atexit.register(self.close)
        ours.settimeout(_NURSERY_SECONDS)
        try:
            ready = ours.recv(16) == b"ready"
        except OSError:
            ready = False
        if not ready:
            self.close()
            raise SandboxError("The nursery did not start.")

    def spawn(self, limits: Limits, code: str) -> Nursling:
        """Fork a process that runs ``code``.

        Raises:
            SandboxError: if the nursery is gone.
        """
        ours, theirs = socket.socketpair()
        life, keepers_end = socket.socketpair()
        order = {
            "limits": _rlimits(limits, own_uid=True),
            "tmp": limits.file,
            "walls": _INSIDE,
            "code": code,
        }
        with theirs, keepers_end:
            try:
                fds = [theirs.fileno(), keepers_end.fileno()]
                socket.send_fds(self._control, [json.dumps(order).encode()], fds)
            except OSError as error:
                ours.close()
                life.close()
                raise SandboxError("The nursery is gone.") from error
        return Nursling(ours, life)

    def close(self) -> None:
        """End it, and all that it forked."""
        self._control.close()
        with suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait()


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
        level: 2 (which is 3 where there is a control group), 1 or 0; by default the best that
            works here.
        code: what it runs; ``fd`` is its end of the socket.

    Raises:
        SandboxError: if it cannot be started.
    """
    level = isolation_level() if level is None else level
    limits = limits or Limits()
    with _one_nursery_at_a_time:
        nursery = _nursery(standin) if level >= 2 else None
    if nursery is not None:
        try:
            return nursery.spawn(limits, code)
        except SandboxError:
            _nursery.cache_clear()  # it has died: the next start makes another one
    return _start_cold(standin, limits, level, code)


def _start_cold(standin: Path | None, limits: Limits, level: int, code: str) -> Child:
    """Start a process that imports everything itself."""
    ours, theirs = socket.socketpair()
    if level >= 2:
        command = _bubblewrap(limits, code, theirs.fileno(), standin)
        return Child(_popen(command, {"PATH": _PATH}, "/", theirs), ours)
    folder = Path(tempfile.mkdtemp(prefix="latent-lab-"))
    command = _plain(limits, code, theirs.fileno(), standin, folder if level == 1 else None)
    environment = _environment(str(standin or "/nonexistent"), str(folder))
    return Child(_popen(command, environment, str(folder), theirs), ours, folder)


def _popen(
    command: list[str], environment: dict[str, str], cwd: str, theirs: socket.socket
) -> subprocess.Popen[bytes]:
    """Start a command that has one end of a socket, and nothing else of ours."""
    output = None if os.environ.get(_DEBUG) else subprocess.DEVNULL
    try:
        with theirs:
            return subprocess.Popen(
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
        raise SandboxError(f"The sandbox cannot be started: {error}.") from error


_one_nursery_at_a_time = threading.Lock()


@lru_cache(maxsize=2)
def _nursery(standin: Path | None) -> Nursery | None:
    """The nursery of this process for a data set.

    None if its processes are not as caged here as those that bubblewrap starts.
    """
    try:
        nursery = Nursery(standin)
        if _is_caged(lambda code: nursery.spawn(Limits(), code)):
            return nursery
    except SandboxError:
        return None
    nursery.close()
    return None


@cache
def isolation_level() -> int:
    """The best level that really holds on this machine, found by trying to break out of it."""
    for level in (2, 1):
        if level == 2 and shutil.which("bwrap") is None:
            continue
        try:
            if _is_caged(partial(_start_cold, None, Limits(), level), alone=level == 2):
                every_wall = cgroup.entrances() and walls.landlock_version()
                return 3 if level == 2 and every_wall else level
        except SandboxError:
            continue
    return 0


def describe(level: int) -> str:
    """One sentence for people."""
    if level >= 2:
        together = "; a limit on all memory together" if level >= 3 else ""
        return (
            f"level {level}: bubblewrap, no network, read-only files, limited memory and "
            f"processes{together}"
        )
    if level == 1:
        return (
            "level 1: no bubblewrap, but Landlock and seccomp: no network, no files of yours; "
            "memory and processes are limited as far as possible. For practice scores, not for "
            "marks"
        )
    return (
        f"level {level}: NO SANDBOX (bubblewrap is missing or does not work here). Student code "
        "can read and change your files: for practice scores, never for marks"
    )


def _is_caged(start: Callable[[str], Process], *, alone: bool = True) -> bool:
    """Start a process that tries what student code must not be able to do.

    Args:
        start: starts one that runs some code.
        alone: whether it must have namespaces of its own, too.
    """
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        canary = f"""
import ctypes, os, socket
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
    works(open, {str(_HELPERS / "check.py")!r}, "a"),
    works(open, "/opt/kit/helpers/check.py", "a"),
    works(open, "/proc/{os.getpid()}/environ", "rb"),
    works(socket.socket, socket.AF_INET),
    int(ctypes.CDLL(None).unshare(0x10000000) == 0),  # a user namespace gives capabilities
    int(ctypes.CDLL(None).mount(b"tmpfs", b"/opt", b"tmpfs", 0, None) == 0),
]
alone = [
    int(os.getuid() == 0 or os.getpid() != 1 or len(os.listdir("/proc/self/task")) < 1),
    int("CapEff:\\t0000000000000000" not in open("/proc/self/status").read()),
    int([name for name in os.listdir("/proc") if name.isdigit()] != ["1"]),
] if {alone} else []
socket.socket(fileno=fd).sendall(bytes(escapes + alone))
"""
        with start(canary) as process:
            process.socket.settimeout(20)
            try:
                return process.socket.recv(64) == bytes(13 if alone else 10)
            except OSError:
                return False


def _bubblewrap(limits: Limits | None, code: str, fd: int, standin: Path | None) -> list[str]:
    """The command of level 2; without limits that of a nursery, which limits what it forks."""
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
        doors = " ".join(map(str, cgroup.entrances()))
        wrap += [doors, str(stage), uid, str(len(sources)), *map(str, sources)]
    masked = ["/opt/kit/helpers/datasets"] if (_HELPERS / "datasets").is_dir() else []
    # Where this package is installed and not a checkout, site-packages would show all of it.
    masked += [f"/opt/site/{name}" for name in ("autograder", "helpers") if (site / name).is_dir()]
    # To make namespaces for the others, a nursery needs capabilities in its own user namespace.
    rights = ("--cap-drop", "ALL", "--disable-userns") if limits else ("--cap-add", "ALL")
    return [
        *wrap,
        *("bwrap", "--unshare-all", "--unshare-user", *rights, "--as-pid-1"),
        *("--die-with-parent", "--new-session", "--clearenv"),
        *("--hostname", "sandbox", "--perms", "0755", "--dir", "/opt"),
        *_system_libraries(),
        *_flatten(("--ro-bind", str(source), where) for where, source in mounts.items()),
        *_flatten(("--tmpfs", where, "--remount-ro", where) for where in masked),
        *("--dev", "/dev", "--size", str(32 * 2**20), "--tmpfs", "/dev/shm"),
        *("--remount-ro", "/dev", "--proc", "/proc"),
        *("--size", str((limits or Limits()).file), "--tmpfs", "/tmp", "--chdir", "/tmp"),
        *("--remount-ro", "/"),
        *_flatten(
            ("--setenv", key, value) for key, value in _environment("/opt/data", "/tmp").items()
        ),
        *("--setenv", "LD_LIBRARY_PATH", "/opt/python/lib"),
        *("--", inside, "-I", "-S", "-c", _BOOTSTRAP + code),
        _arguments(
            limits, fd, ["/opt/kit", "/opt/site"], _INSIDE if limits else None, own_uid=True
        ),
    ]


def _plain(
    limits: Limits, code: str, fd: int, standin: Path | None, folder: Path | None
) -> list[str]:
    """The command of level 1, whose folder it is, or of level 0."""
    site = sysconfig.get_paths()["purelib"]
    beneath: dict[str, list[str]] = {}
    if folder is not None:
        kit = [path for path in _HELPERS.iterdir() if path.name != "datasets"]
        readable = [
            *kit,
            *(_AUTOGRADER / name for name in _VISIBLE),
            *([standin] if standin else []),
        ]
        system = [sys.base_prefix, sys.prefix, site, "/usr", "/lib", "/lib64", "/etc/ld.so.cache"]
        system += ["/dev/null", "/dev/urandom", "/sys/devices/system/cpu"]
        writable = [str(folder), "/dev/null"]
        beneath = {"readable": [*map(str, readable), *system], "writable": writable}
    arguments = _arguments(limits, fd, [str(_AUTOGRADER.parent), site], beneath, own_uid=False)
    return [sys.executable, "-I", "-S", "-c", _BOOTSTRAP + code, arguments]


def _arguments(
    limits: Limits | None,
    fd: int,
    path: list[str],
    beneath: dict[str, list[str]] | None,
    *,
    own_uid: bool,
) -> str:
    """What the bootstrap is told."""
    rlimits = _rlimits(limits, own_uid=own_uid) if limits else {}
    return json.dumps([rlimits, fd, path, beneath])


def _rlimits(limits: Limits, *, own_uid: bool) -> dict[str, int]:
    """Limits by their names in the module resource."""
    names = {
        "memory": "RLIMIT_AS",
        "file": "RLIMIT_FSIZE",
        "cpu": "RLIMIT_CPU",
        "files": "RLIMIT_NOFILE",
    }
    if own_uid:  # it counts all processes of the uid: elsewhere that would be the whole desktop
        names["processes"] = "RLIMIT_NPROC"
    values = {names[key]: value for key, value in asdict(limits).items() if key in names}
    return {**values, "RLIMIT_CORE": 0}


def _environment(data: str, folder: str) -> dict[str, str]:
    """All that the environment holds."""
    return {
        "HOME": folder,
        "TMPDIR": folder,
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
