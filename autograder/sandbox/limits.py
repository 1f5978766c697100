"""The resources that one sandboxed process may use."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """The resources that one sandboxed process may use."""

    #: Address space, in bytes. A CUDA build of torch takes 3.8 GiB of it before it does anything.
    memory: int = 6 * 2**30
    #: Processes and threads together: enough for DataLoader workers, too few for a fork bomb.
    processes: int = 128
    #: The largest file, in bytes; also the size of /tmp.
    file: int = 64 * 2**20
    #: Processor time, in seconds. Longer than every deadline: it stops what escapes them.
    cpu: int = 600
    #: Open files.
    files: int = 256

    def rlimits(self, *, own_uid: bool) -> dict[str, int]:
        """The limits by their names in the module :mod:`resource`.

        Args:
            own_uid: whether the process has a uid of its own. The number of processes is counted by
                uid, so without one the limit would apply to the user's whole desktop.
        """
        limits = {
            "RLIMIT_AS": self.memory,
            "RLIMIT_FSIZE": self.file,
            "RLIMIT_CPU": self.cpu,
            "RLIMIT_NOFILE": self.files,
            "RLIMIT_CORE": 0,
        }
        return {**limits, "RLIMIT_NPROC": self.processes} if own_uid else limits
