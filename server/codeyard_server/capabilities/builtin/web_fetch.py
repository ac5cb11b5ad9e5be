"""Reads web pages."""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from typing import Any

from codeyard_server.capabilities.definition import Capability, FunctionTool, arguments_schema
from codeyard_server.capabilities.ports import HtmlConverter, ToolContext, WebDocument, WebFetcher

MAX_CONTENT_BYTES = 100_000
"""Longest content of a result, in bytes of UTF-8."""
MAX_BLANK_LINES = 2

_CHARSET = re.compile(r"""charset\s*=\s*["']?([\w.:-]{1,40})""", re.IGNORECASE)
# Python also has codecs that are no charsets, and some of them (punycode) take quadratic time.
_CODECS = re.compile(r"(?:utf-(?:8|16|32)|iso|cp|koi8|gb|big5|euc|shift|mac|ascii|tis|hz)")
_HTML_TYPES = frozenset({"text/html", "application/xhtml+xml"})


def decode(body: bytes, content_type: str | None) -> str:
    """Return a body as text: by its byte order mark, the charset of its header or its own, else as UTF-8."""
    for mark, encoding in (
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
    ):
        if body.startswith(mark):
            return body[len(mark) :].decode(encoding, "replace")
    declared = _CHARSET.search(content_type or "") or _CHARSET.search(body[:1024].decode("ascii", "replace"))
    if declared is not None:
        try:
            codec = codecs.lookup(declared[1]).name
        except LookupError:
            codec = "utf-8"
        if _CODECS.match(codec):
            return body.decode(codec, "replace")
    return body.decode("utf-8", "replace")


def squeeze_blank_lines(text: str) -> str:
    """Return text with every run of blank lines cut to MAX_BLANK_LINES."""
    kept: list[str] = []
    blank = 0
    for line in text.split("\n"):
        blank = 0 if line.strip() else blank + 1
        if blank <= MAX_BLANK_LINES:
            kept.append(line)
    return "\n".join(kept)


def cut(text: str, limit: int = MAX_CONTENT_BYTES) -> tuple[str, bool]:
    """Return the beginning of text that fits into limit bytes of UTF-8, and whether that is less than all."""
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= limit:
        return text, False
    return encoded[:limit].decode("utf-8", "ignore"), True


def is_html(text: str, content_type: str | None) -> bool:
    """Whether text is an HTML page, by its type or, without one, by how it begins."""
    if content_type is not None:
        return content_type.partition(";")[0].strip().lower() in _HTML_TYPES
    return text.lstrip()[:15].lower().startswith(("<!doctype html", "<html"))


async def _content(converter: HtmlConverter, document: WebDocument, arguments: Mapping[str, Any]) -> tuple[str, str]:
    """Return the format and the text of a document that has a body."""
    text = decode(document.body or b"", document.content_type)
    if is_html(text, document.content_type):
        if arguments.get("as_markdown"):
            return "markdown", await converter.convert(text, "markdown")
        if arguments.get("as_text"):
            return "text", await converter.convert(text, "text")
    return "raw", text


async def web_fetch(fetcher: WebFetcher, converter: HtmlConverter, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the result of one call of the tool.

    Raises:
        ToolError: the address cannot be fetched, or the page not be converted.
    """
    document = await fetcher.fetch(arguments["url"], method=arguments.get("method", "GET"))
    members = {
        "url": document.url,
        "status_code": document.status_code,
        "content_type": document.content_type,
        "size": document.size_bytes,
        "last_modified": document.last_modified,
    }
    result = {name: value for name, value in members.items() if value is not None}
    if document.body is None:
        return result | ({"filename": document.filename} if document.filename else {})
    form, text = await _content(converter, document, arguments)
    text, shortened = cut(squeeze_blank_lines(text))
    return result | {"format": form, "content": text, "truncated": document.truncated or shortened}


def capability(fetcher: WebFetcher, converter: HtmlConverter) -> Capability:
    """Return the capability over what fetches and what converts."""

    async def handler(arguments: Mapping[str, Any], _context: ToolContext) -> Mapping[str, Any]:
        return await web_fetch(fetcher, converter, arguments)

    tool = FunctionTool(
        name="web_fetch",
        description=(
            "Fetch a public web address. Returns text content (HTML as it is, as Markdown or as plain text); for other "
            "content, and with method HEAD, only what kind it is and how large."
        ),
        parameters=arguments_schema(
            ("url",),
            url={"type": "string", "minLength": 1, "maxLength": 8192, "description": "http or https address."},
            method={"type": "string", "enum": ["GET", "HEAD"], "description": "GET by default."},
            as_markdown={"type": "boolean", "description": "Convert an HTML page to Markdown."},
            as_text={"type": "boolean", "description": "Convert an HTML page to plain text."},
        ),
        handler=handler,
        # Five redirects at their limits, the body, and the conversion.
        timeout_seconds=90.0,
    )
    return Capability(
        id="web_fetch",
        name="Web Fetch",
        description="Reads web pages and other public addresses.",
        icon="globe",
        category="Network",
        tools=(tool,),
    )
