"""The only package of the grader that is mounted in the sandbox; it imports only ``helpers``.

- ``worker`` runs a notebook's cells and answers the judge's questions about them;
- ``protocol`` is the message format between judge and worker; the judge imports it too;
- ``forkserver`` forks workers from a process that has already imported torch;
- ``hardening`` lets a process restrict itself, with Landlock, seccomp and a new keyring.
"""
