"""The data folder of a yard: what lies where, who may read it, and whether it can be used at all.

=====================  ==========  ===========================================================================
``.``                  0711        root's yard: the database's own user passes through to its folder; else 0700
``lock``               0600        held by the supervisor; holds its process id
``secrets.env``        0600        what the first start generated, and further settings of the administrator
``blobs/``             0700        the file-system blob store
``log/``               0700        ``<process>.log``, and ``yard.log`` of a detached supervisor
``run/``               0700        ``state.json``, the sockets, Envoy's configuration
``postgres/``          0700        belongs to the database's user: its socket, and ``cluster/``
``programs/``          0755        a copy of the database's programs, where its user cannot reach the installed ones
=====================  ==========  ===========================================================================
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import pathlib
import pwd
import stat
from collections.abc import Iterator

from codeyard_server.supervisor import errors

MAX_SOCKET_PATH = 107
"""Bytes: the kernel's sockaddr_un holds 108 with the final NUL."""

_LONGEST_SOCKET = "postgres/.s.PGSQL.5432.lock"


def default_data_folder() -> pathlib.Path:
    """Return ``/var/lib/codeyard`` for root, else ``codeyard`` below ``$XDG_DATA_HOME`` (``~/.local/share``)."""
    if os.geteuid() == 0:
        return pathlib.Path("/var/lib/codeyard")
    home = os.environ.get("XDG_DATA_HOME")
    return (pathlib.Path(home) if home else pathlib.Path.home() / ".local" / "share") / "codeyard"


@dataclasses.dataclass(frozen=True, slots=True)
class Layout:
    """The paths below one data folder, which is absolute."""

    data: pathlib.Path

    @classmethod
    def at(cls, data: pathlib.Path | None) -> Layout:
        """Return the layout of this folder, or of the default one."""
        return cls((data or default_data_folder()).expanduser().resolve())

    @property
    def lock(self) -> pathlib.Path:
        """The file that the supervisor keeps locked."""
        return self.data / "lock"

    @property
    def secrets(self) -> pathlib.Path:
        """The file of generated secrets."""
        return self.data / "secrets.env"

    @property
    def blobs(self) -> pathlib.Path:
        """The file-system blob store."""
        return self.data / "blobs"

    @property
    def logs(self) -> pathlib.Path:
        """The folder of log files."""
        return self.data / "log"

    @property
    def run(self) -> pathlib.Path:
        """The folder of what only lives as long as the yard."""
        return self.data / "run"

    @property
    def state(self) -> pathlib.Path:
        """What the supervisor publishes about its processes."""
        return self.run / "state.json"

    @property
    def postgres(self) -> pathlib.Path:
        """The database user's own folder."""
        return self.data / "postgres"

    @property
    def programs(self) -> pathlib.Path:
        """Copies of programs."""
        return self.data / "programs"

    def server_socket(self, number: int) -> pathlib.Path:
        """The gRPC socket of a server process."""
        return self.run / f"server-{number}.sock"

    def edge_socket(self, number: int) -> pathlib.Path:
        """The WebSocket edge's socket of a server process."""
        return self.run / f"edge-{number}.sock"

    @property
    def envoy_socket(self) -> pathlib.Path:
        """Envoy's administration."""
        return self.run / "envoy.sock"

    def create(self) -> None:
        """Make the folder and what is in it, private, and check that it can be used.

        Raises:
            BadDataFolder: it is read-only, no folder, belongs to somebody else, or its path is too long for sockets.
        """
        if len(os.fsencode(self.data / _LONGEST_SOCKET)) > MAX_SOCKET_PATH:
            raise errors.BadDataFolder(f"{self.data} is too long a path for unix sockets: choose a shorter --data")
        with usable(self.data):
            self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self.data.stat().st_uid != os.geteuid():
                raise errors.BadDataFolder(f"{self.data} belongs to another user")
            self.data.chmod(0o711 if os.geteuid() == 0 else 0o700)
            for folder in (self.blobs, self.logs, self.run):
                folder.mkdir(mode=0o700, exist_ok=True)
                folder.chmod(0o700)

    def clear_run(self) -> None:
        """Remove the sockets and the state of a run that ended; only the holder of the lock may."""
        for path in (*self.run.glob("*.sock"), self.state):
            path.unlink(missing_ok=True)

    def check_reachable(self, user: pwd.struct_passwd) -> None:
        """Check that this user can pass through every folder above the database's.

        Raises:
            BadDataFolder: it cannot; the message names the folder and the remedy.
        """
        for folder in (*reversed(self.data.parents), self.data):
            if not may_enter(folder, user):
                raise errors.BadDataFolder(
                    f"the database runs as user {user.pw_name}, which may not pass through {folder}:"
                    f" choose another --data, or run chmod o+x {folder}"
                )


@contextlib.contextmanager
def usable(path: pathlib.Path) -> Iterator[None]:
    """Turn the system's refusals to write below this path into :class:`errors.BadDataFolder`."""
    try:
        yield
    except OSError as error:
        reasons = {
            errno.EROFS: "is on a read-only file system",
            errno.EACCES: "is not writable for this user",
            errno.EPERM: "is not writable for this user",
            errno.ENOTDIR: "has a file among its parents",
            errno.EEXIST: "is a file, not a folder",
            errno.ENOSPC: "is on a full disk",
            errno.EDQUOT: "is over its disk quota",
        }
        reason = reasons.get(error.errno or 0, f"cannot be used: {error.strerror}")
        raise errors.BadDataFolder(f"the data folder {path} {reason}; choose another with --data") from error


def may_enter(folder: pathlib.Path, user: pwd.struct_passwd) -> bool:
    """Whether a user without supplementary groups and without special rights can pass through this folder."""
    status = folder.stat()
    if status.st_uid == user.pw_uid:
        return bool(status.st_mode & stat.S_IXUSR)
    if status.st_gid == user.pw_gid:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)
