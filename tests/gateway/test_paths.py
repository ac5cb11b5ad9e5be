"""How paths and queries become request fields."""

from __future__ import annotations

import json
from typing import Any

import aiohttp
import pytest
import yarl


def address(http: aiohttp.ClientSession, path: str) -> yarl.URL:
    """Return the address of a path that is sent exactly as it is written."""
    return yarl.URL(f"{http._base_url}".rstrip("/") + path, encoded=True)


async def get(http: aiohttp.ClientSession, path: str) -> Any:
    """GET a path exactly as it is written; return the JSON of a 200."""
    async with http.get(address(http, path)) as answer:
        assert answer.status == 200, path
        return json.loads(await answer.text())


@pytest.mark.parametrize(
    ("segment", "value"),
    [
        ("a%2Fb", "a/b"),
        ("a%2fb", "a/b"),
        ("a:b", "a:b"),
        ("a%3Ab", "a:b"),
        ("a:status", "a:status"),
        ("a%23b", "a#b"),
        ("a%3Fb", "a?b"),
        ("a%25b", "a%b"),
        ("a%252Fb", "a%2Fb"),
        ("a%20b", "a b"),
        ("a+b", "a+b"),
        ("%E2%98%83", "\N{SNOWMAN}"),
        ("a%2F..%2Fb", "a/../b"),
    ],
)
async def test_segment_is_decoded_once_when_it_holds_reserved_characters(
    http: aiohttp.ClientSession, segment: str, value: str
) -> None:
    """A slash, colon or hash inside an id is data."""
    assert (await get(http, f"/v1/things/{segment}"))["id"] == value


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/v1/things/check-name/e/n", ("e|n", "check-name")),
        ("/v1/things/check-name/status", ("check-name", "status")),
        ("/v1/things/check-name", ("check-name", "")),
        ("/v1/things/a/status", ("a", "status")),
        ("/v1/things/a/status/", ("a", "status")),
        ("/v1/other/../things/a", ("a", "")),
        ("/v1/other/%2e%2e/things/a", ("a", "")),
    ],
)
async def test_literal_segments_beat_parameters(
    http: aiohttp.ClientSession, path: str, answer: tuple[str, str]
) -> None:
    """With backtracking; dots are resolved before anything is matched."""
    body = await get(http, path)
    assert (body["id"], body["title"]) == answer


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("/v1/files/a/b", "a/b"),
        ("/v1/files/", ""),
        ("/v1/files", ""),
        ("/v1/files/a%2Fb", "a%2Fb"),
        ("/v1/files/a%23b%20c", "a#b c"),
        ("/v1/files/../../v1/files/x", "x"),
    ],
)
async def test_deep_parameter_takes_the_rest_of_the_path(http: aiohttp.ClientSession, path: str, value: str) -> None:
    """Decoded, but for escaped slashes; the path as it was sent is in the metadata."""
    body = await get(http, path)
    assert body["path"] == value
    assert body["original"].endswith(path.rpartition("..")[2].removeprefix("/v1/files/x"))


@pytest.mark.parametrize(
    "name",
    [
        "id",
        "%69d",
        "i%64",
        "%69%64",
        "%2569d",
        "ID",
        "path_of_id",
        "path%5Fof%5Fid",
        "pathOfId",
        "id.x",
        "x=1%26id",
        "%26id",
    ],
)
async def test_query_cannot_override_a_path_parameter(http: aiohttp.ClientSession, name: str) -> None:
    """Whatever form of its name the query uses."""
    async with http.get(address(http, f"/v1/things/mine?{name}=other&title=t")) as answer:
        assert answer.status in (200, 400)
        if answer.status == 200:
            body = await answer.json()
            assert (body["id"], body["title"]) == ("mine", "t")


@pytest.mark.parametrize("name", ["owner_id", "%6fwner_id", "owner%5Fid"])
async def test_query_cannot_override_a_path_parameter_that_is_a_query_elsewhere(
    http: aiohttp.ClientSession, name: str
) -> None:
    """owner_id filters one list and is in the path of another route: here it is free, there it is not."""
    assert (await get(http, f"/v1/owners/me/things/a?{name}=other&title=t"))["note"] == "me"
    assert (await get(http, f"/v1/owners/me/things/a?title=t&{name}=other"))["title"] == "t"
    assert (await get(http, f"/v1/things/a?{name}=other"))["note"] == "other"


@pytest.mark.parametrize("name", ["place_id", "placeId", "%70laceId", "place%5fid"])
async def test_query_cannot_override_a_path_parameter_in_camel_case(http: aiohttp.ClientSession, name: str) -> None:
    """The transcoder knows a field by its own and by its JSON name."""
    assert (await get(http, f"/api/places/mine/thing?{name}=other"))["id"] == "mine"


@pytest.mark.parametrize(
    ("verb", "path", "body", "member"),
    [
        ("PATCH", "/v1/things/mine", {"id": "other", "title": "t"}, "id"),
        ("PATCH", "/v1/things/mine", {"title": "t", "id": None}, "id"),
        ("PUT", "/api/places/mine", {"placeId": "other"}, "placeId"),
        ("PUT", "/api/places/mine", {"place_id": "other"}, "placeId"),
    ],
)
async def test_body_cannot_override_a_path_parameter(
    http: aiohttp.ClientSession, verb: str, path: str, body: dict[str, Any], member: str
) -> None:
    """A client may send back the whole object it read; the path names which one is meant."""
    async with http.request(verb, path, json=body) as answer:
        assert (answer.status, (await answer.json())[member]) == (200, "mine")
    escaped = {f"\\u{ord(name[0]):04x}{name[1:]}": value for name, value in body.items()}
    text = json.dumps(escaped).replace("\\\\", "\\")
    async with http.request(verb, path, data=text, headers={"content-type": "application/json"}) as answer:
        assert (answer.status, (await answer.json())[member]) == (200, "mine")
    async with http.request(verb, path, json={"path_of_id": "other", "path_of_place_id": "other"}) as answer:
        assert answer.status == 400


async def test_plus_in_a_query_is_a_space(http: aiohttp.ClientSession) -> None:
    """As forms and most clients write it."""
    assert (await get(http, "/v1/things/a?title=b+c%2Bd"))["title"] == "b c+d"


async def test_hidden_path_of_a_json_twin_is_404(http: aiohttp.ClientSession) -> None:
    """Where the gateway keeps a twin is nobody's business."""
    for path in ("/~json/v1/things/a/events", "/%7Ejson/v1/things/a/events", "/x/../~json/v1/things/a/events"):
        async with http.get(address(http, path)) as answer:
            assert (answer.status, (await answer.json())["code"]) == (404, "ROUTE_NOT_FOUND")
