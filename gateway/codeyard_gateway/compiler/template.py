"""Parse the path templates of google.api.http into segments."""

from __future__ import annotations

import re

from codeyard_gateway.compiler.model import PathTemplate, Segment

_PARAMETER = re.compile(r"\{([a-z][a-z0-9_]*)(?:=(\*\*?))?\}")
_LITERAL = re.compile(r"[A-Za-z0-9._~-]+")


def parse_template(text: str) -> PathTemplate:
    """Parse a path such as ``/v1/files/{path=**}``.

    Raises ValueError with the reason when it is not absolute, has a custom verb (``/a/{b}:verb`` makes Envoy answer 404
    for every path of the same transcoder that ends in ``:verb``), names a parameter twice, or goes on after ``**``.
    """
    if not text.startswith("/"):
        raise ValueError(f'path "{text}" does not start with "/"')
    segments = tuple(_parse_segment(text, part) for part in text[1:].split("/"))
    template = PathTemplate(text, segments)
    if any(segment.deep for segment in segments[:-1]):
        raise ValueError(f'path "{text}" goes on after a "**" parameter')
    if len(set(template.parameters)) < len(template.parameters):
        raise ValueError(f'path "{text}" names a parameter twice')
    return template


def _parse_segment(text: str, part: str) -> Segment:
    if match := _PARAMETER.fullmatch(part):
        return Segment(parameter=match[1], deep=match[2] == "**")
    if _LITERAL.fullmatch(part):
        return Segment(literal=part)
    if ":" in part:
        raise ValueError(
            f'path "{text}" has a custom verb, which would make other paths with the same ending unreachable'
        )
    raise ValueError(f'path "{text}" has a segment "{part}" that is neither a literal nor one {{parameter}}')
