"""What can go wrong with a yard, each with the exit status that ``codeyard`` ends with.

====  ==============================================================================
0     done; of ``status``: the yard runs
1     a part did not start or stop (:class:`YardError`)
2     wrong usage, or settings that allow no start (:class:`BadSettings`)
3     ``status``: no yard runs there
4     a yard runs there already, or uses the folder (:class:`YardRunning`)
5     the port is taken (:class:`PortTaken`)
6     the data folder cannot be used (:class:`BadDataFolder`)
====  ==============================================================================
"""

from __future__ import annotations

NOT_RUNNING_STATUS = 3


class YardError(Exception):
    """Something to tell the administrator, without a traceback."""

    exit_status = 1


class BadSettings(YardError):
    """The environment does not make a runnable yard."""

    exit_status = 2


class YardRunning(YardError):
    """Another supervisor, or a database that one left behind, uses the data folder."""

    exit_status = 4


class PortTaken(YardError):
    """Something else listens on the public port."""

    exit_status = 5


class BadDataFolder(YardError):
    """The data folder is read-only, out of reach for the database's user, or damaged."""

    exit_status = 6
