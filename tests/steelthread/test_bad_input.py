"""What no route takes: broken bodies, wrong types, ids of nothing, bytes over the limit. Never a 500.

Most of it is generated from the route table and the descriptors, so that a new route is tested the day it appears.
"""

from __future__ import annotations

import asyncio
import json
import urllib.parse
import uuid
from collections.abc import Mapping
from typing import Any

import grpc as grpc_api
import pytest
from google.protobuf.descriptor import FieldDescriptor

from tests.support.answers import JSON, Answer, check_error, send
from tests.support.client import Rest, rest
from tests.support.grpc_client import message_class, reason
from tests.support.routes import ROUTES, RPCS, fill, parameters
from tests.support.world import World, new_world
from tests.support.yard import Yard

pytestmark = pytest.mark.usefixtures("no_faults")

Route = Mapping[str, Any]

WITH_BODY = [route for route in ROUTES if route["max_body_bytes"]]
WITH_IDS = [route for route in ROUTES if set(parameters(route["path"])) - {"path", "capability_id"}]
LISTS = [
    route
    for route in ROUTES
    if {"limit", "offset"} <= set(message_class(RPCS[route["rpc"]]["request"]).DESCRIPTOR.fields_by_name)
]


def name_of(value: Any) -> str | None:
    """Name a route in a test's id."""
    return f"{value['verb']} {value['path']}" if isinstance(value, dict) and "verb" in value else None


@pytest.fixture(scope="module")
def world(yard: Yard) -> World:
    """Objects that the calls name; no call of this module succeeds, so none changes them."""

    async def make() -> World:
        async with rest(yard) as client:
            return await new_world(client)

    return asyncio.run(make())


async def call(
    client: Rest,
    route: Route,
    values: Mapping[str, str],
    body: bytes | None = b"{}",
    *,
    query: str = "",
    headers: Mapping[str, str] = JSON,
) -> Answer:
    """Call a route with these path parameters."""
    path = fill(route["path"], {name: urllib.parse.quote(value, safe="") for name, value in values.items()})
    sent = dict(headers) if route in WITH_BODY else {"accept": "application/json"}
    return await send(client, route["verb"], path + query, body if route in WITH_BODY else None, sent)


# Bodies


BROKEN = [
    b'{"name": ',
    b"{name: }",
    b'{"name": "x"',
    b"}",
    b"[]",
    b"[{}]",
    b"null",
    b"7",
    b'"text"',
    b"{} {}",
    b"{}\x00",
    b"\xef\xbb\xbf{}",
    b'{"x": "\xff\xfe"}',
    b'{"x": "\xc0\xaf"}',
    b'{"x": "\\ud800"}',
    b'{"x": 1e999}',
    b'{"x": NaN}',
    b'{"x": ' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    b'{"x": ' * 5000 + b"1" + b"}" * 5000,
    b"\x00" * 100,
    b"\x1f\x8b\x08\x00",
]


@pytest.mark.parametrize("route", WITH_BODY, ids=name_of)
async def test_broken_body_is_400(client: Rest, world: World, route: Route) -> None:
    """What is no JSON object, or no UTF-8, or nested beyond reason, is the caller's mistake."""
    for body in BROKEN:
        answer = await call(client, route, world.values(route["path"]), body)
        assert answer.status == 400, body[:60]
        check_error(answer, 400, "INVALID_ARGUMENT")


@pytest.mark.parametrize("route", WITH_BODY, ids=name_of)
async def test_body_over_the_limit_is_413(client: Rest, world: World, route: Route) -> None:
    """5 MB, announced or in chunks; the connection is good for the next call."""
    body = b'{"x": "' + b"x" * 5_000_000 + b'"}'
    check_error(await call(client, route, world.values(route["path"]), body), 413, "TOO_LARGE")

    async def chunks() -> Any:
        for start in range(0, len(body), 500_000):
            yield body[start : start + 500_000]

    path = client.yard.url + fill(route["path"], world.values(route["path"]))
    async with client.session.request(route["verb"], path, data=chunks(), headers=JSON) as answer:
        assert answer.status == 413
        assert (await answer.json())["code"] == "TOO_LARGE"
    await client.ok("GET", "/health")


@pytest.mark.parametrize("route", WITH_BODY, ids=name_of)
async def test_body_of_another_type_is_415(client: Rest, world: World, route: Route) -> None:
    """Only JSON is taken; a body without a type is not guessed at."""
    types = ["text/xml", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "x"]
    for kind in types:
        answer = await call(client, route, world.values(route["path"]), b"<x/>", headers={"content-type": kind})
        check_error(answer, 415, "UNSUPPORTED_MEDIA_TYPE")


@pytest.mark.parametrize(
    "kind", ["application/json; charset=utf-8", "Application/JSON", "application/merge-patch+json"]
)
async def test_json_is_taken_under_each_of_its_names(client: Rest, world: World, kind: str) -> None:
    """Parameters, case and a structured suffix do not matter."""
    answer = await send(client, "PATCH", f"/v1/agents/{world.agent}", b"{}", {"content-type": kind})
    assert answer.status == 200


def wrong_values(field: Any) -> list[Any]:
    """Return JSON values that a field cannot hold."""
    if field.message_type is not None and field.message_type.full_name in (
        "google.protobuf.Value",
        "google.protobuf.ListValue",
    ):
        return [7, "x", True, {}, {"a": 1}] if field.name in ("tags", "capabilities") else []
    if field.message_type is not None and not field.is_repeated:
        return [7, "x", True, [1]]
    wrong: dict[int, list[Any]] = {
        FieldDescriptor.TYPE_STRING: [7, 1.5, True, {}, {"a": 1}],
        FieldDescriptor.TYPE_INT32: ["x", "", 1.5, 2**31, -(2**31) - 1, 10**30, True, {"a": 1}],
        FieldDescriptor.TYPE_BOOL: ["x", 2, 1.5, {"a": 1}],
        FieldDescriptor.TYPE_MESSAGE: [7, "x", [7]],
    }
    values = wrong[field.type]
    return [[value] for value in values] + [{"a": 1}] if field.is_repeated else [*values, [{"a": 1}]]


@pytest.mark.parametrize("route", WITH_BODY, ids=name_of)
async def test_member_of_another_type_is_400(client: Rest, world: World, route: Route) -> None:
    """Each member of the request with each type it does not have."""
    request = message_class(RPCS[route["rpc"]]["request"]).DESCRIPTOR
    tried = 0
    for field in request.fields:
        if field.name in parameters(route["path"]):
            continue
        for value in wrong_values(field):
            answer = await call(client, route, world.values(route["path"]), json.dumps({field.name: value}).encode())
            assert answer.status == 400, (field.name, value, answer.body)
            check_error(answer, 400)
            tried += 1
    assert tried or not set(request.fields_by_name) - set(parameters(route["path"]))


@pytest.mark.parametrize("route", WITH_BODY, ids=name_of)
async def test_text_over_every_bound_or_with_nul_is_400(client: Rest, world: World, route: Route) -> None:
    """1.9 MB in any text member, and the NUL character, which no column can hold."""
    request = message_class(RPCS[route["rpc"]]["request"]).DESCRIPTOR
    for field in request.fields:
        if field.type != FieldDescriptor.TYPE_STRING or field.name in parameters(route["path"]):
            continue
        for text in ("x" * 1_900_000, "a\0b"):
            value: Any = [text] if field.is_repeated else text
            body = json.dumps({**valid(route), field.name: value}).encode()
            answer = await call(client, route, world.values(route["path"]), body)
            assert answer.status == 400, (field.name, text[:5], answer.body[:200])
            check_error(answer, 400)


def valid(route: Route) -> dict[str, Any]:
    """Return a body that the route takes."""
    return {
        "CreateAgent": {"name": "x", "system_prompt": ""},
        "CreateProvider": {"name": "x", "provider_type": "llmsim"},
        "CreateModel": {"model_id": "llmsim-bad", "display_name": "x"},
        "CreateMessage": {"role": "system", "content": "x"},
        "CreateMcpServer": {"name": "bad", "url": "https://x.test/mcp"},
    }.get(route["rpc"].rsplit("/", 1)[1], {})


@pytest.mark.parametrize("depth", [90, 99])
async def test_value_nested_by_90_levels_is_400(client: Rest, world: World, depth: int) -> None:
    """What the gateway still parses is more than a message can hold."""
    path = f"/v1/agents/{world.agent}/sessions/{world.session}/messages"
    for opening, closing in (("[", "]"), ('{"a":', "}")):
        nested = f"{opening * depth}1{closing * depth}"
        for member in (f'"content": "x", "metadata": {{"a": {nested}}}', f'"role": "agent", "content": {nested}'):
            check_error(await send(client, "POST", path, f"{{{member}}}".encode()), 400, "INVALID_ARGUMENT")


async def test_repeated_member_is_never_a_fault(client: Rest) -> None:
    """The last of two texts counts, as in most parsers; a map or an object with two equal keys is refused."""
    answer = await send(client, "POST", "/v1/agents", b'{"name": "a", "name": "b", "system_prompt": ""}')
    assert (answer.status, answer.json["name"]) == (201, "b")
    path = await client.new_session(await client.agent())
    twice = b'{"role": "system", "content": "x", "metadata": {"a": 1, "a": 2}}'
    check_error(await send(client, "POST", f"{path}/messages", twice), 400, "INVALID_ARGUMENT")


# Paths and queries


@pytest.mark.parametrize("route", WITH_IDS, ids=name_of)
async def test_id_that_is_no_uuid_is_400(client: Rest, world: World, route: Route) -> None:
    """Each id of each path: too short, without hyphens, with braces, with bytes that are no text."""
    values = world.values(route["path"])
    for name in set(parameters(route["path"])) - {"path", "capability_id"}:
        for bad in ("x", "7", uuid.uuid4().hex, f"{{{uuid.uuid4()}}}", f"{uuid.uuid4()} ", "..%2f", "ü", "x" * 2000):
            answer = await call(client, route, {**values, name: bad}, json.dumps(valid(route)).encode())
            check_error(answer, 400, "INVALID_ARGUMENT")
        for raw in ("%00", "%ff"):
            path = fill(route["path"], {**values, name: raw})
            check_error(await send(client, route["verb"], path, b"{}" if route in WITH_BODY else None), 400)


@pytest.mark.parametrize("route", WITH_IDS, ids=name_of)
async def test_id_of_nothing_is_404(client: Rest, world: World, route: Route) -> None:
    """Each id of each path, one at a time, also the nil UUID."""
    body: Any = {"SetAgentCapabilities": {"capabilities": []}}.get(route["rpc"].rsplit("/", 1)[1], valid(route))
    for name in set(parameters(route["path"])) - {"path", "capability_id"}:
        for unknown in (str(uuid.uuid4()), str(uuid.UUID(int=0))):
            values = {**world.values(route["path"]), name: unknown}
            check_error(await call(client, route, values, json.dumps(body).encode()), 404, "NOT_FOUND")


@pytest.mark.parametrize("route", LISTS, ids=name_of)
async def test_paging_value_out_of_bounds_is_400(client: Rest, world: World, route: Route) -> None:
    """limit, offset and page_token of every list."""
    queries = [f"limit={value}" for value in ("-1", "0", "1001", "x", "", "1.5", "99999999999999999999", "%00")]
    queries += [f"offset={value}" for value in ("-1", "x", "", "2147483648", "1e3")]
    if "page_token" in message_class(RPCS[route["rpc"]]["request"]).DESCRIPTOR.fields_by_name:
        far = "WyIwMDAxLTAxLTAxVDAwOjAwOjAwKzIzOjU5IiwgIjAwMDAwMDAwLTAwMDAtMDAwMC0wMDAwLTAwMDAwMDAwMDAwMCJd"
        naive = "WyIyMDI1LTAxLTAxVDAwOjAwOjAwIiwgIjAwMDAwMDAwLTAwMDAtMDAwMC0wMDAwLTAwMDAwMDAwMDAwMCJd"
        bad = ("", "x", "%00", "W10", "e30", "bnVsbA", "x" * 513, "-1", "1e3", naive, far)
        queries += [f"page_token={value}" for value in bad]
    for query in queries:
        answer = await call(client, route, world.values(route["path"]), query=f"?{query}")
        assert answer.status == 400, query
        check_error(answer, 400, "INVALID_ARGUMENT")


async def test_largest_offset_is_an_empty_page(client: Rest) -> None:
    """Nothing overflows on the way."""
    answer = await client.ok("GET", "/v1/agents?offset=2147483647&limit=1000")
    assert answer["items"] == []


async def test_query_cannot_replace_what_the_path_says(client: Rest, world: World) -> None:
    """A parameter of the path's name in the query is ignored."""
    other = await client.agent()
    answer = await client.ok("GET", f"/v1/agents/{world.agent}?id={other['id']}")
    assert answer["id"] == world.agent
    body = json.dumps({"id": other["id"], "tags": ["mine"]}).encode()
    answer = await send(client, "PATCH", f"/v1/agents/{world.agent}", body)
    assert answer.status in (200, 400)
    assert (await client.ok("GET", f"/v1/agents/{other['id']}"))["tags"] == []


async def test_unknown_paths_are_404_and_wrong_methods_405(client: Rest) -> None:
    """In the flat shape, with the methods that would be right."""
    for path in ("/", "/v1", "/v1/nothing", "/v1/agents/a/b/c", "/V1/agents", "/v2/agents", "/api/v1/agents"):
        check_error(await send(client, "GET", path), 404, "ROUTE_NOT_FOUND")
    verbs: dict[str, set[str]] = {}
    for route in ROUTES:
        verbs.setdefault(route["path"].replace("{path=**}", ""), set()).add(route["verb"])
    for path, allowed in verbs.items():
        for verb in {"GET", "POST", "PUT", "PATCH", "DELETE"} - allowed:
            answer = await send(client, verb, fill(path, dict.fromkeys(parameters(path), str(uuid.uuid4()))))
            check_error(answer, 405, "METHOD_NOT_ALLOWED")
            assert set(answer.headers["allow"].split(", ")) - {"HEAD"} == allowed


async def test_head_answers_like_get_without_a_body(client: Rest, world: World) -> None:
    """The length is that of GET; on a stream it is no method, and the connection stays in step."""
    for path in (f"/v1/agents/{world.agent}", "/v1/llm-models", "/api-doc/openapi.json"):
        get, head = await send(client, "GET", path), await send(client, "HEAD", path)
        assert (head.status, head.body) == (200, b"")
        assert head.headers["content-length"] == str(len(get.body))
    for path, status in ((f"/v1/agents/{world.agent}/sessions/{world.session}/events", 405), ("/v1/nothing", 404)):
        answer = await send(client, "HEAD", path)
        assert (answer.status, answer.body) == (status, b"")
    await client.ok("GET", "/health")


async def test_request_id_is_kept_when_it_is_sane(client: Rest) -> None:
    """On successes and on errors of every kind; anything else gets one of the gateway's."""
    for path in ("/health", "/v1/agents/x", f"/v1/agents/{uuid.uuid4()}", "/v1/nothing", "/v1/agents?limit=x"):
        answer = await send(client, "GET", path, headers={"x-request-id": "My-Id_1.2"})
        assert answer.headers["x-request-id"] == "My-Id_1.2"
        for bad in ("a b", "x" * 129, "<script>", "ü".encode().decode("latin-1")):
            answer = await send(client, "GET", path, headers={"x-request-id": bad})
            assert uuid.UUID(answer.headers["x-request-id"])


# Answers


async def test_answer_over_a_megabyte_arrives_whole(client: Rest, world: World) -> None:
    """1 MiB of text that JSON makes six times as long."""
    prompt = "<&>'\"\\" * (1024 * 1024 // 6)
    await client.ok("PATCH", f"/v1/agents/{world.agent}", {"system_prompt": prompt})
    answer = await send(client, "GET", f"/v1/agents/{world.agent}")
    assert answer.status == 200 and len(answer.body) > 2 * 1024 * 1024
    assert answer.json["system_prompt"] == prompt
    await client.ok("PATCH", f"/v1/agents/{world.agent}", {"system_prompt": ""})


# Native gRPC


@pytest.mark.parametrize("rpc", [path for path, rpc in RPCS.items() if rpc["streaming"] == "unary"])
async def test_bytes_that_are_no_message_are_refused(yard: Yard, rpc: str) -> None:
    """INVALID_ARGUMENT where they do not decode, over native gRPC too."""
    fields = message_class(RPCS[rpc]["request"]).DESCRIPTOR.fields
    has_text_first = bool(fields) and fields[0].type == FieldDescriptor.TYPE_STRING
    async with grpc_api.aio.insecure_channel(f"127.0.0.1:{yard.port}") as channel:
        invoke = channel.unary_unary(rpc, request_serializer=bytes, response_deserializer=bytes)
        for request in (b"\xff\xff\xff\xff", b"\x0a\x7f", b"\x0a\x02\xff\xfe"):
            if request[1] == 2 and not has_text_first:
                continue  # an unknown field, which is ignored
            with pytest.raises(grpc_api.aio.AioRpcError) as caught:
                await invoke(request, metadata=tuple(yard.headers.items()), timeout=30)
            assert caught.value.code() is grpc_api.StatusCode.INVALID_ARGUMENT, request
            assert reason(caught.value) == "INVALID_ARGUMENT"
