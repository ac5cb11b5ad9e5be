"""The OpenAPI document: valid, complete, and true to the protos."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import openapi_spec_validator
import pytest
from codeyard_gateway.compiler.openapi import openapi_document
from codeyard_gateway.document import openapi_json
from codeyard_gateway.render import load_api

from tests.gateway.fixture_api import fixture_model


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """The document of the real API."""
    loaded: dict[str, Any] = json.loads(openapi_json("1.2.3"))
    return loaded


@pytest.fixture(scope="module")
def fixture_document() -> dict[str, Any]:
    """The document of the fixture services."""
    return openapi_document(*fixture_model(), "0.0.0")


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """Return every (verb, path, operation)."""
    return [(verb, path, found) for path, verbs in document["paths"].items() for verb, found in verbs.items()]


def schema_of(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema that can be checked by itself: with the components beside it."""
    return {**schema, "components": document["components"]}


def test_document_is_valid_openapi(document: dict[str, Any], fixture_document: dict[str, Any]) -> None:
    """By an independent validator."""
    for each in (document, fixture_document):
        openapi_spec_validator.validate(each)
    assert document["openapi"] == "3.1.0"
    assert document["info"]["title"] == "Codeyard API"
    assert document["info"]["version"] == "1.2.3"
    assert document["info"]["license"] == {"name": "MIT", "identifier": "MIT"}


def test_every_route_is_in_the_document(document: dict[str, Any]) -> None:
    """And every WebSocket; a deep parameter also without its last segment."""
    listed = {(verb.upper(), path) for verb, path, _ in operations(document)}
    api = load_api()
    assert {(route.verb, route.template.openapi) for route in api.routes} <= listed
    assert {("GET", socket.template.openapi) for socket in api.websockets} <= listed
    assert {("GET", "/swagger-ui/"), ("GET", "/api-doc/openapi.json"), ("GET", "/health")} <= listed


def test_every_operation_has_its_errors_and_headers(document: dict[str, Any]) -> None:
    """401 exactly where a credential is needed, 413 and 415 exactly where there is a body."""
    api = load_api()
    for route in api.routes:
        operation = document["paths"][route.template.openapi][route.verb.lower()]
        statuses = {int(status) for status in operation["responses"]}
        assert {400, 405, 500, 503, route.success_status, *route.error_statuses} <= statuses
        assert (401 in statuses) == route.rpc.authenticated == bool(operation["security"])
        assert ({413, 415} <= statuses) == route.takes_body == ("requestBody" in operation)
        assert (504 in statuses) == (not route.sse)
        names = [parameter.get("$ref", "") for parameter in operation.get("parameters", [])]
        assert ("#/components/parameters/IdempotencyKey" in names) == route.idempotency_key
        assert operation["tags"] == [route.tag]
        assert operation["summary"]
    for response in document["components"]["responses"].values():
        assert "X-Request-Id" in response["headers"]


def test_operation_ids_are_unique(document: dict[str, Any], fixture_document: dict[str, Any]) -> None:
    """Generators make function names of them."""
    for each in (document, fixture_document):
        ids = [operation["operationId"] for _, _, operation in operations(each)]
        assert len(ids) == len(set(ids))


def test_every_example_satisfies_its_schema(document: dict[str, Any], fixture_document: dict[str, Any]) -> None:
    """Those of the protos and those that were made."""
    checked = 0
    for each in (document, fixture_document):
        for verb, path, operation in operations(each):
            bodies = [operation.get("requestBody", {}), *operation["responses"].values()]
            bodies += each["components"]["responses"].values()
            for media in (media for body in bodies for media in body.get("content", {}).values()):
                if "example" in media:
                    checked += 1
                    validator = jsonschema.Draft202012Validator(schema_of(each, media["schema"]))
                    assert not list(validator.iter_errors(media["example"])), (verb, path)
    assert checked > 100


def test_bounds_of_the_protos_are_in_the_schemas(document: dict[str, Any]) -> None:
    """Lengths, patterns, choices, ranges, formats and what must be there."""
    schemas = document["components"]["schemas"]
    agent = schemas["CreateAgentRequest"]
    assert agent["required"] == ["name", "system_prompt"]
    name = agent["properties"]["name"]
    assert (name["type"], name["minLength"], name["maxLength"], name["pattern"]) == ("string", 1, 255, "\\S")
    assert agent["properties"]["default_model_id"]["format"] == "uuid"
    assert agent["properties"]["tags"]["maxItems"] == 100
    assert agent["properties"]["tags"]["items"]["maxLength"] == 255
    provider = schemas["CreateProviderRequest"]["properties"]["provider_type"]
    assert "llmsim" in provider["enum"]
    listing = document["paths"]["/v1/agents"]["get"]["parameters"]
    limit = next(parameter["schema"] for parameter in listing if parameter["name"] == "limit")
    assert (limit["type"], limit["minimum"], limit["maximum"]) == ("integer", 1, 1000)
    path = document["paths"]["/v1/agents/{id}"]["get"]["parameters"][0]
    assert (path["in"], path["required"], path["schema"]["format"]) == ("path", True, "uuid")


def test_types_are_what_the_transcoder_prints(document: dict[str, Any]) -> None:
    """Times are text, structs objects, values anything, lists arrays; answers always have their plain members."""
    schemas = document["components"]["schemas"]
    session = schemas["Session"]
    assert session["properties"]["created_at"]["format"] == "date-time"
    assert {"id", "status", "tags"} <= set(session["required"])
    assert not {"title", "created_at", "model_id"} & set(session["required"])
    assert "null" not in str(session["properties"]["title"]["type"])
    message = schemas["Message"]["properties"]
    assert message["metadata"]["type"] == "object"
    assert "type" not in schemas["ContentPart"]["properties"]["arguments"]
    update = schemas["UpdateAgentRequest"]["properties"]
    assert update["tags"]["type"] == ["array", "null"]
    assert "at most 100 strings" in update["tags"]["description"]
    assert (update["tags"]["maxItems"], update["tags"]["items"]) == (100, {"type": "string", "maxLength": 255})
    assert update["capabilities"]["items"] == {"type": "string", "minLength": 1, "maxLength": 50}


def test_fields_for_grpc_clients_are_left_out(document: dict[str, Any]) -> None:
    """And nothing refers to their types."""
    schemas = document["components"]["schemas"]
    assert "turn_started" not in schemas["Event"]["properties"]
    assert "data" in schemas["Event"]["properties"]
    assert "TurnStarted" not in schemas


def test_null_is_allowed_where_the_gateway_reads_it_as_absent(document: dict[str, Any]) -> None:
    """In requests, for what need not be there; unknown members are allowed everywhere."""
    schema = schema_of(document, document["components"]["schemas"]["CreateMessageRequest"])
    validator = jsonschema.Draft202012Validator(schema)
    assert validator.is_valid({"message": None, "tags": None, "role": None, "metadata": None, "unknown": 1})
    assert not validator.is_valid({"role": "stranger"})
    agent = jsonschema.Draft202012Validator(
        schema_of(document, document["components"]["schemas"]["CreateAgentRequest"])
    )
    assert agent.is_valid({"name": "a", "system_prompt": "", "description": None})
    assert not agent.is_valid({"name": None, "system_prompt": ""})


def test_path_parameters_are_not_members_of_the_body(document: dict[str, Any]) -> None:
    """The path has them; a body's member of the name would be ignored."""
    body = document["paths"]["/v1/agents/{agent_id}/sessions"]["post"]["requestBody"]
    reference = body["content"]["application/json"]["schema"]["$ref"]
    assert "agent_id" not in document["components"]["schemas"][reference.rsplit("/", 1)[1]]["properties"]
    assert body["required"] is False


def test_unwrapped_list_is_an_array(document: dict[str, Any]) -> None:
    """As it is on the wire."""
    answer = document["paths"]["/v1/llm-models"]["get"]["responses"]["200"]
    schema = answer["content"]["application/json"]["schema"]
    assert (schema["type"], schema["items"]) == ("array", {"$ref": "#/components/schemas/Model"})


def test_stream_is_described_with_its_json_alternative(document: dict[str, Any]) -> None:
    """Both content types, the frames in words, and the query parameters of both methods."""
    operation = document["paths"]["/v1/agents/{agent_id}/sessions/{session_id}/events"]["get"]
    content = operation["responses"]["200"]["content"]
    assert set(content) == {"text/event-stream", "application/json"}
    assert "Last-Event-ID" in content["text/event-stream"]["schema"]["description"]
    names = {parameter.get("name") for parameter in operation["parameters"]}
    assert {"since_id", "limit"} <= names


def test_socket_is_described_as_an_upgrade(document: dict[str, Any]) -> None:
    """101 and no body."""
    operation = document["paths"]["/v1/agents/{agent_id}/sessions/{session_id}/attach"]["get"]
    assert operation["x-websocket"] is True
    assert "content" not in operation["responses"]["101"]
    assert "401" in operation["responses"]


def test_answer_without_a_body_has_none(document: dict[str, Any], fixture_document: dict[str, Any]) -> None:
    """204, and 303 with its Location."""
    assert "content" not in document["paths"]["/v1/agents/{id}"]["delete"]["responses"]["204"]
    redirect = fixture_document["paths"]["/v1/redirect"]["post"]["responses"]["303"]
    assert "content" not in redirect
    assert "Location" in redirect["headers"]


def test_message_of_both_casings_has_a_component_for_each(fixture_document: dict[str, Any]) -> None:
    """The same message prints differently in a snake_case and in a camelCase service."""
    schemas = fixture_document["components"]["schemas"]
    assert "created_at" in schemas["Thing"]["properties"]
    assert "createdAt" in schemas["ThingCamel"]["properties"]
    assert set(schemas["PutPlaceRequest"]["properties"]) == {"displayName", "access_token"}


def test_nested_errors_are_documented_where_a_service_has_them(fixture_document: dict[str, Any]) -> None:
    """A generated client must find the code where it is."""
    responses = fixture_document["paths"]["/v2/nested"]["post"]["responses"]
    assert responses["400"] == {"$ref": "#/components/responses/NestedBadRequest"}
    assert fixture_document["paths"]["/v1/things"]["post"]["responses"]["400"] == {
        "$ref": "#/components/responses/BadRequest"
    }


def test_reasons_of_errors_are_listed(document: dict[str, Any]) -> None:
    """The public enum of the protos, without its prefix."""
    codes = document["components"]["schemas"]["Error"]["properties"]["code"]["enum"]
    assert {"INVALID_ARGUMENT", "ROUTE_NOT_FOUND", "HOST_UNKNOWN"} <= set(codes)
    for response in document["components"]["responses"].values():
        example = response["content"]["application/json"]["example"]
        code = example["code"] if "code" in example else example["error"]["code"]
        assert code in codes
