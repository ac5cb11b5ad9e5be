"""Providers and models: shapes, order, keys that are never seen again, defaults, and which model a turn takes."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from tests.support.accounts import dump
from tests.support.answers import check_error, send
from tests.support.client import Rest
from tests.support.grpc_client import Grpc
from tests.support.processes import free_port
from tests.support.providers import new_model, new_provider, remove
from tests.support.yard import Yard

pytestmark = pytest.mark.usefixtures("no_faults")

PROVIDERS = "/v1/llm-providers"
MODELS = "/v1/llm-models"


@pytest.fixture
async def provider(client: Rest) -> AsyncIterator[dict[str, Any]]:
    """A simulator of this test's own."""
    provider = await new_provider(client)
    yield provider
    await remove(client, provider)


@pytest.fixture
async def defaults_kept(client: Rest) -> AsyncIterator[str]:
    """Gives the yard its defaults back after the test; the id of the default model."""
    (default,) = [model for model in await client.ok("GET", MODELS) if model["is_default"]]
    yield default["id"]
    await client.ok("PATCH", f"{MODELS}/{default['id']}", {"is_default": True})
    await client.ok("PATCH", f"{PROVIDERS}/{default['provider_id']}", {"is_default": True})


async def default_models(client: Rest) -> list[str]:
    """Return the ids of the models that call themselves the default."""
    return [model["id"] for model in await client.ok("GET", MODELS) if model["is_default"]]


# Providers


async def test_create_provider_answers_all_but_the_key(client: Rest) -> None:
    """201; whether a key is set is all that is ever said of it."""
    given = {"name": "Own", "provider_type": "custom", "base_url": "https://models.example.com/v1"}
    status, provider = await client.call("POST", PROVIDERS, {**given, "api_key": "sk-not-real"})
    assert status == 201
    assert provider == {
        **given,
        "id": provider["id"],
        "api_key_set": True,
        "is_default": False,
        "status": "active",
        "created_at": provider["created_at"],
        "updated_at": provider["created_at"],
    }
    assert await client.ok("GET", f"{PROVIDERS}/{provider['id']}") == provider
    await remove(client, provider)


@pytest.mark.parametrize("kind", ["openai", "anthropic", "azure_openai", "ollama", "custom", "llmsim"])
async def test_create_provider_takes_every_type(client: Rest, kind: str) -> None:
    """Without a key and an address: no base_url, api_key_set false."""
    provider = await new_provider(client, provider_type=kind)
    assert provider["provider_type"] == kind
    assert provider["api_key_set"] is False
    assert "base_url" not in provider
    await remove(client, provider)


@pytest.mark.parametrize(
    "body",
    [
        {"provider_type": "llmsim"},
        {"name": " ", "provider_type": "llmsim"},
        {"name": "x" * 256, "provider_type": "llmsim"},
        {"name": "x"},
        {"name": "x", "provider_type": "OpenAI"},
        {"name": "x", "provider_type": "llmsim", "base_url": "ftp://example.com"},
        {"name": "x", "provider_type": "llmsim", "base_url": "https://" + "x" * 2041},
        {"name": "x", "provider_type": "llmsim", "api_key": ""},
        {"name": "x", "provider_type": "llmsim", "api_key": "x" * 4097},
    ],
    ids=str,
)
async def test_create_provider_is_refused_when_a_bound_is_broken(client: Rest, body: dict[str, Any]) -> None:
    """400, and nothing is stored."""
    before = (await client.ok("GET", PROVIDERS))["total"]
    status, answer = await client.call("POST", PROVIDERS, body)
    assert (status, answer["code"]) == (400, "INVALID_ARGUMENT")
    assert (await client.ok("GET", PROVIDERS))["total"] == before


async def test_providers_are_listed_newest_first_in_any_status(client: Rest) -> None:
    """In the envelope, with paging; the disabled ones too."""
    created = [await new_provider(client, name=f"listed {number}") for number in range(3)][::-1]
    disabled = await client.ok("PATCH", f"{PROVIDERS}/{created[1]['id']}", {"status": "disabled"})
    answer = await client.ok("GET", PROVIDERS)
    assert answer["items"] == answer["data"]
    assert answer["items"][:3] == [created[0], disabled, created[2]]
    assert answer["total"] == len(answer["items"])
    page = await client.ok("GET", f"{PROVIDERS}?limit=1&offset=1")
    assert page == {"items": [disabled], "data": [disabled], "total": answer["total"]}
    for provider in created:
        await remove(client, provider)


async def test_providers_are_sent_once_over_grpc(grpc: Grpc) -> None:
    """``data`` is for REST clients."""
    answer = await grpc.call("/codeyard.models.v1.ProviderService/ListProviders", {})
    assert answer.items
    assert not answer.data


async def test_patch_provider_changes_only_what_is_present(client: Rest, provider: dict[str, Any]) -> None:
    """Absent and null members stay, {} is valid, updated_at moves."""
    path = f"{PROVIDERS}/{provider['id']}"
    changed = await client.ok("PATCH", path, {"name": "Other", "base_url": None, "is_default": None})
    assert changed == {**provider, "name": "Other", "updated_at": changed["updated_at"]}
    again = await client.ok("PATCH", path, {})
    assert again == {**changed, "updated_at": again["updated_at"]}
    assert provider["updated_at"] < changed["updated_at"] < again["updated_at"]
    keyed = await client.ok("PATCH", path, {"api_key": "sk-not-real"})
    assert keyed["api_key_set"] is True
    status, answer = await client.call("PATCH", path, {"status": "gone"})
    assert (status, answer["code"]) == (400, "INVALID_ARGUMENT")


@pytest.mark.usefixtures("defaults_kept")
async def test_at_most_one_provider_is_the_default(client: Rest, provider: dict[str, Any]) -> None:
    """To create one as default and to make one the default both take it from the others."""
    second = await new_provider(client, is_default=True)
    assert second["is_default"] is True
    assert [item["id"] for item in (await client.ok("GET", PROVIDERS))["items"] if item["is_default"]] == [second["id"]]
    moved = await client.ok("PATCH", f"{PROVIDERS}/{provider['id']}", {"is_default": True})
    assert moved["is_default"] is True
    defaults = [item["id"] for item in (await client.ok("GET", PROVIDERS))["items"] if item["is_default"]]
    assert defaults == [provider["id"]]
    await remove(client, second)


async def test_disabled_provider_hides_its_models(client: Rest, provider: dict[str, Any]) -> None:
    """They leave the list of usable models, and come back with it."""
    model = await new_model(client, provider, "llmsim-hidden")
    path = f"{PROVIDERS}/{provider['id']}"
    await client.ok("PATCH", path, {"status": "disabled"})
    assert model["id"] not in {item["id"] for item in await client.ok("GET", MODELS)}
    assert (await client.ok("GET", f"{MODELS}/{model['id']}"))["status"] == "active"
    await client.ok("PATCH", path, {"status": "active"})
    assert model["id"] in {item["id"] for item in await client.ok("GET", MODELS)}


async def test_delete_provider_takes_its_models_and_empties_references(client: Rest) -> None:
    """204; agents and sessions that named one of its models name none."""
    provider = await new_provider(client)
    model = await new_model(client, provider, "llmsim-doomed")
    agent = await client.agent(default_model_id=model["id"])
    session = await client.new_session(agent)
    path = f"{PROVIDERS}/{provider['id']}"
    gone = await send(client, "DELETE", path)
    assert (gone.status, gone.body) == (204, b"")
    check_error(await send(client, "DELETE", path), 404, "NOT_FOUND")
    check_error(await send(client, "GET", path), 404, "NOT_FOUND")
    check_error(await send(client, "GET", f"{MODELS}/{model['id']}"), 404, "NOT_FOUND")
    check_error(await send(client, "GET", f"{path}/models"), 404, "NOT_FOUND")
    assert "default_model_id" not in await client.ok("GET", f"/v1/agents/{agent['id']}")
    assert "model_id" not in await client.ok("GET", session)


@pytest.fixture
async def indiscreet_vendor() -> AsyncIterator[tuple[str, list[str]]]:
    """A model server that refuses every key and quotes it: its address, and what it has said."""
    said: list[str] = []

    async def refuse(request: web.Request) -> web.Response:
        said.append(f"Incorrect API key provided: {request.headers['authorization']}")
        return web.json_response({"error": {"message": said[-1], "type": "invalid_request_error"}}, status=401)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", refuse)
    runner = web.AppRunner(application)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    yield f"http://127.0.0.1:{port}/v1", said
    await runner.cleanup()


async def test_key_is_never_seen_again(client: Rest, yard: Yard, indiscreet_vendor: tuple[str, list[str]]) -> None:
    """Not in an answer, an event, a log or the database, even when the vendor quotes it in an error."""
    address, said = indiscreet_vendor
    key = f"sk-{uuid.uuid4().hex}"
    provider = await new_provider(client, provider_type="openai", api_key=key, base_url=address)
    model = await new_model(client, provider, "gpt-4o")
    path = f"{PROVIDERS}/{provider['id']}"
    session = await client.new_session(await client.agent(), model_id=model["id"])
    await client.ok("POST", f"{session}/messages", {"content": "hi"})
    frames = await client.until(f"{session}/events", "session.idled")
    assert [frame.data["data"]["error_code"] for frame in frames if frame.event == "turn.failed"] == ["llm_error"]
    assert key in said[0]
    seen = [json.dumps(provider), *(json.dumps(frame.data) for frame in frames)]
    seen += [str(await client.ok("PATCH", path, {"api_key": key})), str(await client.ok("GET", path))]
    seen += [
        str(await client.ok("GET", place)) for place in (PROVIDERS, MODELS, f"{path}/models", f"{session}/messages")
    ]
    seen += [log.read_text(errors="replace") for log in yard.data.glob("log/*.log")]
    seen += [await dump(yard)]
    assert provider["id"] in seen[-1]
    await remove(client, provider)
    for text in seen:
        assert key not in text
        assert key.encode().hex() not in text


# Models


async def test_create_model_answers_the_model(client: Rest, provider: dict[str, Any]) -> None:
    """201 with what was given; the provider is known and not repeated."""
    given = {"model_id": "llmsim-x", "display_name": "X", "capabilities": ["chat", "vision"], "context_window": 4096}
    status, model = await client.call("POST", f"{PROVIDERS}/{provider['id']}/models", given)
    assert status == 201
    assert model == {
        **given,
        "id": model["id"],
        "provider_id": provider["id"],
        "is_default": False,
        "status": "active",
        "created_at": model["created_at"],
        "updated_at": model["created_at"],
    }
    bare = await new_model(client, provider, "llmsim-y")
    assert bare["capabilities"] == []
    assert "context_window" not in bare


@pytest.mark.parametrize(
    "body",
    [
        {"display_name": "x"},
        {"model_id": " ", "display_name": "x"},
        {"model_id": "x" * 256, "display_name": "x"},
        {"model_id": "x"},
        {"model_id": "x", "display_name": "x", "context_window": 0},
        {"model_id": "x", "display_name": "x", "context_window": 2**31},
        {"model_id": "x", "display_name": "x", "capabilities": ["x"] * 101},
    ],
    ids=str,
)
async def test_create_model_is_refused_when_a_bound_is_broken(
    client: Rest, provider: dict[str, Any], body: dict[str, Any]
) -> None:
    """400, and nothing is stored."""
    status, answer = await client.call("POST", f"{PROVIDERS}/{provider['id']}/models", body)
    assert (status, answer["code"]) == (400, "INVALID_ARGUMENT")
    assert await client.ok("GET", f"{PROVIDERS}/{provider['id']}/models") == []


async def test_model_names_are_unique_within_a_provider(client: Rest, provider: dict[str, Any]) -> None:
    """A second one is a 400, created or renamed; under another provider it is another model."""
    await new_model(client, provider, "llmsim-one")
    other = await new_model(client, provider, "llmsim-two")
    body = {"model_id": "llmsim-one", "display_name": "Again"}
    status, answer = await client.call("POST", f"{PROVIDERS}/{provider['id']}/models", body)
    assert (status, answer["code"]) == (400, "MODEL_EXISTS")
    status, answer = await client.call("PATCH", f"{MODELS}/{other['id']}", {"model_id": "llmsim-one"})
    assert (status, answer["code"]) == (400, "MODEL_EXISTS")
    second = await new_provider(client)
    assert (await new_model(client, second, "llmsim-one"))["model_id"] == "llmsim-one"
    await remove(client, second)


async def test_models_of_a_provider_are_a_bare_array_by_display_name(client: Rest, provider: dict[str, Any]) -> None:
    """All statuses, no envelope."""
    created = [await new_model(client, provider, f"llmsim-{name}", display_name=name) for name in "bca"]
    disabled = await client.ok("PATCH", f"{MODELS}/{created[0]['id']}", {"status": "disabled"})
    answer = await client.ok("GET", f"{PROVIDERS}/{provider['id']}/models")
    assert answer == [created[2], disabled, created[1]]


async def test_models_are_a_bare_array_of_usable_ones_by_provider_and_name(client: Rest) -> None:
    """Sorted by provider name, then display name; each with its provider; the disabled ones are left out."""
    late, early = await new_provider(client, name="~ late"), await new_provider(client, name="~ early")
    for provider in (late, early):
        for name in ("b", "a", "off"):
            model = await new_model(client, provider, f"llmsim-{name}", display_name=name)
        await client.ok("PATCH", f"{MODELS}/{model['id']}", {"status": "disabled"})
    answer = await client.ok("GET", MODELS)
    own = [(model["provider_name"], model["display_name"]) for model in answer if model["provider_name"][0] == "~"]
    assert own == [("~ early", "a"), ("~ early", "b"), ("~ late", "a"), ("~ late", "b")]
    assert {model["provider_type"] for model in answer} == {"llmsim"}
    assert all(model["status"] == "active" for model in answer)
    for provider in (late, early):
        await remove(client, provider)


async def test_get_model_returns_any_status_with_its_provider(client: Rest, provider: dict[str, Any]) -> None:
    """The name of a simulator's model is no profile."""
    model = await new_model(client, provider, "gpt-4o")
    await client.ok("PATCH", f"{MODELS}/{model['id']}", {"status": "disabled"})
    found = await client.ok("GET", f"{MODELS}/{model['id']}")
    assert (found["status"], found["provider_name"], found["provider_type"]) == ("disabled", provider["name"], "llmsim")
    assert "profile" not in found


@pytest.mark.parametrize(
    ("kind", "model", "name", "reasoning", "effort", "cache_read"),
    [
        ("openai", "gpt-4o-2024-11-20", "GPT-4o", False, None, 1.25),
        ("azure_openai", "gpt-4o-mini", "GPT-4o mini", False, None, 0.075),
        ("openai", "gpt-5.2-codex", "GPT-5.2 Codex", True, "none", 0.175),
        ("openai", "o1-pro", "o1-pro", True, "high", None),
        ("anthropic", "claude-sonnet-4-5-20250929", "Claude Sonnet 4.5", True, None, 0.3),
    ],
)
async def test_profile_is_known_by_type_and_name(
    client: Rest, kind: str, model: str, name: str, reasoning: bool, effort: str | None, cache_read: float | None
) -> None:
    """The longest entry that the name equals or continues after a dash counts."""
    provider = await new_provider(client, provider_type=kind)
    created = await new_model(client, provider, model)
    profile = (await client.ok("GET", f"{MODELS}/{created['id']}"))["profile"]
    await remove(client, provider)
    assert (profile["name"], profile["reasoning"], profile["open_weights"]) == (name, reasoning, False)
    assert profile["cost"].get("cache_read") == cache_read
    assert profile.get("reasoning_effort", {}).get("default") == effort
    assert profile["limits"].keys() == {"context", "output"}
    assert "text" in profile["modalities"]["input"]


@pytest.mark.parametrize(
    ("kind", "model"),
    [("openai", "my-model"), ("openai", "claude-sonnet-4-5"), ("ollama", "gpt-4o"), ("custom", "gpt-4o")],
)
async def test_profile_is_absent_when_type_or_name_is_unknown(client: Rest, kind: str, model: str) -> None:
    """A name says nothing under another vendor's type."""
    provider = await new_provider(client, provider_type=kind)
    created = await new_model(client, provider, model)
    assert "profile" not in await client.ok("GET", f"{MODELS}/{created['id']}")
    await remove(client, provider)


async def test_patch_model_changes_only_what_is_present(client: Rest, provider: dict[str, Any]) -> None:
    """Absent and null members stay, labels are replaced as a whole, {} is valid."""
    model = await new_model(client, provider, "llmsim-p", capabilities=["chat"], context_window=10)
    path = f"{MODELS}/{model['id']}"
    changed = await client.ok("PATCH", path, {"display_name": "P", "context_window": None})
    assert changed == {**model, "display_name": "P", "updated_at": changed["updated_at"]}
    assert changed["updated_at"] > model["updated_at"]
    cleared = await client.ok("PATCH", path, {"capabilities": []})
    assert cleared["capabilities"] == []
    again = await client.ok("PATCH", path, {})
    assert again == {**cleared, "updated_at": again["updated_at"]}


async def test_default_moves_and_is_never_doubled(client: Rest, provider: dict[str, Any], defaults_kept: str) -> None:
    """By creation and by change, across providers; false takes it away."""
    first = await new_model(client, provider, "llmsim-first", is_default=True)
    assert first["is_default"] is True
    assert await default_models(client) == [first["id"]]
    await client.ok("PATCH", f"{MODELS}/{defaults_kept}", {"is_default": True})
    assert await default_models(client) == [defaults_kept]
    await client.ok("PATCH", f"{MODELS}/{defaults_kept}", {"is_default": False})
    assert await default_models(client) == []


async def test_delete_model_empties_references(client: Rest, provider: dict[str, Any]) -> None:
    """204, then 404; what named it names none."""
    model = await new_model(client, provider, "llmsim-d")
    agent = await client.agent(default_model_id=model["id"])
    session = await client.new_session(agent)
    path = f"{MODELS}/{model['id']}"
    gone = await send(client, "DELETE", path)
    assert (gone.status, gone.body) == (204, b"")
    check_error(await send(client, "DELETE", path), 404, "NOT_FOUND")
    assert "default_model_id" not in await client.ok("GET", f"/v1/agents/{agent['id']}")
    assert "model_id" not in await client.ok("GET", session)


async def test_model_that_is_deleted_while_others_refer_to_it_is_known_or_not(
    client: Rest, provider: dict[str, Any]
) -> None:
    """Whoever comes first: the agent has no model any more, or there is none of this id."""

    async def refer(name: str) -> tuple[int, int, int]:
        model = await new_model(client, provider, name)
        agent = {"name": "x", "system_prompt": "", "default_model_id": model["id"]}
        calls = await asyncio.gather(
            client.call("POST", "/v1/agents", agent),
            client.call("DELETE", f"{MODELS}/{model['id']}"),
            client.call("POST", f"{PROVIDERS}/{provider['id']}/models", {"model_id": name, "display_name": "again"}),
        )
        return calls[0][0], calls[1][0], calls[2][0]

    for created, deleted, again in await asyncio.gather(*(refer(f"llmsim-{number}") for number in range(20))):
        assert created in (201, 400)
        assert deleted == 204
        assert again in (201, 400)


# Which model a turn takes


async def asked(client: Rest, session: str, **controls: Any) -> dict[str, Any]:
    """Send a message, and return the agent's message that ends its turn."""
    message = await client.ok("POST", f"{session}/messages", {"content": "hi", "controls": controls})
    frames = await client.until(
        f"{session}/events?since_id={await _event_of(client, session, message)}", "session.idled"
    )
    (reply,) = [frame.data["data"]["message"] for frame in frames if frame.event == "message.agent"]
    return dict(reply)


async def _event_of(client: Rest, session: str, message: dict[str, Any]) -> str:
    events = await client.ok("GET", f"{session}/events", accept="application/json")
    return next(str(event["id"]) for event in events["items"] if event["sequence"] == message["sequence"])


async def test_turn_takes_the_first_model_of_the_chain_that_can_be_used(client: Rest, provider: dict[str, Any]) -> None:
    """The message's, the session's, the agent's, the default; each falls out when it is disabled or deleted."""
    names = ["llmsim-by-message", "llmsim-by-session", "llmsim-by-agent"]
    by_message, by_session, by_agent = [await new_model(client, provider, name) for name in names]
    agent = await client.agent()
    session = await client.new_session(agent, model_id=by_session["id"])
    await client.ok("PATCH", f"/v1/agents/{agent['id']}", {"default_model_id": by_agent["id"]})

    async def used() -> str:
        return str((await asked(client, session, model_id=by_message["id"]))["metadata"]["model"])

    assert await used() == "llmsim-by-message"
    await client.ok("PATCH", f"{MODELS}/{by_message['id']}", {"status": "disabled"})
    assert await used() == "llmsim-by-session"
    await client.ok("DELETE", f"{MODELS}/{by_session['id']}")
    assert await used() == "llmsim-by-agent"
    await client.ok("PATCH", f"{PROVIDERS}/{provider['id']}", {"status": "disabled"})
    assert await used() == "llmsim"
    await client.ok("PATCH", f"{PROVIDERS}/{provider['id']}", {"status": "active"})
    await client.ok("PATCH", f"{MODELS}/{by_message['id']}", {"status": "active"})
    assert await used() == "llmsim-by-message"


async def test_controls_hold_for_their_own_turn_only(client: Rest, provider: dict[str, Any]) -> None:
    """Model and effort are the last message's; an id of no model is passed over."""
    model = await new_model(client, provider, "llmsim-once")
    session = await client.new_session(await client.agent())
    reply = await asked(client, session, model_id=model["id"], reasoning={"effort": "high"})
    assert reply["metadata"] == {"model": "llmsim-once", "reasoning_effort": "high"}
    assert (await asked(client, session))["metadata"] == {"model": "llmsim"}
    assert (await asked(client, session, model_id=str(uuid.uuid4())))["metadata"] == {"model": "llmsim"}


async def test_turn_fails_clearly_when_no_model_is_left(client: Rest, defaults_kept: str) -> None:
    """An apology, llm_error, idle; the next message is answered once there is a model again."""
    await client.ok("PATCH", f"{MODELS}/{defaults_kept}", {"is_default": False})
    session = await client.new_session(await client.agent())
    await client.ok("POST", f"{session}/messages", {"content": "hi"})
    frames = await client.until(f"{session}/events", "session.idled")
    (failed,) = [frame.data["data"] for frame in frames if frame.event == "turn.failed"]
    assert failed["error_code"] == "llm_error"
    await client.ok("PATCH", f"{MODELS}/{defaults_kept}", {"is_default": True})
    assert (await asked(client, session))["metadata"] == {"model": "llmsim"}
