"""The files of the page that shows the OpenAPI document."""

from __future__ import annotations

import re

import pytest
from codeyard_gateway.swagger import CONTENT_SECURITY_POLICY, swagger_file


def test_page_refers_only_to_files_that_exist_here() -> None:
    """No content delivery network: the yard may have no way out."""
    page, kind = swagger_file("") or (b"", "")
    assert kind == "text/html; charset=utf-8"
    references = re.findall(r'(?:src|href)="([^"]+)"', page.decode())
    assert len(references) == 5
    for reference in references:
        found = swagger_file(reference)
        assert found is not None
        assert len(found[0]) > 100


def test_page_runs_under_a_strict_policy() -> None:
    """No script in the page, none from elsewhere, no frame around it."""
    page, _ = swagger_file("index.html") or (b"", "")
    assert not re.search(rb"<script(?![^>]*src=)|\son\w+=|<style|style=", page)
    assert "script-src 'self'" in CONTENT_SECURITY_POLICY
    assert "frame-ancestors 'none'" in CONTENT_SECURITY_POLICY


def test_start_script_loads_our_document_and_keeps_the_credential() -> None:
    """persistAuthorization keeps what was typed over a reload; validatorUrl would send the document away."""
    script, kind = swagger_file("start.js") or (b"", "")
    assert kind.startswith("text/javascript")
    assert b'url: "/api-doc/openapi.json"' in script
    assert b"persistAuthorization: true" in script
    assert b"validatorUrl: null" in script


@pytest.mark.parametrize(
    "path",
    ["../__init__.py", "..%2f__init__.py", "/etc/passwd", "swagger-ui.css.map", "index.j2", "a/b", "\0", "INDEX.HTML"],
)
def test_other_path_is_no_file(path: str) -> None:
    """Only the listed names exist."""
    assert swagger_file(path) is None
