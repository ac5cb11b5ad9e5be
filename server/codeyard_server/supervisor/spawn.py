"""Become another program that cannot outlive the supervisor. Run as a script, with nothing but the standard library:

    python -I -S spawn.py PARENT SIGNAL USER GROUP program [argument ...]

The kernel sends SIGNAL to the program when PARENT ends, however it ends. With USER and GROUP (numbers, or ``-``) it
gives up root first: the kernel forgets the signal when a process changes its user, so the order matters. A script,
because code between fork and exec in the supervisor could deadlock with the threads of its gRPC client.
"""

import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, signal_number, user, group, *command = sys.argv[1:]
    if user != "-":
        os.setgroups([])
        os.setgid(int(group))
        os.setuid(int(user))
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(_PR_SET_PDEATHSIG, int(signal_number), 0, 0, 0) != 0:
        sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
    # The parent may have ended before the line above.
    if os.getppid() != int(parent):
        sys.exit("the supervisor is gone")
    try:
        os.execvp(command[0], command)  # noqa: S606 - no shell is the point
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}")


if __name__ == "__main__":
    main()
