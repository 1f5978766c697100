"""Tests a sandbox with a process that tries to break out of it."""

import os
import socket
from collections.abc import Callable

from autograder import ROOT
from autograder.sandbox.command import HELPERS
from autograder.sandbox.process import Process


def is_caged(start: Callable[[str], Process], *, alone: bool = True) -> bool:
    """Whether a process in the sandbox fails at everything that student code must not do.

    Args:
        start: starts a sandboxed process that runs the given code.
        alone: whether the process must also have namespaces of its own.
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
    works(os.listdir, {str(ROOT / "autograder" / "judging" / "checks")!r}),
    works(os.listdir, "/opt/kit/autograder"),
    works(open, "/etc/shadow"),
    works(open, {str(HELPERS / "deliverables.py")!r}, "a"),
    works(open, "/opt/kit/helpers/deliverables.py", "a"),
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
