"""Python client of Codeyard, a self-hosted yard where coding agents work.

    from codeyard_client import Client

    with Client() as client:
        agent = client.agents.create("Helper", "Answer briefly.")
        session = agent.sessions.create(title="First")
        print(session.ask("What is 2 + 2?"))

``AsyncClient`` is the same with ``await``, ``async with`` and ``async for``. Errors are in ``codeyard_client.errors``,
the API's messages in ``codeyard_client.types``.
"""

from codeyard_client._content import Content, TurnOptions, image, text_of
from codeyard_client._event import Event
from codeyard_client._json import to_json
from codeyard_client.aio.agents import AsyncAgent
from codeyard_client.aio.client import AsyncClient
from codeyard_client.aio.sessions import AsyncSession
from codeyard_client.errors import CodeyardError, TurnFailed
from codeyard_client.gen.sync.agents import Agent
from codeyard_client.gen.sync.client import Client
from codeyard_client.gen.sync.sessions import Session

__all__ = [
    "Agent",
    "AsyncAgent",
    "AsyncClient",
    "AsyncSession",
    "Client",
    "CodeyardError",
    "Content",
    "Event",
    "Session",
    "TurnFailed",
    "TurnOptions",
    "image",
    "text_of",
    "to_json",
]
