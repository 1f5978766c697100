"""Runs untrusted code in isolated processes.

- ``launch`` starts a process and finds the isolation level that holds on this machine;
- ``command`` builds the commands: bubblewrap's, and the plain one of levels 1 and 0;
- ``forking`` starts the fork server, whose processes have already imported torch;
- ``process`` is a sandboxed process as seen from outside: its socket, its exit status, its end;
- ``limits`` limits one process, ``cgroup`` all processes together;
- ``canary`` tries to break out of a sandbox;
- ``inside`` is the only package of the grader that is mounted in the sandbox.
"""

from autograder.sandbox.launch import describe, isolation_level, start
from autograder.sandbox.limits import Limits
from autograder.sandbox.process import Process, SandboxError

__all__ = ["Limits", "Process", "SandboxError", "describe", "isolation_level", "start"]
