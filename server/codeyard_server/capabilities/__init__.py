"""Capabilities: what an agent can be given, and the tools that come with it.

Other domains may call: :class:`Catalogue` (``validate`` ids, ``resolve`` them to prompt additions and tools),
:func:`execute` (run one tool call), :class:`SessionFiles` (the FileStore of the calls), and the ports.
"""

from codeyard_server.capabilities.builtin import builtin_capabilities
from codeyard_server.capabilities.catalogue import Catalogue
from codeyard_server.capabilities.execution import ToolOutcome, execute
from codeyard_server.capabilities.files import SessionFiles
from codeyard_server.capabilities.logic import ResolvedCapabilities
from codeyard_server.capabilities.mcp_config import McpConfigError, read_servers
from codeyard_server.capabilities.ports import FileStore, Tool, ToolContext, ToolError
from codeyard_server.capabilities.servers import HeaderSecrets, McpServers

__all__ = [
    "Catalogue",
    "FileStore",
    "HeaderSecrets",
    "McpConfigError",
    "McpServers",
    "ResolvedCapabilities",
    "SessionFiles",
    "Tool",
    "ToolContext",
    "ToolError",
    "ToolOutcome",
    "builtin_capabilities",
    "execute",
    "read_servers",
]
