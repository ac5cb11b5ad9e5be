"""``codeyard up``: one command runs the database, the server processes and the gateway, and keeps them running.

:func:`run_yard` is the supervisor; :func:`read_status` and :func:`stop` are for other processes. Linux only.
"""

from codeyard_server.supervisor.errors import NOT_RUNNING_STATUS, YardError
from codeyard_server.supervisor.layout import Layout
from codeyard_server.supervisor.state import ProcessStatus, YardStatus, read_status, stop

__all__ = ["NOT_RUNNING_STATUS", "Layout", "ProcessStatus", "YardError", "YardStatus", "read_status", "stop"]
