"""One object of each kind, for tests that go through every route."""

from __future__ import annotations

import dataclasses
import uuid

from tests.support.client import Rest
from tests.support.providers import new_model, new_provider


@dataclasses.dataclass(frozen=True)
class World:
    """Ids of objects that an administrator has made."""

    agent: str
    session: str
    provider: str
    model: str
    server: str
    shared_server: str

    def values(self, path: str) -> dict[str, str]:
        """Return values for the parameters of a path template that name these objects."""
        own = {"agents": self.agent, "llm-providers": self.provider, "llm-models": self.model}
        return {
            "agent_id": self.agent,
            "session_id": self.session,
            "provider_id": self.provider,
            "capability_id": "test_math",
            "id": next((own[part] for part in path.split("/") if part in own), self.server),
            "path": "",
        }


def unused_name() -> str:
    """Return a name that nothing has."""
    return f"t{uuid.uuid4().hex[:12]}"


async def new_world(client: Rest) -> World:
    """Create one object of each kind; the session has an event, so that a stream of it has something to say."""
    agent = await client.agent()
    session = await client.new_session(agent)
    await client.ok("POST", f"{session}/messages", {"role": "system", "content": "x"})
    provider = await new_provider(client)
    model = await new_model(client, provider, "llmsim-world")
    servers = [
        await client.ok("POST", "/v1/mcp-servers", {"name": unused_name(), "url": "https://x.test/mcp", **members})
        for members in ({}, {"installation_wide": True})
    ]
    return World(
        agent["id"], session.rsplit("/", 1)[1], provider["id"], model["id"], servers[0]["id"], servers[1]["id"]
    )
