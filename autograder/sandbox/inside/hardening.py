"""Restrictions that a process puts on itself and cannot lift: Landlock, seccomp, a new keyring.

Inside bubblewrap they are a second line of defence; without it they are the only one (level 1).
Landlock (since kernel 5.13) restricts which files can be opened, and in newer versions the network
and signals. seccomp refuses system calls that no notebook needs. This module runs in the sandbox
and imports only the standard library.
"""

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterable
from contextlib import suppress
from functools import cache

_NO_NEW_PRIVILEGES, _SET_SECCOMP, _FILTER = 38, 22, 2

# Landlock: linux/landlock.h. The numbers of its system calls are the same everywhere.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_PATH_BENEATH = 1
_EXECUTE, _READ_FILE, _READ_FOLDER = 1 << 0, 1 << 2, 1 << 3
_FOR_FILES = _EXECUTE | _READ_FILE | 1 << 1 | 1 << 14 | 1 << 15  # write, truncate, ioctl
#: The number of rights over files in each version: 13 at first, then linking across folders, ...
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_ALL_TCP, _ALL_SCOPES = 0b11, 0b11

# seccomp: linux/seccomp.h, linux/filter.h, linux/audit.h.
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM
_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32 = 0x40000000  # set in the numbers of the x32 ABI of x86-64
#: System calls that no notebook needs: their numbers on x86-64 and on aarch64.
_REFUSED = {
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "move_mount": (429, 429),
    "open_tree": (428, 428),
    "fsopen": (430, 430),
    "fsmount": (432, 432),
    "mount_setattr": (442, 442),
    "unshare": (272, 97),
    "setns": (308, 268),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "kexec_load": (246, 104),
    "quotactl": (179, 60),
    "syslog": (103, 116),
    "acct": (163, 89),
    "personality": (135, 92),
}
_SOCKET = {"x86_64": 41, "aarch64": 198}
_KEYCTL = {"x86_64": 250, "aarch64": 219}


@cache
def _libc() -> ctypes.CDLL:
    """The C library, loaded when it is needed: this module is imported on Windows, too."""
    return ctypes.CDLL(None, use_errno=True)


def leave_keyring() -> None:
    """Start a new session keyring: processes could leave each other messages in a shared one."""
    if (number := _KEYCTL.get(platform.machine())) is not None:
        _libc().syscall(number, 1, None)


def landlock_version() -> int:
    """The version of Landlock in this kernel; 0 if there is none."""
    return max(0, int(_libc().syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), 1)))


def landlock(readable: Iterable[str], writable: Iterable[str]) -> bool:
    """Restrict this process to files beneath the given paths, without TCP.

    It can no longer send signals or connect abstract sockets to processes outside either. What a
    kernel's version of Landlock does not know is not restricted.

    Returns:
        Whether the restriction is in force.
    """
    version = landlock_version()
    if not version:
        return False
    every = (1 << _FILE_RIGHTS.get(version, 16)) - 1
    rules = [every]
    if version >= 4:
        rules.append(_ALL_TCP)
    if version >= 6:
        rules.append(_ALL_SCOPES)
    attributes = struct.pack(f"{len(rules)}Q", *rules)
    ruleset = _libc().syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    if ruleset < 0:
        return False
    reading = _EXECUTE | _READ_FILE | _READ_FOLDER
    for paths, rights in ((readable, reading), (writable, every)):
        for path in paths:
            with suppress(OSError):  # a missing file cannot be opened anyway
                fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
                allowed = rights if os.path.isdir(path) else rights & _FOR_FILES & every
                _libc().syscall(
                    _ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("=Qi", allowed, fd), 0
                )
                os.close(fd)
    _libc().prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    done = _libc().syscall(_RESTRICT_SELF, ruleset, 0) == 0
    os.close(ruleset)
    return bool(done)


def seccomp() -> bool:
    """Refuse system calls that no notebook needs, and all sockets except Unix sockets.

    Returns:
        Whether the restriction is in force.
    """
    machine = platform.machine()
    if machine not in _ARCHITECTURES:
        return False
    numbers = [pair[machine == "aarch64"] for pair in _REFUSED.values()]
    n = len(numbers)
    # A jump has the number of instructions to skip if the test holds, and if it does not.
    program = [
        (_LOAD, 0, 0, 4),  # the architecture
        (_JUMP_EQUAL, 0, n + 5, _ARCHITECTURES[machine]),
        (_LOAD, 0, 0, 0),  # the number of the call
        (_JUMP_AT_LEAST, n + 3, 0, _X32),
        *((_JUMP_EQUAL, n + 2 - i, 0, number) for i, number in enumerate(numbers)),
        (_JUMP_EQUAL, 0, 3, _SOCKET[machine]),
        (_LOAD, 0, 0, 16),  # its first argument: AF_UNIX is 1
        (_JUMP_EQUAL, 1, 0, 1),
        (_RETURN, 0, 0, _REFUSE),
        (_RETURN, 0, 0, _ALLOW),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
    head = struct.pack("HxxxxxxQ", len(program), ctypes.addressof(code))
    _libc().prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    return bool(_libc().prctl(_SET_SECCOMP, _FILTER, head, 0, 0) == 0)
