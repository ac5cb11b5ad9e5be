"""The OpenAPI document as the server serves it."""

from __future__ import annotations

import json


def openapi_json(version: str) -> bytes:
    """Return the document of the packaged image as JSON. ``version`` is the version of the installation."""
    # Loaded here: a server that starts does not need the compiler.
    from codeyard_gateway.compiler.openapi import openapi_document
    from codeyard_gateway.compiler.reader import read_image
    from codeyard_gateway.render import load_image

    index, api = read_image(load_image())
    return json.dumps(openapi_document(index, api, version), ensure_ascii=False).encode()
