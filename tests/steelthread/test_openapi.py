"""The OpenAPI document as the yard serves it: valid, of this API, and kept by the answers."""

from __future__ import annotations

import json
import re
import uuid
from typing import Any

import jsonschema
import openapi_spec_validator
import pytest
from codeyard_server.settings import VERSION

from tests.support.answers import Answer, send
from tests.support.client import Rest
from tests.support.routes import ROUTES, SOCKETS, fill, parameters
from tests.support.world import new_world, unused_name

pytestmark = pytest.mark.usefixtures("no_faults")

# What the documented family has outside accounts, as it is documented.
DOCUMENTED = """
GET /health
POST /v1/agents
GET /v1/agents
GET /v1/agents/{id}
PATCH /v1/agents/{id}
DELETE /v1/agents/{id}
POST /v1/agents/{agent_id}/sessions
GET /v1/agents/{agent_id}/sessions
GET /v1/agents/{agent_id}/sessions/{session_id}
PATCH /v1/agents/{agent_id}/sessions/{session_id}
DELETE /v1/agents/{agent_id}/sessions/{session_id}
POST /v1/agents/{agent_id}/sessions/{session_id}/messages
GET /v1/agents/{agent_id}/sessions/{session_id}/messages
GET /v1/agents/{agent_id}/sessions/{session_id}/events
POST /v1/llm-providers
GET /v1/llm-providers
GET /v1/llm-providers/{id}
PATCH /v1/llm-providers/{id}
DELETE /v1/llm-providers/{id}
POST /v1/llm-providers/{provider_id}/models
GET /v1/llm-providers/{provider_id}/models
GET /v1/llm-models
GET /v1/llm-models/{id}
PATCH /v1/llm-models/{id}
DELETE /v1/llm-models/{id}
GET /v1/capabilities
GET /v1/capabilities/{capability_id}
GET /v1/agents/{agent_id}/capabilities
PUT /v1/agents/{agent_id}/capabilities
GET /swagger-ui/
GET /api-doc/openapi.json
"""


@pytest.fixture
async def document(client: Rest) -> dict[str, Any]:
    """The document."""
    return dict(await client.ok("GET", "/api-doc/openapi.json"))


def shape(path: str) -> str:
    """Return a path without the names of its parameters."""
    return re.sub(r"\{[^}]*\}", "{}", path)


def check_answer(document: dict[str, Any], verb: str, path: str, answer: Answer) -> None:
    """Check an answer against what the document says of the operation."""
    operation = document["paths"][path][verb.lower()]
    assert str(answer.status) in operation["responses"], (verb, path, answer)
    described = operation["responses"][str(answer.status)]
    if "$ref" in described:
        described = document["components"]["responses"][described["$ref"].rsplit("/", 1)[1]]
    assert answer.headers["x-request-id"]
    if "content" not in described:
        assert answer.body == b""
        return
    kind = answer.headers["content-type"].partition(";")[0]
    schema = {**described["content"][kind]["schema"], "components": document["components"]}
    if kind == "application/json":
        jsonschema.validate(answer.json, schema, jsonschema.Draft202012Validator)


async def test_document_is_valid(client: Rest, document: dict[str, Any]) -> None:
    """OpenAPI 3.1 by an independent validator, with this API's title and version; nobody needs a credential for it."""
    openapi_spec_validator.validate(document)
    assert document["openapi"] == "3.1.0"
    assert document["info"]["title"] == "Codeyard API"
    assert document["info"]["version"] == VERSION
    async with client.session.get(f"{client.yard.url}/api-doc/openapi.json", headers={"authorization": ""}) as answer:
        assert (answer.status, answer.content_type) == (200, "application/json")


async def test_document_lists_every_route(document: dict[str, Any]) -> None:
    """Those of the table, the WebSockets, and the 31 that the documented family has."""
    listed = {(verb.upper(), shape(path)) for path, verbs in document["paths"].items() for verb in verbs}
    table = {(route["verb"], shape(route["path"]).replace("{path=**}", "{}")) for route in ROUTES}
    sockets = {("GET", shape(socket["path"])) for socket in SOCKETS}
    assert table | sockets <= listed
    documented = {(line.split()[0], shape(line.split()[1])) for line in DOCUMENTED.split("\n") if line}
    assert len(documented) == 31
    assert documented <= listed


def bodies() -> dict[str, Any]:
    """Return a body for each operation that takes one."""
    return {
        "CreateAgent": {"name": "x", "description": "d", "system_prompt": "", "tags": ["a"], "capabilities": ["noop"]},
        "UpdateAgent": {"name": "y"},
        "SetAgentCapabilities": {"capabilities": ["noop"]},
        "CreateSession": {"title": "t"},
        "UpdateSession": {"title": "u"},
        "CancelTurn": {},
        "CreateMessage": {
            "message": {"content": [{"type": "text", "text": "hi"}]},
            "controls": {"reasoning": {"effort": "low"}},
            "metadata": {"a": [1, None]},
        },
        "CreateProvider": {"name": "x", "provider_type": "openai", "base_url": "https://x.test", "api_key": "k"},
        "UpdateProvider": {"name": "y"},
        "CreateModel": {"model_id": unused_name(), "display_name": "x", "context_window": 1},
        "UpdateModel": {"display_name": "y"},
        "CreateMcpServer": {"name": unused_name(), "url": "https://x.test/mcp", "headers": {"X-Key": "k"}},
    }


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route['verb']} {route['path']}")
async def test_success_is_as_documented(client: Rest, document: dict[str, Any], route: dict[str, Any]) -> None:
    """Status, content type and every member of the body, on real objects; a stream's JSON alternative as well."""
    world = await new_world(client)
    body = bodies().get(route["rpc"].rsplit("/", 1)[1])
    if route["rpc"].endswith("/GetModel"):
        provider = await client.ok("POST", "/v1/llm-providers", {"name": "x", "provider_type": "openai"})
        created = await client.ok(
            "POST", f"/v1/llm-providers/{provider['id']}/models", {"model_id": "gpt-5", "display_name": "x"}
        )
        values = {"id": created["id"]}
    else:
        values = world.values(route["path"])
    headers = {"accept": "application/json"} | ({"content-type": "application/json"} if body is not None else {})
    data = None if body is None else json.dumps(body).encode()
    answer = await send(client, route["verb"], fill(route["path"], values), data, headers)
    assert answer.status == route["success_status"], answer
    check_answer(document, route["verb"], route["path"].replace("{path=**}", ""), answer)


async def test_conversation_with_tools_is_as_documented(client: Rest, document: dict[str, Any]) -> None:
    """Messages of every role and events of every type of a turn."""
    agent = await client.agent(
        capabilities=["test_math", "file_system"], default_model_id=await client.model("llmsim-tools")
    )
    session = await client.new_session(agent)
    await client.ok("POST", f"{session}/messages", {"content": "hi", "tags": ["a"]})
    await client.until(f"{session}/events", "session.idled")
    template = "/v1/agents/{agent_id}/sessions/{session_id}"
    for place, path in (("", session), ("/messages", f"{session}/messages"), ("/events", f"{session}/events")):
        answer = await send(client, "GET", path, headers={"accept": "application/json"})
        check_answer(document, "GET", template + place, answer)


@pytest.mark.parametrize(
    "route", [r for r in ROUTES if set(parameters(r["path"])) - {"path"}], ids=lambda r: f"{r['verb']} {r['path']}"
)
async def test_failure_is_as_documented(client: Rest, document: dict[str, Any], route: dict[str, Any]) -> None:
    """The errors that every route with an id has: 400, 401, 404, 405."""
    unknown = dict.fromkeys(parameters(route["path"]), str(uuid.uuid4()))
    data = b"{}" if route["max_body_bytes"] else None
    for path, verb, headers in (
        (fill(route["path"], dict.fromkeys(unknown, "x" * 60)), route["verb"], {}),
        (fill(route["path"], unknown), route["verb"], {"authorization": "Bearer x"}),
        (fill(route["path"], unknown), route["verb"], {}),
        (fill(route["path"], unknown), "TRACE", {}),
    ):
        sent = {"content-type": "application/json", **headers} if data else headers
        answer = await send(client, verb, path, data, sent)
        assert 400 <= answer.status < 500
        check_answer(document, route["verb"], route["path"], answer)
