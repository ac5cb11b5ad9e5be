"""What the gateway makes of the answers and errors of a server."""

from __future__ import annotations

import json

import aiohttp
import httpx2
import pytest

from tests.gateway.gateway import Gateway

FLAT = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ALREADY_EXISTS",
    429: "RATE_LIMITED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
GRPC_CODES = {
    1: 499,
    2: 500,
    3: 400,
    4: 504,
    5: 404,
    6: 409,
    7: 403,
    8: 429,
    12: 501,
    13: 500,
    14: 503,
    15: 500,
    16: 401,
}


async def test_status_is_the_one_of_the_server_when_it_sends_one(http: aiohttp.ClientSession) -> None:
    """x-http-code becomes the status and is not passed on; cookies stay separate headers."""
    async with http.post("/v1/things", json={"title": "Lamp"}) as answer:
        assert answer.status == 201
        assert "x-http-code" not in answer.headers
        assert answer.headers.getall("set-cookie") == ["a=1", "b=2"]
        assert (await answer.json())["title"] == "Lamp"


async def test_headers_of_grpc_and_envoy_do_not_reach_the_caller(http: aiohttp.ClientSession) -> None:
    """A successful answer shows neither how it was carried nor by what."""
    async with http.get("/v1/things/a") as answer:
        names = {name.lower() for name in answer.headers}
        assert not {name for name in names if name.startswith(("grpc-", "x-envoy-", "x-http-", "x-unwrap"))}
        assert answer.headers["server"] == "codeyard"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-type"] == "application/json"


async def test_error_body_of_the_server_is_sent_as_it_is(http: aiohttp.ClientSession) -> None:
    """The finished body in the trailing metadata is the body; other metadata stay headers."""
    async with http.get("/v1/things/missing") as answer:
        assert answer.status == 404
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["retry-after"] == "7"
        assert await answer.json() == {"error": 'no thing "missing" \N{SNOWMAN}', "status": 404, "code": "NOT_FOUND"}
        assert "x-error-body" not in answer.headers


@pytest.mark.parametrize("path", ["/v1/fail", "/v2/nested"])
async def test_error_body_of_8_kib_arrives_when_the_server_sends_one(http: aiohttp.ClientSession, path: str) -> None:
    """The largest body the contract allows fits into the metadata."""
    body = json.dumps({"error": "e" * 8000, "status": 409})
    request = {"code": 6, "http_code": "409", "error_body": body, "message": "m"}
    async with http.post(path, json=request) as answer:
        assert (answer.status, await answer.text()) == (409, body)


@pytest.mark.parametrize(("code", "status"), GRPC_CODES.items())
async def test_error_without_a_body_becomes_a_fixed_text_when_flat(
    http: aiohttp.ClientSession, code: int, status: int
) -> None:
    """Every gRPC status has its HTTP status and word; the server's message stays inside."""
    async with http.post("/v1/fail", json={"code": code, "message": "secret table users"}) as answer:
        body = await answer.json()
        assert answer.status == body["status"] == status
        assert body["code"] == FLAT[status]
        assert "secret" not in body["error"]
        assert set(body) == {"error", "status", "code"}


async def test_error_without_a_body_is_nested_when_the_service_says_so(http: aiohttp.ClientSession) -> None:
    """The family of the path decides about the shape."""
    async with http.post("/v2/nested", json={"code": 5}) as answer:
        assert answer.status == 404
        body = await answer.json()
        assert body == {"error": {"code": "NOT_FOUND", "message": body["error"]["message"]}}


async def test_exception_of_the_server_shows_nothing_of_itself(http: aiohttp.ClientSession) -> None:
    """grpc.aio puts the exception's text into the status message; the caller gets a fixed one."""
    async with http.post("/v1/fail", json={"crash": True}) as answer:
        text = await answer.text()
        assert (answer.status, json.loads(text)["code"]) == (500, "INTERNAL")
        assert "secret" not in text + str(answer.headers)
        assert "RuntimeError" not in text + str(answer.headers)


async def test_error_after_early_metadata_has_a_body(http: aiohttp.ClientSession) -> None:
    """When headers went out before the error the trailing metadata are lost; status and a generic body remain."""
    async with http.post("/v1/fail", json={"code": 5, "early_metadata": True}) as answer:
        assert (answer.status, (await answer.json())["code"]) == (404, "NOT_FOUND")
        assert answer.headers["cache-control"] == "no-store"


async def test_answer_that_is_no_error_keeps_its_body_when_its_status_is_one(http: aiohttp.ClientSession) -> None:
    """A health check may answer 503 with the state of the dependencies."""
    async with http.post("/v1/fail", json={"answer_code": "503", "answer_size": 3}) as answer:
        assert (answer.status, (await answer.json())["title"]) == (503, "yyy")


@pytest.mark.parametrize("size", [26_000, 65_000, 200_000])
async def test_huge_error_message_harms_no_other_call(http: aiohttp.ClientSession, size: int) -> None:
    """Beyond Envoy's limit on headers the call itself may become a 503; later calls are answered."""
    async with http.get("/v1/things/a/events", params={"count": "1"}) as stream:
        assert await stream.content.readuntil(b"data: \n\n")
        async with http.post("/v1/fail", json={"code": 3, "padding": size}) as answer:
            assert answer.status in (400, 502, 503)
            assert (await answer.json())["status"] == answer.status
        async with http.get("/v1/things/after") as answer:
            assert answer.status == 200


async def test_list_is_a_bare_array_when_the_rule_names_its_field(http: aiohttp.ClientSession) -> None:
    """x-unwrap cuts the wrapper off; the empty list is []."""
    async with http.get("/v1/things", params={"count": "2", "size": "3"}) as answer:
        body = await answer.read()
        assert [item["title"] for item in json.loads(body)] == ["xxx", "xxx"]
        assert int(answer.headers["content-length"]) == len(body)
        assert "x-unwrap" not in answer.headers
    async with http.get("/v1/things", params={"count": "0"}) as answer:
        assert await answer.text() == "[]"


async def test_list_of_2_mb_is_unwrapped_completely(http: aiohttp.ClientSession) -> None:
    """The body is longer than every buffer on its way."""
    async with http.get("/v1/things", params={"count": "2000", "size": "1000"}) as answer:
        body = await answer.read()
        assert len(body) > 2_000_000
        assert [len(item["title"]) for item in json.loads(body)] == [1000] * 2000


async def test_answer_larger_than_the_limit_is_a_500_in_our_shape() -> None:
    """The transcoder refuses it after Lua's turn, so the mapper of local replies makes the body."""
    with Gateway(backends=1, max_json_bytes=100_000) as small:
        async with aiohttp.ClientSession(small.url) as http:
            async with http.post("/v1/fail", json={"answer_size": 200_000}) as answer:
                assert (answer.status, (await answer.json())["code"]) == (500, "INTERNAL")
            async with http.post("/v2/nested", json={"answer_size": 200_000}) as answer:
                assert (answer.status, (await answer.json())["error"]["code"]) == (500, "INTERNAL")


async def test_answer_that_cannot_be_printed_is_a_502_in_our_shape(http: aiohttp.ClientSession) -> None:
    """More than 32 objects within each other; raised after Lua's turn, like the limit on the size."""
    async with http.post("/v1/fail", json={"answer_depth": 40}) as answer:
        assert (answer.status, (await answer.json())["code"]) == (502, "INTERNAL")
    async with http.post("/v1/fail", json={"answer_depth": 20}) as answer:
        assert answer.status == 200


async def test_angle_brackets_and_large_numbers_survive_the_printer(http: aiohttp.ClientSession) -> None:
    """It writes < and > as escapes, which read the same and are harmless inside a page."""
    async with http.post("/v1/things", json={"title": "<b>\u2028&'\"\\"}) as answer:
        text = await answer.text()
        assert json.loads(text)["title"] == "<b>\u2028&'\"\\"
        assert "<b>" not in text


@pytest.mark.parametrize(("verb", "path", "status"), [("DELETE", "/v1/things/a", 204), ("POST", "/v1/redirect", 303)])
@pytest.mark.parametrize("http2", [False, True])
async def test_body_is_empty_when_the_status_has_none(
    gateway: Gateway, verb: str, path: str, status: int, http2: bool
) -> None:
    """google.protobuf.Empty prints {}; behind a 204 it would be read as the next answer."""
    async with httpx2.AsyncClient(http1=not http2, http2=http2, base_url=gateway.url) as client:
        for _ in range(2):
            answer = await client.request(verb, path)
            assert (answer.status_code, answer.content) == (status, b"")
            assert "content-type" not in answer.headers
            assert answer.headers.get("content-length") == (None if status == 204 else "0")
            assert answer.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
    assert answer.headers.get("location") == (None if status == 204 else "/v1/things")


@pytest.mark.parametrize("http2", [False, True])
async def test_head_has_the_headers_of_get_and_no_body(gateway: Gateway, http2: bool) -> None:
    """HEAD is GET with its body cut off; content-length is the real one."""
    async with httpx2.AsyncClient(http1=not http2, http2=http2, base_url=gateway.url) as client:
        for path in ("/v1/things?count=3&size=2", "/v1/places-unknown", "/v1/things/missing", "/api/places?howMany=2"):
            get, head = await client.get(path), await client.head(path)
            assert (head.status_code, head.content) == (get.status_code, b"")
            if get.status_code != 404 or "missing" in path:
                assert head.headers["content-length"] == get.headers["content-length"]
                assert head.headers["content-type"] == get.headers["content-type"]
        blob = await client.head("/v1/blobs/a?size=123456")
        assert (blob.status_code, blob.headers["content-length"], blob.content) == (200, "123456", b"")


async def test_members_follow_the_casing_of_the_service(http: aiohttp.ClientSession) -> None:
    """Two transcoders print the same API in two casings; a name written by hand is the same in both."""
    async with http.put("/api/places/p1", json={"displayName": "Pier", "access_token": "t"}) as answer:
        assert await answer.json() == {"placeId": "p1", "displayName": "Pier", "access_token": "t"}
    async with http.get("/api/places", params={"howMany": "1"}) as answer:
        assert await answer.json() == [{"placeId": "0", "displayName": "", "access_token": ""}]
    async with http.get("/v1/things/a") as answer:
        assert {"id", "title", "received", "process", "sizes"} <= set(await answer.json())


async def test_unset_optional_members_are_absent_and_zero_values_printed(http: aiohttp.ClientSession) -> None:
    """Presence is what distinguishes them; a field for gRPC clients is never printed."""
    async with http.post("/v1/things", json={"title": ""}) as answer:
        body = await answer.json()
        assert body["title"] == ""
        assert body["sizes"] == []
        assert not {"note", "created_at", "internal_note"} & set(body)
    async with http.get("/api/places/p1/thing") as answer:
        assert "internalNote" not in await answer.json()


async def test_times_are_rfc_3339_in_utc(http: aiohttp.ClientSession) -> None:
    """With a Z, whatever zone they came from."""
    async with http.get("/v1/things/check-name/e/n") as answer:
        assert (await answer.json())["created_at"] == "2026-01-02T01:04:05.678Z"


async def test_deadline_of_a_unary_call_becomes_504(http: aiohttp.ClientSession) -> None:
    """grpc-timeout makes the server give up as well, not only the gateway."""
    async with http.post("/v1/fail", json={"seconds": 30}) as answer:
        assert (answer.status, (await answer.json())["code"]) == (504, "DEADLINE_EXCEEDED")
    async with http.post("/v2/nested", json={"seconds": 30}) as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (504, "DEADLINE_EXCEEDED")
