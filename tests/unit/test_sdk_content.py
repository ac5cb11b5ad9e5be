"""Messages of the Python client: what goes in, and how they look as JSON."""

from __future__ import annotations

import datetime
import pathlib

import pytest
from codeyard_client import image, text_of, to_json
from codeyard_client._content import TurnOptions, message_request
from codeyard_client.gen.google.protobuf import Struct, Value
from codeyard_client.types import AgentMessage, ContentPart, Message

PNG = b"\x89PNG"


def test_image_is_a_url_when_it_has_one() -> None:
    """An address is passed on, not fetched."""
    part = image("https://example.com/a.png")
    assert (part.type, part.url, part.base64) == ("image", "https://example.com/a.png", None)


def test_image_is_read_when_it_is_a_file(tmp_path: pathlib.Path) -> None:
    """The name of a file tells its media type."""
    file = tmp_path / "a.png"
    file.write_bytes(PNG)
    for part in (image(file), image(str(file)), image(PNG, "image/png")):
        assert (part.type, part.base64, part.media_type) == ("image", "iVBORw==", "image/png")


def test_image_is_refused_when_its_media_type_is_unknown() -> None:
    """A model cannot guess what bytes are."""
    with pytest.raises(ValueError, match="media type"):
        image(PNG)


def test_message_request_asks_nothing_of_the_turn_when_no_option_is_given() -> None:
    """Text alone makes one part and no controls; parts stay in order."""
    request = message_request("a", "s", ["see", image("http://x/y.png")], {})
    assert request.message is not None
    assert [(part.type, part.text) for part in request.message.content] == [("text", "see"), ("image", None)]
    assert (request.controls, request.metadata) == (None, None)


def test_message_request_carries_what_is_asked_when_options_are_given() -> None:
    """A temperature of 0 is asked for, not left out."""
    options: TurnOptions = {"effort": "low", "temperature": 0.0, "tags": ["t"], "metadata": {"n": 1}}
    request = message_request("a", "s", "hi", options)
    assert to_json(request.controls) == {"reasoning": {"effort": "low"}, "temperature": 0.0}
    assert (to_json(request.metadata), request.tags) == ({"n": 1}, ["t"])


def test_text_of_joins_the_text_parts_when_there_are_other_parts() -> None:
    """Tool calls have no text."""
    parts = [
        ContentPart(type="text", text="a"),
        ContentPart(type="tool_call", name="x"),
        ContentPart(type="text", text="b"),
    ]
    assert text_of(Message(content=parts)) == "ab"


def test_json_is_as_over_rest_when_a_message_is_printed() -> None:
    """Absent members are left out, zero values are not, whole numbers of free members are integers."""
    created = datetime.datetime(2026, 1, 2, 3, 4, 5, 678000, datetime.timezone(datetime.timedelta(hours=1)))
    assert to_json(AgentMessage(id="a", created_at=created)) == {
        "id": "a",
        "name": "",
        "system_prompt": "",
        "tags": [],
        "capabilities": [],
        "status": "",
        "created_at": "2026-01-02T02:04:05.678Z",
    }
    free = {"n": 3, "f": 1.5, "none": None, "list": [1, {"a": True}]}
    part = ContentPart(type="tool_call", arguments=Value.from_dict(free))
    assert to_json(Message.parse(bytes(Message(content=[part], metadata=Struct.from_dict(free)))))["metadata"] == free
    assert to_json(ContentPart.parse(bytes(part)))["arguments"] == free
