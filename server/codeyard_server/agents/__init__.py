"""Agents: stored configurations that sessions run.

Other domains may call: :func:`load_agent`, :class:`AgentConfig`.
"""

from codeyard_server.agents.store import AgentConfig, load_agent

__all__ = ["AgentConfig", "load_agent"]
