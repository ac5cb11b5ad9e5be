"""Mistakes in protos that fail the compile, with file, method and reason."""

from __future__ import annotations

import pathlib

import pytest
from codeyard_gateway.compiler.lua_data import ambiguous_names, error_shapes, lua_pattern
from codeyard_gateway.compiler.model import CompileError, ErrorShape
from codeyard_gateway.compiler.reader import read_image
from codeyard_gateway.compiler.template import parse_template

from tests.gateway.fixture_api import compile_protos, fixture_model

HEAD = """
syntax = "proto3";
package mistake.v1;
import "codeyard/http/v1/options.proto";
import "google/api/annotations.proto";
import "google/api/httpbody.proto";
import "google/protobuf/wrappers.proto";
message Request { string id = 1; int32 number = 2; Inner inner = 3; repeated string many = 4; }
message Inner { string name = 1; }
message Response { string id = 1; Inner inner = 2; }
message Items { repeated Inner items = 1; }
message Wide { Deep deep = 1; }
message Deep { int64 size = 1; }
message WideWrapped { google.protobuf.UInt64Value size = 1; }
message Hidden { int64 size = 1 [(codeyard.http.v1.field).grpc_only = true]; }
message Reserved { string path_of_id = 1; string id = 2; }
message Frame { Inner start = 1; }
"""
OPTIONS = 'option (codeyard.http.v1.service) = {casing: CASING_SNAKE error_shape: ERROR_SHAPE_FLAT tag: "t"};'
FILE = "mistake.proto"


def compile_service(folder: pathlib.Path, service: str) -> list[str]:
    """Compile a file with this service body; return the problems."""
    (folder / FILE).write_text(f"{HEAD}\nservice S {{ {service} }}")
    try:
        read_image(compile_protos(folder, FILE))
    except CompileError as error:
        return error.problems
    return []


def rpc(
    http: str, rules: str = "auth: AUTH_NONE", *, name: str = "M", types: tuple[str, str] = ("Request", "Response")
) -> str:
    """Return one method with a google.api.http rule (empty: none) and method rules."""
    rule = f"option (google.api.http) = {{{http}}};" if http else ""
    return f"rpc {name}({types[0]}) returns ({types[1]}) {{ {rule} option (codeyard.http.v1.method) = {{{rules}}}; }}"


GOOD = rpc('get: "/v1/a/{id}"')

MISTAKES = {
    "two methods on one route": (
        OPTIONS + rpc('get: "/v1/a/{id}"', name="A") + rpc('get: "/v1/a/{number}"', name="B"),
        "S.B: GET /v1/a/{number} is already the route of mistake.v1.S.A",
    ),
    "unknown field in a path": (
        OPTIONS + rpc('get: "/v1/a/{nothing}"'),
        'S.M: path parameter "nothing" is not a field of mistake.v1.Request',
    ),
    "message in a path": (OPTIONS + rpc('get: "/v1/a/{inner}"'), 'S.M: path parameter "inner" of'),
    "list in a path": (OPTIONS + rpc('get: "/v1/a/{many}"'), 'S.M: path parameter "many" of'),
    "int64 in an answer": (
        OPTIONS + rpc('get: "/v1/a"', types=("Request", "Wide")),
        "S.M: mistake.v1.Deep.size is int64, a string in JSON",
    ),
    "uint64 wrapper in a request": (
        OPTIONS + rpc('post: "/v1/a" body: "*"', types=("WideWrapped", "Response")),
        "S.M: mistake.v1.WideWrapped.size is uint64",
    ),
    "int64 behind a socket": (
        OPTIONS + rpc("", 'auth: AUTH_NONE websocket: "/v1/a"', types=("stream Wide", "stream Response")),
        "S.M: mistake.v1.Deep.size is int64",
    ),
    "int64 in a JSON twin": (
        OPTIONS
        + rpc('get: "/v1/a"', 'auth: AUTH_NONE sse: {json_method: "J"}', types=("Request", "stream Response"))
        + rpc("", name="J", types=("Request", "Wide")),
        "S.M: mistake.v1.Deep.size is int64",
    ),
    "no auth option": (OPTIONS + rpc('get: "/v1/a"', ""), "S.M: (codeyard.http.v1.method).auth is not set"),
    "no auth option on a method without a route": (OPTIONS + GOOD + rpc("", "", name="B"), "S.B: (codeyard"),
    "no service option": (GOOD, "S: has routes but no (codeyard.http.v1.service) option"),
    "half a service option": (
        'option (codeyard.http.v1.service) = {casing: CASING_SNAKE tag: "t"};' + GOOD,
        "S: (codeyard.http.v1.service).error_shape is not set",
    ),
    "sse on a unary method": (
        OPTIONS + rpc('get: "/v1/a"', "auth: AUTH_NONE sse: {}"),
        "S.M: sse is set, but the method is not",
    ),
    "sse without a route": (
        OPTIONS + rpc("", "auth: AUTH_NONE sse: {}", types=("Request", "stream Response")),
        "S.M: sse is set, but the method has no google.api.http rule",
    ),
    "json_method that does not exist": (
        OPTIONS + rpc('get: "/v1/a"', 'auth: AUTH_NONE sse: {json_method: "J"}', types=("Request", "stream Response")),
        'S.M: sse.json_method "J" is not a method of mistake.v1.S',
    ),
    "json_method without the path's fields": (
        OPTIONS
        + rpc('get: "/v1/a/{id}"', 'auth: AUTH_NONE sse: {json_method: "J"}', types=("Request", "stream Response"))
        + rpc("", name="J", types=("Inner", "Response")),
        'S.M: path parameter "id" is not a field of mistake.v1.Inner',
    ),
    "method with the name of a twin": (
        OPTIONS
        + rpc('get: "/v1/a"', "auth: AUTH_NONE sse: {}", types=("Request", "stream Response"))
        + rpc("", name="MHttp"),
        'S.M: the name "MHttp" belongs to its HTTP twin',
    ),
    "stream without sse": (
        OPTIONS + rpc('get: "/v1/a"', types=("Request", "stream Response")),
        "S.M: a server-streaming method over HTTP needs sse",
    ),
    "upload of messages": (
        OPTIONS + rpc('post: "/v1/a" body: "*"', types=("stream Request", "Response")),
        "S.M: a client-streaming method over HTTP takes google.api.HttpBody",
    ),
    "bidirectional route": (
        OPTIONS + rpc('post: "/v1/a" body: "*"', types=("stream Request", "stream Response")),
        "S.M: a bidirectional method cannot have a google.api.http rule",
    ),
    "response_body that does not exist": (
        OPTIONS + rpc('get: "/v1/a" response_body: "nothing"'),
        'S.M: response_body "nothing" is not a field of mistake.v1.Response',
    ),
    "response_body of two fields": (
        OPTIONS + rpc('get: "/v1/a" response_body: "inner"'),
        'S.M: response_body "inner" needs mistake.v1.Response to have that field only; it has 2',
    ),
    "custom verb": (OPTIONS + rpc('post: "/v1/a/{id}:run" body: "*"'), 'S.M: path "/v1/a/{id}:run" has a custom verb'),
    "parameter twice": (OPTIONS + rpc('get: "/v1/{id}/{id}"'), "names a parameter twice"),
    "path after a deep parameter": (OPTIONS + rpc('get: "/v1/{id=**}/a"'), 'goes on after a "**" parameter'),
    "relative path": (OPTIONS + rpc('get: "v1/a"'), 'does not start with "/"'),
    "half a segment": (OPTIONS + rpc('get: "/v1/a{id}"'), 'has a segment "a{id}"'),
    "path of the gateway": (OPTIONS + rpc('get: "/~json/a"'), 'S.M: paths below "/~json" belong to the gateway'),
    "field of the gateway": (
        OPTIONS + rpc('post: "/v1/{id}" body: "*"', types=("Reserved", "Response")),
        'S.M: field names that begin with "path_of_" belong to the gateway',
    ),
    "unknown body field": (
        OPTIONS + rpc('post: "/v1/a" body: "nothing"'),
        'S.M: body "nothing" is not a field of mistake.v1.Request',
    ),
    "GET with a body": (OPTIONS + rpc('get: "/v1/a" body: "*"'), "S.M: GET has no body"),
    "custom kind": (OPTIONS + rpc('custom: {kind: "HEAD" path: "/v1/a"}'), 'the verb "custom" is not served'),
    "socket path without a field": (
        OPTIONS + rpc("", 'auth: AUTH_NONE websocket: "/v1/{nothing}"', types=("stream Frame", "stream Response")),
        'S.M: path parameter "nothing" is not in the first message of mistake.v1.Frame',
    ),
    "socket on a unary method": (
        OPTIONS + rpc("", 'auth: AUTH_NONE websocket: "/v1/a"'),
        "S.M: websocket is set, but the method is not bidirectional",
    ),
    "two sockets on one path": (
        OPTIONS
        + rpc("", 'auth: AUTH_NONE websocket: "/v1/{name}"', name="A", types=("stream Frame", "stream Response"))
        + rpc("", 'auth: AUTH_NONE websocket: "/v1/{start}"', name="B", types=("stream Frame", "stream Response")),
        "S.B: WebSocket /v1/{start} is already the route of mistake.v1.S.A",
    ),
    "success that is an error": (
        OPTIONS + rpc('get: "/v1/a"', "auth: AUTH_NONE success_status: 404"),
        "success_status 404",
    ),
    "error without a text": (
        OPTIONS + rpc('get: "/v1/a"', "auth: AUTH_NONE error_statuses: [418]"),
        "error status 418",
    ),
    "example that is no JSON": (
        OPTIONS + rpc('get: "/v1/a"', 'auth: AUTH_NONE response_example: "{"'),
        "S.M: response_example is not JSON",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_compile_fails_and_says_where_and_why(tmp_path: pathlib.Path, name: str) -> None:
    """The first words name the file, then the method, then the reason."""
    service, expected = MISTAKES[name]
    problems = compile_service(tmp_path, service)
    assert [problem for problem in problems if problem.startswith(f"{FILE}: mistake.v1.S") and expected in problem], (
        problems
    )


def test_compile_succeeds_when_there_is_no_mistake(tmp_path: pathlib.Path) -> None:
    """The same frame without a mistake; wide numbers may be in what only gRPC clients see."""
    socket = rpc("", 'auth: AUTH_NONE websocket: "/v1/s/{name}"', name="B", types=("stream Frame", "stream Response"))
    items = rpc('get: "/v1/i" response_body: "items"', name="C", types=("Request", "Items"))
    grpc_only = rpc('get: "/v1/h"', name="D", types=("Request", "Hidden"))
    internal = rpc("", name="E", types=("Wide", "Wide"))
    assert compile_service(tmp_path, OPTIONS + GOOD + socket + items + grpc_only + internal) == []


def test_all_mistakes_are_reported_together(tmp_path: pathlib.Path) -> None:
    """One run is enough to mend them all."""
    problems = compile_service(
        tmp_path, OPTIONS + rpc('get: "/v1/a:x"', name="A") + rpc('get: "/v1/{nothing}"', "", name="B")
    )
    assert len(problems) == 2


def test_patterns_match_what_the_templates_match() -> None:
    """The filter's table decides about 405 and 415, so it must agree with the transcoder."""
    assert lua_pattern(parse_template("/v1/check-name/{a}/x.y")) == "^/v1/check%-name/[^/]+/x%.y/$"
    assert lua_pattern(parse_template("/v1/files/{path=**}")) == "^/v1/files/.*$"


def test_error_shape_is_mixed_only_where_a_prefix_has_both() -> None:
    """Elsewhere one table look-up finds it."""
    _, api = fixture_model()
    assert error_shapes(api)["/v2/nested"] == ErrorShape.NESTED
    assert error_shapes(api)["/v1/things"] == ErrorShape.FLAT


def test_names_that_are_in_a_path_and_in_a_query_are_found() -> None:
    """Only these need the filter's help; in a casing where nobody uses them they do not count."""
    assert ambiguous_names(*fixture_model()) == {"owner_id"}
