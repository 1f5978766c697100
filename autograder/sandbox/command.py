"""Builds the commands that start a sandboxed Python: bubblewrap's, and the plain one."""

import atexit
import json
import os
import secrets
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from autograder import ROOT
from autograder.sandbox import cgroup
from autograder.sandbox.limits import Limits

#: The only package of the grader that the sandbox sees; it imports nothing from the others.
INSIDE = Path(__file__).resolve().parent / "inside"
#: The package that students have too; the data sets in it are not mounted.
HELPERS = ROOT / "helpers"
DATA_FILES = HELPERS / "data" / "files"
#: The paths that Landlock allows inside bubblewrap, as a second line of defence.
INSIDE_BUBBLEWRAP = {"readable": ["/"], "writable": ["/tmp", "/dev"]}
#: The environment of the programs that set up level 2, outside the sandbox.
SETUP_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
#: Runs first in the sandbox, before any untrusted code: search path, limits, hardening. Python is
#: started without its site module (-S), which would add the packages of another installation.
_BOOTSTRAP = """
import importlib.machinery, json, resource, sys
limits, fd, path, beneath, listed = json.loads(sys.argv[1])
sys.path[:] = path[:1] + sys.path + path[1:]
for name, value in limits.items():
    resource.setrlimit(getattr(resource, name), (value, value))
if beneath is not None:
    from inside import hardening
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")  # killed first when the machine runs out of memory
    except OSError:
        pass
    hardening.leave_keyring()
    if beneath:
        # The import system lists each folder once. Under Landlock it could not list the folders
        # that also hold files which may not be read.
        for folder in listed:
            importlib.machinery.PathFinder.find_spec("helpers", [folder])
        hardening.landlock(**beneath)
        hardening.seccomp()
"""
#: As root: in a new mount namespace, mount the folders where an unprivileged uid can reach them,
#: and switch to that uid for good before bubblewrap starts. Each program replaces the one before it
#: (exec), so killing the pid kills everything. Arguments: the files to write the pid to (one
#: argument, separated by spaces), stage, uid, number of folders, the folders, the command.
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


def bubblewrap_command(
    limits: Limits | None, code: str, fd: int, standin: Path | None
) -> list[str]:
    """The command of level 2; without limits, of a fork server, which limits what it forks."""
    python, executable = Path(sys.base_prefix), Path(os.path.realpath(sys.executable))
    site = Path(sysconfig.get_paths()["purelib"])
    mounts: dict[str, Path] = {
        "/opt/site": site,
        "/opt/kit/helpers": HELPERS,
        "/opt/kit/inside": INSIDE,
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
        uid = str(200_000 + secrets.randbelow(100_000))  # not that of a dying fork bomb
        mounts = {where: stage / str(n) for n, where in enumerate(mounts)}
        wrap = ["unshare", "--mount", "--propagation", "private", "--", "sh", "-c", _STAGE, "sh"]
        doors = " ".join(map(str, cgroup.entrances()))
        wrap += [doors, str(stage), uid, str(len(sources)), *map(str, sources)]
    masked = [f"/opt/kit/{DATA_FILES.relative_to(ROOT)}"] if DATA_FILES.is_dir() else []
    # If this package is installed in site-packages, mounting those would expose the grader.
    masked += [f"/opt/site/{name}" for name in ("autograder", "helpers") if (site / name).is_dir()]
    # A fork server needs capabilities in its user namespace to create namespaces for the others.
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
            ("--setenv", key, value) for key, value in environment("/opt/data", "/tmp").items()
        ),
        *("--setenv", "LD_LIBRARY_PATH", "/opt/python/lib"),
        *("--", inside, "-I", "-S", "-c", _BOOTSTRAP + code),
        _arguments(
            limits.rlimits(own_uid=True) if limits else {},
            fd,
            ["/opt/kit", "/opt/site"],
            INSIDE_BUBBLEWRAP if limits else None,
        ),
    ]


def plain_command(
    limits: Limits, code: str, fd: int, standin: Path | None, folder: Path | None
) -> list[str]:
    """The command of level 1, which may write to ``folder``, or of level 0, which has no folder."""
    site = sysconfig.get_paths()["purelib"]
    beneath: dict[str, list[str]] = {}
    if folder is not None:
        readable = [*_all_but(HELPERS, DATA_FILES), INSIDE, *([standin] if standin else [])]
        system = [sys.base_prefix, sys.prefix, site, "/usr", "/lib", "/lib64", "/etc/ld.so.cache"]
        system += ["/dev/null", "/dev/urandom", "/sys/devices/system/cpu"]
        writable = [str(folder), "/dev/null"]
        beneath = {"readable": [*map(str, readable), *system], "writable": writable}
    path = [str(ROOT), site, str(INSIDE.parent)]
    arguments = _arguments(limits.rlimits(own_uid=False), fd, path, beneath)
    return [sys.executable, "-I", "-S", "-c", _BOOTSTRAP + code, arguments]


def _arguments(
    rlimits: dict[str, int], fd: int, path: list[str], beneath: dict[str, list[str]] | None
) -> str:
    """The arguments of the bootstrap, as JSON."""
    listed = [str(folder) for folder in DATA_FILES.parents if folder.is_relative_to(HELPERS)]
    return json.dumps([rlimits, fd, path, beneath, listed])


def environment(data: str, folder: str) -> dict[str, str]:
    """All environment variables of a sandboxed process."""
    return {
        "HOME": folder,
        "TMPDIR": folder,
        "LANG": "C.UTF-8",
        "LATENT_LAB_WORKER": "1",
        "LATENT_LAB_DATA": data,
        "MPLBACKEND": "Agg",
        # One thread, which sleeps while it waits: with two threads per worker, two busy workers
        # are slower by two orders of magnitude.
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "passive",
    }


def _system_libraries() -> list[str]:
    """Mounts of the system's libraries, where the dynamic linker looks for them."""
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
    """An empty folder; each start mounts what it needs there, in its own mount namespace."""
    folder = Path(tempfile.mkdtemp(prefix="latent-lab-stage-", dir="/tmp"))
    folder.chmod(0o755)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _flatten(groups: Iterable[tuple[str, ...]]) -> list[str]:
    return [item for group in groups for item in group]


def _all_but(folder: Path, left_out: Path) -> Iterator[Path]:
    """Paths that together contain everything in ``folder`` except ``left_out``."""
    for child in folder.iterdir():
        if left_out.is_relative_to(child) and child != left_out:
            yield from _all_but(child, left_out)
        elif child != left_out:
            yield child
