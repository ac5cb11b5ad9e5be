"""The tool web_fetch: what it makes of a document."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from codeyard_server.adapters.html_converter import ConverterLimits, ProcessHtmlConverter
from codeyard_server.capabilities.builtin.web_fetch import cut, decode, squeeze_blank_lines, web_fetch
from codeyard_server.capabilities.ports import ToolError, WebDocument

PAGE = """<!doctype html><html><head><title>T</title><style>p {color: red}</style></head><body>
<h1>Release &amp; notes</h1><p>First <b>bold</b><br>second</p><script>steal()</script>
<ul><li>one</li><li>two</li></ul><a href="/more">more</a>
<table><tr><th>A</th><th>B</th></tr><tr><td>1</td><td>2</td></tr></table>
<img alt="logo" src="data:image/png;base64,AAAA"></body></html>"""


class Shelf:
    """A fetcher that has one document."""

    def __init__(self, body: bytes | None, content_type: str | None = "text/html", *, truncated: bool = False) -> None:
        self.document = WebDocument(
            url="https://example.com/page",
            status_code=200,
            content_type=content_type,
            size_bytes=7,
            last_modified=None,
            filename="page",
            body=body,
            truncated=truncated,
        )
        self.asked: list[tuple[str, str]] = []

    async def fetch(self, url: str, *, method: Literal["GET", "HEAD"]) -> WebDocument:
        """Return the document."""
        self.asked.append((url, method))
        return self.document


async def fetched(shelf: Shelf, **arguments: Any) -> Any:
    """Run the tool."""
    return await web_fetch(shelf, ProcessHtmlConverter(), {"url": "https://example.com/page", **arguments})


async def test_result_has_the_page_as_it_is_when_no_conversion_is_asked_for() -> None:
    """The default is raw; members without a value are left out."""
    result = await fetched(Shelf(b"<p>hi</p>"))
    assert result == {
        "url": "https://example.com/page",
        "status_code": 200,
        "content_type": "text/html",
        "size": 7,
        "format": "raw",
        "content": "<p>hi</p>",
        "truncated": False,
    }


async def test_result_is_markdown_when_asked_for() -> None:
    """Headings, lists, links and tables survive; scripts, styles and inline images do not."""
    result = await fetched(Shelf(PAGE.encode()), as_markdown=True, as_text=True)
    assert result["format"] == "markdown"
    for part in ("# Release & notes", "First **bold**", "- one", "[more](/more)", "| A | B |"):
        assert part in result["content"]
    for part in ("steal", "color", "base64"):
        assert part not in result["content"]


async def test_result_is_text_when_asked_for() -> None:
    """Only the words are left."""
    result = await fetched(Shelf(PAGE.encode()), as_text=True)
    assert result["format"] == "text"
    assert "Release & notes" in result["content"]
    for part in ("#", "**", "/more", "steal", "<"):
        assert part not in result["content"]


async def test_result_is_raw_when_the_document_is_not_html() -> None:
    """There is nothing to convert in JSON."""
    result = await fetched(Shelf(b'{"a": "<b>"}', "application/json"), as_markdown=True)
    assert (result["format"], result["content"]) == ("raw", '{"a": "<b>"}')


async def test_result_is_converted_when_only_the_text_says_it_is_html() -> None:
    """A server that names no type may still send a page."""
    result = await fetched(Shelf(b"<!DOCTYPE html><h1>x</h1>", None), as_markdown=True)
    assert (result["format"], result["content"].strip()) == ("markdown", "# x")


async def test_result_has_only_metadata_when_there_is_no_body() -> None:
    """HEAD and binary types tell name and size."""
    shelf = Shelf(None, "image/png")
    result = await fetched(shelf, method="HEAD")
    assert result == {
        "url": "https://example.com/page",
        "status_code": 200,
        "content_type": "image/png",
        "size": 7,
        "filename": "page",
    }
    assert shelf.asked == [("https://example.com/page", "HEAD")]


async def test_result_is_marked_when_the_body_was_cut_on_the_way() -> None:
    """The model learns that it saw only the beginning."""
    assert (await fetched(Shelf(b"x", truncated=True)))["truncated"] is True


async def test_result_is_cut_when_the_text_is_too_long() -> None:
    """100 kB of UTF-8 are kept, whole characters only."""
    result = await fetched(Shelf(("é" * 100_000).encode(), "text/plain"))
    assert result["truncated"] is True
    assert result["content"] == "é" * 50_000


async def test_result_is_an_error_when_the_page_would_take_gigabytes() -> None:
    """A page that is made to grow without bound ends its converter; the model gets a text it can act on."""
    page = "<blockquote>" * 120 + "<pre>" + "x\n" * 500_000
    with pytest.raises(ToolError, match="cannot be converted"):
        await fetched(Shelf(page.encode()), as_markdown=True)


async def test_convert_fails_when_it_takes_too_long() -> None:
    """At the time limit the converter is ended."""
    converter = ProcessHtmlConverter(ConverterLimits(seconds=0.001))
    with pytest.raises(ToolError, match="cannot be converted"):
        await converter.convert("<p>x", "text")


async def test_convert_returns_the_beginning_when_the_result_is_too_long() -> None:
    """A cut falls between characters."""
    converter = ProcessHtmlConverter(ConverterLimits(output_bytes=5))
    assert await converter.convert("<p>éééé</p>", "text") == "éé"


@pytest.mark.parametrize("output", ["markdown", "text"])
@pytest.mark.parametrize(
    "html",
    ["<div>" * 50_000, "<b>" * 50_000, "<table><tr><td>" * 10_000, "<" * 500_000, "&" * 500_000, "<!--" * 100_000],
    ids=["div", "b", "table", "angle", "ampersand", "comment"],
)
async def test_convert_survives_a_page_that_is_meant_to_break_it(
    html: str, output: Literal["markdown", "text"]
) -> None:
    """Deep nesting and broken mark-up are converted to something that is no longer than the page."""
    assert len(await ProcessHtmlConverter().convert(html, output)) <= len(html) + 1


@pytest.mark.parametrize(
    ("body", "content_type", "text"),
    [
        ("grün".encode(), "text/plain", "grün"),
        ("grün".encode("latin-1"), "text/plain; charset=ISO-8859-1", "grün"),
        ("grün".encode("latin-1"), 'text/html; charset="windows-1252"', "grün"),
        (b'<meta charset="iso-8859-1">gr\xfcn', "text/html", '<meta charset="iso-8859-1">grün'),
        ("\ufeffgrün".encode("utf-16"), "text/plain", "\ufeffgrün"),
        ("grün".encode("utf-8-sig"), "text/plain; charset=latin-1", "grün"),
        ("日本".encode("shift_jis"), "text/plain; charset=Shift_JIS", "日本"),
        (b"gr\xfcn", "text/plain", "gr\ufffdn"),
        (b"plain", "text/plain; charset=no-such", "plain"),
        (b"abc", "text/plain; charset=base64", "abc"),
        (b"abc-", "text/plain; charset=punycode", "abc-"),
    ],
)
def test_decode_follows_mark_header_and_declaration(body: bytes, content_type: str, text: str) -> None:
    """A byte order mark counts most, then the header, then the page itself, then UTF-8; odd codecs never do."""
    assert decode(body, content_type) == text


def test_blank_lines_are_cut_to_two() -> None:
    """Longer runs of blank lines, also of spaces, shrink; shorter ones stay."""
    assert squeeze_blank_lines("a\n\n\n\n \t\n\nb\n\nc\r\nd") == "a\n\n\nb\n\nc\r\nd"


def test_cut_keeps_whole_characters() -> None:
    """A character that does not fit is left out."""
    assert cut("aé", 2) == ("a", True)
    assert cut("aé", 3) == ("aé", False)
