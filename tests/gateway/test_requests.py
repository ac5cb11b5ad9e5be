"""What the gateway accepts, refuses and adds before a server sees a request."""

from __future__ import annotations

import json
import uuid

import aiohttp
import httpx2
import pytest

from tests.gateway.gateway import Gateway

JSON = {"content-type": "application/json"}


async def test_unknown_path_is_404_in_the_shape_of_its_neighbours(http: aiohttp.ClientSession) -> None:
    """A path below a nested family is refused in the nested shape, any other in the flat one."""
    async with http.get("/v1/nothing") as answer:
        assert answer.status == 404
        assert {"status": 404, "code": "ROUTE_NOT_FOUND"}.items() <= (await answer.json()).items()
    async with http.get("/v2/nested/below?x=1") as answer:
        assert answer.status == 404
        assert (await answer.json())["error"]["code"] == "ROUTE_NOT_FOUND"


@pytest.mark.parametrize(
    ("verb", "path", "allow"),
    [
        ("PUT", "/v1/things/a%2Fb", {"GET", "HEAD", "PATCH", "DELETE"}),
        ("GET", "/v1/redirect", {"POST"}),
        ("DELETE", "/v1/things?x=/v1/redirect", {"GET", "HEAD", "POST"}),
        ("HEAD", "/v1/things/a/events", {"GET"}),
        ("PATCH", "/v1/files/a/b/c", {"GET", "HEAD"}),
        ("OPTIONS", "/v1/things/a/status", {"GET", "HEAD"}),
        ("GET", "/v2/nested", {"POST"}),
    ],
)
async def test_wrong_method_on_a_known_path_is_405(
    http: aiohttp.ClientSession, verb: str, path: str, allow: set[str]
) -> None:
    """The Allow header lists what the path takes."""
    async with http.request(verb, path) as answer:
        assert answer.status == 405
        assert set(answer.headers["allow"].split(", ")) == allow
        text = await answer.text()
        assert "METHOD_NOT_ALLOWED" in text or verb == "HEAD"
        assert ("message" in text) == path.startswith("/v2/")


@pytest.mark.parametrize(
    "body",
    [
        b'{"title":',
        b'{"title": 1}',
        b'{"count": "x"}',
        b'{"count": 1.5}',
        b"[1]",
        b"7",
        b'{"title": "\xff"}',
        b'{"title": ["a"]}',
        b"{}{}",
        b" ",
        b'{"extra": ' + b"[" * 5000 + b"]" * 5000 + b"}",
    ],
)
async def test_malformed_json_is_400(http: aiohttp.ClientSession, body: bytes) -> None:
    """What the parser refuses is the caller's mistake."""
    async with http.post("/v1/things", data=body, headers=JSON) as answer:
        assert answer.status == 400
        text = await answer.json()
        assert (text["code"], text["status"]) == ("INVALID_ARGUMENT", 400)


async def test_malformed_json_is_400_in_the_nested_shape(http: aiohttp.ClientSession) -> None:
    """The message repeats what the parser says about the caller's own body, whatever bytes are in it."""
    for body in (b'{"code":', b'{"code": "x"}', b'{"message": "\xff\xfe"}', b'{"a": \x00}'):
        async with http.post("/v2/nested", data=body, headers=JSON) as answer:
            error = (await answer.json())["error"]
            assert (answer.status, error["code"]) == (400, "INVALID_ARGUMENT")
            assert error["message"].startswith("The request cannot be read. ")


@pytest.mark.parametrize("query", ["count=x", "count=", "count=99999999999", "size=%FF"])
async def test_malformed_query_is_400(http: aiohttp.ClientSession, query: str) -> None:
    """A query parameter of the wrong type is refused like a member of the wrong type."""
    async with http.get(f"/v1/things?{query}") as answer:
        assert (answer.status, (await answer.json())["code"]) == (400, "INVALID_ARGUMENT")


@pytest.mark.parametrize(
    ("body", "title"),
    [
        (b'{"title": "a",}', "a"),
        (b"{'title': 'a'}", "a"),
        (b'{title: "a"}', "a"),
        (b'{"title": "a", "count": "5"}', "a"),
        (b'{"title": "a", "count": 1e1}', "a"),
        (b'{"title": "a", "title": "b"}', "b"),
        (b'{"title": "\x07"}', "\x07"),
    ],
)
async def test_what_the_parser_forgives_is_no_error(http: aiohttp.ClientSession, body: bytes, title: str) -> None:
    """It reads more than JSON; a client must not rely on it, and the server checks what arrives."""
    async with http.post("/v1/things", data=body, headers=JSON) as answer:
        assert (answer.status, (await answer.json())["title"]) == (201, title)


async def test_unknown_members_and_query_parameters_are_ignored(http: aiohttp.ClientSession) -> None:
    """null is absent, an empty body is an empty message."""
    body = {"title": "a", "unknown": {"x": [1]}, "note": None, "extra": None}
    async with http.post("/v1/things?unknown=1&x.y=2", json=body) as answer:
        assert (answer.status, (await answer.json())["title"]) == (201, "a")
    async with http.post("/v1/things", data=b"", headers=JSON) as answer:
        assert (answer.status, (await answer.json())["title"]) == (201, "")
    async with http.post("/v1/things", skip_auto_headers=["content-type"]) as answer:
        assert answer.status == 201


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("application/json", 201),
        ("application/json; charset=utf-8", 201),
        ("Application/JSON", 201),
        ("application/merge-patch+json", 201),
        ("text/xml", 415),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415),
        ("application/jsonx", 415),
        ("text/json", 415),
    ],
)
async def test_content_type_that_is_not_json_is_415(http: aiohttp.ClientSession, kind: str, status: int) -> None:
    """A browser form cannot reach a JSON route, and no parser guesses."""
    async with http.post("/v1/things", data=b'{"title": "a"}', headers={"content-type": kind}) as answer:
        assert answer.status == status
        if status == 415:
            assert (await answer.json())["code"] == "UNSUPPORTED_MEDIA_TYPE"


async def test_content_type_does_not_matter_when_there_is_no_body(http: aiohttp.ClientSession) -> None:
    """curl -d '' names a form; with nothing in it, it is an empty message. A body without a type is refused."""
    form = {"content-type": "application/x-www-form-urlencoded"}
    async with http.post("/v1/things", data=b"", headers=form) as answer:
        assert answer.status == 201
    async with http.get("/v1/things/a", headers=form) as answer:
        assert answer.status == 200
    async with http.post("/v1/things", data=b"{}", skip_auto_headers=["content-type"]) as answer:
        assert answer.status == 415
    async with http.post("/v1/no-such-path", data=b"<a/>", headers={"content-type": "text/xml"}) as answer:
        assert answer.status == 404


async def test_content_type_is_checked_over_http2_too(gateway: Gateway) -> None:
    """HTTP/2 need not announce a length."""

    async def body() -> object:
        yield b"<a/>"

    async with httpx2.AsyncClient(http1=False, http2=True, base_url=gateway.url) as client:
        headers = {"content-type": "text/xml"}
        answer = await client.post("/v1/things", content=body(), headers=headers)  # type: ignore[arg-type]
        assert (answer.http_version, answer.status_code) == ("HTTP/2", 415)


@pytest.mark.parametrize(
    ("path", "size", "status"),
    [
        ("/v1/things", 2 * 1024 * 1024 - 100, 201),
        ("/v1/things", 2 * 1024 * 1024 + 100, 413),
        ("/v1/things", 5 * 1024 * 1024, 413),
        ("/v1/small", 900, 201),
        ("/v1/small", 1100, 413),
    ],
)
@pytest.mark.parametrize("chunked", [False, True])
async def test_body_over_the_limit_of_its_route_is_413(
    http: aiohttp.ClientSession, path: str, size: int, status: int, chunked: bool
) -> None:
    """The limit counts bytes, announced or not."""
    body = b'{"title": "' + b"a" * size + b'"}'

    async def pieces() -> object:
        for start in range(0, len(body), 65536):
            yield body[start : start + 65536]

    async with http.post(path, data=pieces() if chunked else body, headers=JSON) as answer:
        assert answer.status == status
        if status == 413:
            assert {"code": "TOO_LARGE", "status": 413}.items() <= (await answer.json()).items()


async def test_message_larger_than_grpc_takes_is_413(http: aiohttp.ClientSession) -> None:
    """gRPC says RESOURCE_EXHAUSTED, which is 429; to the caller it is the size of the body."""
    for size in (5_000_000, 9_000_000):
        async with http.post("/v1/hooks/a", data=b"h" * size) as answer:
            assert (answer.status, (await answer.json())["code"]) == (413, "TOO_LARGE")


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.2", "[::2]"])
async def test_unknown_host_is_421(http: aiohttp.ClientSession, host: str) -> None:
    """A page that binds its own name to this address does not get through."""
    for name in (host, f"{host}:8080"):
        async with http.get("/v1/things/a", headers={"host": name}) as answer:
            assert (answer.status, (await answer.json())["code"]) == (421, "HOST_UNKNOWN")
        async with http.get("/v2/nested", headers={"host": name}) as answer:
            assert (answer.status, (await answer.json())["error"]["code"]) == (421, "HOST_UNKNOWN")


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1234", "127.0.0.1:80", "[::1]", "[::1]:8080", "yard.example.com"]
)
async def test_known_host_is_answered_with_any_port(http: aiohttp.ClientSession, host: str) -> None:
    """Loopback names and configured ones; the port may be a proxy's."""
    async with http.get("/v1/things/a", headers={"host": host}) as answer:
        assert answer.status == 200


@pytest.mark.parametrize("wanted", ["abc", "A.b_c-9", "x" * 128])
async def test_request_id_of_the_client_is_kept_when_it_is_sane(http: aiohttp.ClientSession, wanted: str) -> None:
    """The server logs it, and the answer repeats it."""
    async with http.get("/v1/things/a", headers={"x-request-id": wanted}) as answer:
        assert answer.headers["x-request-id"] == wanted
        assert (await answer.json())["received"]["x-request-id"] == wanted


@pytest.mark.parametrize("wanted", ["", "x" * 129, "a b", "a;b", "<script>", "a\tb", "\N{SNOWMAN}"])
async def test_request_id_is_replaced_when_it_is_not_sane(gateway: Gateway, wanted: str) -> None:
    """What could break a log line or a page does not get into either."""
    request = f"GET /v1/things/a HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nx-request-id: {wanted}\r\n\r\n"
    head, _, body = (await gateway.raw(request.encode())).partition(b"\r\n\r\n")
    found = next(line for line in head.decode().split("\r\n") if line.startswith("x-request-id: "))
    given = uuid.UUID(found.removeprefix("x-request-id: "))
    assert json.loads(body)["received"]["x-request-id"] == str(given)


@pytest.mark.parametrize(
    ("request_line", "headers", "status"),
    [
        ("GET /v1/things/%00", "", 400),
        ("GET /v1/nothing", "", 404),
        ("PUT /v1/things", "", 405),
        ("GET /v1/things?count=x", "", 400),
        ("GET /v1/things/missing", "", 404),
        ("GET /v1/things/a", "host: evil.example\r\n", 421),
        ("GET /v1/things/a", f"x-filler: {'f' * 70000}\r\n", 431),
        ("GET /v1/things/a", "upgrade: websocket\r\nconnection: upgrade\r\n", 404),
        ("BOGUS\x01LINE", "", 400),
        ("QUERY /v1/things/a", "", 400),
    ],
)
async def test_every_answer_has_a_request_id_and_a_json_body(
    gateway: Gateway, request_line: str, headers: str, status: int
) -> None:
    """Also those that Envoy makes before any filter runs."""
    host = "" if "host:" in headers else "host: localhost\r\n"
    closing = "" if "connection:" in headers else "connection: close\r\n"
    request = f"{request_line} HTTP/1.1\r\n{host}{closing}{headers}\r\n"
    head, _, body = (await gateway.raw(request.encode())).partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0].split()[1] == str(status)
    assert [line for line in lines if line.startswith("x-request-id: ") and len(line) > 20]
    assert json.loads(body)["status"] == status


async def test_http_1_0_is_426(gateway: Gateway) -> None:
    """Without a Host there is nothing to check against."""
    answer = await gateway.raw(b"GET /v1/things/a HTTP/1.0\r\nhost: localhost\r\n\r\n")
    assert answer.split(b" ", 2)[1] == b"426"
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["status"] == 426


async def test_headers_only_the_gateway_may_set_are_removed_when_a_client_sends_them(
    http: aiohttp.ClientSession,
) -> None:
    """A client cannot pretend to be the transcoder, choose a status, or steer retries."""
    private = ["x-http-code", "x-unwrap", "x-error-body", "x-head", "x-content-length", "x-upload-length"]
    envoy = ["x-envoy-original-method", "x-envoy-retry-on", "x-envoy-max-retries", "x-envoy-upstream-rq-timeout-ms"]
    headers = dict.fromkeys(private + envoy, "201") | {
        "x-envoy-original-path": "/forged",
        "x-client-request-id": "forged",
    }
    async with http.get("/v1/things/a", headers=headers) as answer:
        assert answer.status == 200
        received = (await answer.json())["received"]
        assert not set(private) & set(received)
        assert received["x-envoy-original-path"] == "/v1/things/a"
        assert received["x-envoy-original-method"] == "GET"
        assert "forged" not in str(received)
        assert not {"x-envoy-retry-on", "x-envoy-max-retries", "x-envoy-upstream-rq-timeout-ms"} & set(received)


async def test_headers_of_grpc_are_removed_when_a_rest_client_sends_them(http: aiohttp.ClientSession) -> None:
    """It can neither choose its own deadline nor ask for an encoding that the transcoder does not read."""
    headers = {"grpc-timeout": "1n", "grpc-encoding": "gzip", "grpc-accept-encoding": "gzip", "grpc-status": "5"}
    async with http.get("/v1/things/a", headers=headers) as answer:
        assert answer.status == 200
        assert not [name for name in (await answer.json())["received"] if name.startswith("grpc-")]


@pytest.mark.parametrize("name", ["a*b", "%x", "a&b", "a'b", "a|b", "a~b", "a!", "*"])
async def test_header_whose_name_grpc_does_not_take_is_removed(http: aiohttp.ClientSession, name: str) -> None:
    """HTTP allows more characters than gRPC metadata; the server would fail."""
    async with http.get("/v1/things/a", headers={name: "x", "a_b.c-1": "y"}) as answer:
        assert answer.status == 200
        received = (await answer.json())["received"]
        assert (received["a_b.c-1"], name in received) == ("y", False)


async def test_json_on_the_path_of_a_grpc_method_reaches_no_server(http: aiohttp.ClientSession) -> None:
    """Only content types of gRPC get through to /package.Service/Method."""
    async with http.post("/yardtest.v1.ThingService/GetThing", json={"id": "a"}) as answer:
        assert (answer.status, (await answer.json())["code"]) == (404, "ROUTE_NOT_FOUND")


async def test_preflight_of_an_allowed_origin_is_answered(http: aiohttp.ClientSession) -> None:
    """The page may send the headers that the API knows."""
    headers = {
        "origin": "https://app.example.com",
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization, content-type, idempotency-key",
    }
    async with http.options("/v1/things", headers=headers) as answer:
        assert answer.status == 200
        assert answer.headers["access-control-allow-origin"] == "https://app.example.com"
        assert "POST" in answer.headers["access-control-allow-methods"]
        assert "idempotency-key" in answer.headers["access-control-allow-headers"]
        assert answer.headers["access-control-allow-credentials"] == "true"
        assert "x-request-id" in answer.headers


@pytest.mark.parametrize("path", ["/v1/things/a", "/v1/things/missing", "/v1/nothing", "/v1/things?count=x"])
async def test_answer_can_be_read_by_pages_of_an_allowed_origin_only(http: aiohttp.ClientSession, path: str) -> None:
    """Successes, errors of the server and errors of the gateway alike."""
    async with http.get(path, headers={"origin": "https://app.example.com"}) as answer:
        assert answer.headers["access-control-allow-origin"] == "https://app.example.com"
        assert "x-request-id" in answer.headers["access-control-expose-headers"]
        assert answer.headers["vary"] == "Origin"
    for foreign in ("https://evil.example", "https://app.example.com.evil.example", "null"):
        async with http.get(path, headers={"origin": foreign}) as answer:
            assert "access-control-allow-origin" not in answer.headers
    async with http.options(path, headers={"origin": foreign, "access-control-request-method": "GET"}) as answer:
        assert answer.status in (404, 405)
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    ("origin", "extra", "status"),
    [
        ("https://evil.example", {"cookie": "s=1"}, 403),
        ("https://evil.example", {"cookie": "s=1", "authorization": "Bearer t"}, 403),
        ("null", {"cookie": "s=1"}, 403),
        ("http://localhost.evil.example", {"cookie": "s=1"}, 403),
        ("http://localhost:9", {"cookie": "s=1"}, 403),
        ("https://evil.example", {}, 403),
        ("https://evil.example", {"authorization": "Bearer t"}, 201),
        ("http://localhost", {"cookie": "s=1"}, 201),
        ("https://LOCALHOST:443", {"cookie": "s=1"}, 201),
        ("https://app.example.com", {"cookie": "s=1"}, 201),
        (None, {"cookie": "s=1"}, 201),
    ],
)
async def test_foreign_page_cannot_use_what_the_browser_adds(
    http: aiohttp.ClientSession, origin: str | None, extra: dict[str, str], status: int
) -> None:
    """A cookie, or nothing at all, is no proof that the page may act; a header it had to know is."""
    headers = JSON | extra | {"host": "localhost"} | ({"origin": origin} if origin else {})
    async with http.post("/v1/things", data=b"{}", headers=headers) as answer:
        assert answer.status == status
        if status == 403:
            assert (await answer.json())["code"] == "PERMISSION_DENIED"
    async with http.get("/v1/things/a", headers=headers) as answer:
        assert answer.status == 200


async def test_address_of_the_peer_is_what_the_server_sees(http: aiohttp.ClientSession) -> None:
    """A client cannot choose its address: what it sends stays in front of what Envoy saw."""
    async with http.get("/v1/things/a", headers={"x-forwarded-for": "203.0.113.7"}) as answer:
        chain = (await answer.json())["received"]["x-forwarded-for"].split(",")
        assert chain[0] == "203.0.113.7"
        assert len(chain) == 2


async def test_binary_header_that_is_not_base64_harms_no_other_call(http: aiohttp.ClientSession) -> None:
    """gRPC decodes -bin metadata; from a REST client the gateway drops them."""
    async with http.get("/v1/things/a/events", params={"count": "1"}) as stream:
        assert await stream.content.readuntil(b"data: \n\n")
        for value in ("!!!", "\xff".encode().hex() + "=", "====", "a"):
            async with http.get("/v1/things/a", headers={"x-some-bin": value}) as answer:
                assert answer.status == 200
                assert "x-some-bin" not in (await answer.json())["received"]
        assert not stream.content.at_eof()


@pytest.mark.parametrize("size", [7000, 12000, 30000, 50000])
async def test_large_request_headers_are_answered_clearly(http: aiohttp.ClientSession, size: int) -> None:
    """gRPC answers 429 to more metadata than it takes; the gateway refuses earlier, with the status for it."""
    async with http.get("/v1/things/a", headers={"x-filler": "f" * size}, max_field_size=100_000) as answer:
        assert answer.status == (200 if size < 32_000 else 431)
