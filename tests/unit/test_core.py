"""Small parts of the core: ids, the JSON printer, errors, page tokens, statement files."""

from __future__ import annotations

import datetime
import itertools
import json
import pathlib
import uuid

import pytest
from codeyard.http.v1 import options_pb2
from codeyard_server.core import canonical, errors, paging, status
from codeyard_server.core.ids import new_id
from codeyard_server.core.queries import Queries
from hypothesis import given
from hypothesis import strategies as st

FAILURES = [
    errors.InvalidArgument, errors.CursorUnknown, errors.CapabilityInvalid, errors.ModelUnknown, errors.ModelExists,
    errors.VaultNotConfigured, errors.Unauthenticated, errors.PermissionDenied, errors.NotFound, errors.AlreadyExists,
    errors.IdempotencyKeyReused, errors.Unavailable,
]  # fmt: skip


def test_new_ids_are_uuid7_and_strictly_grow() -> None:
    """Ids of one process order as they were made, also within a millisecond."""
    ids = [new_id() for _ in range(20_000)]
    assert all(value.version == 7 and value.variant == uuid.RFC_4122 for value in ids)
    assert all(a < b for a, b in itertools.pairwise(ids))


def test_every_reason_of_the_public_enum_has_a_code_and_a_status() -> None:
    """The table and the enum name the same reasons."""
    assert set(errors.reasons()) == set(errors.WIRE)


@pytest.mark.parametrize("failure", FAILURES)
def test_every_failure_has_a_reason_of_the_enum(failure: type[errors.Failure]) -> None:
    """No exception carries a word that clients do not know."""
    assert failure("text").reason in errors.reasons()


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(json_values)
def test_canonical_text_reads_back_as_the_same_value(value: object) -> None:
    """Printing loses nothing, and a whole number has no fraction."""
    text = canonical.text(canonical.integral(value))
    assert json.loads(text) == value
    assert "\n" not in text


def test_canonical_prints_whole_doubles_without_fraction() -> None:
    """What came through a Struct prints as it was written."""
    text = canonical.text(canonical.integral({"n": 3.0, "x": [1.5, -0.0, 2.0**53]}))
    assert text == '{"n":3,"x":[1.5,0,9007199254740992.0]}'


def test_page_token_reads_back_and_refuses_anything_else() -> None:
    """A token is opaque but stable."""
    moment, row = datetime.datetime(2026, 1, 2, 3, 4, 5, 678901, datetime.UTC), new_id()
    assert paging.decode(paging.encode(moment, row)) == (moment, row)
    for bad in ("", "x", "e30", "WzEsMl0", "////", "ü"):
        with pytest.raises(errors.InvalidArgument):
            paging.decode(bad)


@pytest.mark.parametrize("shape", [options_pb2.ERROR_SHAPE_FLAT, options_pb2.ERROR_SHAPE_NESTED])
@given(text=st.text(max_size=5000), details=st.lists(st.text(max_size=500), max_size=60))
def test_http_error_body_fits_into_a_header(shape: options_pb2.ErrorShape, text: str, details: list[str]) -> None:
    """Whatever the text, the body is ASCII JSON of bounded length with reason and status."""
    body = status.http_body(errors.NotFound(text, details=details), shape)
    assert body.isascii() and len(body) <= status.MAX_BODY
    value = json.loads(body)
    assert (value["code"] if shape == options_pb2.ERROR_SHAPE_FLAT else value["error"]["code"]) == "NOT_FOUND"


def test_statement_files_refuse_what_has_no_name_or_a_name_twice(tmp_path: pathlib.Path) -> None:
    """A mistake in queries.sql is found when it is loaded."""
    module, file = str(tmp_path / "store.py"), tmp_path / "queries.sql"
    file.write_text("-- a comment\n-- name: one\nSELECT 1\n\n-- name: two\nSELECT 2\n")
    assert Queries.beside(module).names() == ["one", "two"]
    assert Queries.beside(module).two == "SELECT 2"
    for bad in ("SELECT 0\n-- name: one\nSELECT 1\n", "-- name: one\nSELECT 1\n-- name: one\nSELECT 2\n"):
        file.write_text(bad)
        with pytest.raises(ValueError, match="statement"):
            Queries.beside(module)
