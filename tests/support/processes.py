"""Processes that a test starts: none outlives it, also when the test process itself is killed."""

from __future__ import annotations

import ctypes
import signal
import socket
import subprocess

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)
_STOP_SECONDS = 30.0


def die_with_parent() -> None:
    """Ask the kernel to interrupt the child when its parent dies. A ``preexec_fn``: it runs between fork and exec."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGINT)


def stop(process: subprocess.Popen[bytes], stop_signal: signal.Signals = signal.SIGTERM) -> None:
    """Send the signal and wait for the end; kill what has not ended after 30 seconds."""
    if process.poll() is None:
        process.send_signal(stop_signal)
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_port() -> int:
    """Return a loopback TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
