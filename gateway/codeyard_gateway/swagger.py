"""The page that shows the OpenAPI document: swagger-ui from a package, an index page without inline script or style."""

from __future__ import annotations

import functools
import importlib.util
import pathlib

DOCUMENT_URL = "/api-doc/openapi.json"

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Header value for the page and its assets: nothing from elsewhere."""

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".png": "image/png",
}
_ASSETS = ("swagger-ui.css", "swagger-ui-bundle.js", "favicon-16x16.png", "favicon-32x32.png")

_INDEX = """<!DOCTYPE html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <title>Codeyard API</title>
  <link rel="stylesheet" href="swagger-ui.css">
  <link rel="icon" type="image/png" href="favicon-32x32.png" sizes="32x32">
  <link rel="icon" type="image/png" href="favicon-16x16.png" sizes="16x16">
</head>
<body>
  <div id="swagger-ui"></div>
  <script src="swagger-ui-bundle.js"></script>
  <script src="start.js"></script>
</body>
</html>
"""

_START = f"""window.addEventListener("load", function () {{
  window.ui = SwaggerUIBundle({{
    url: "{DOCUMENT_URL}",
    dom_id: "#swagger-ui",
    deepLinking: true,
    persistAuthorization: true,
    validatorUrl: null,
    presets: [SwaggerUIBundle.presets.apis]
  }});
}});
"""


def swagger_file(path: str) -> tuple[bytes, str] | None:
    """Return content and content type of a file below ``/swagger-ui/``; the empty path is the page.

    Only the names listed here exist, so no path leads out of the package. None: there is no such file.
    """
    if path in ("", "index.html"):
        return _INDEX.encode(), _TYPES[".html"]
    if path == "start.js":
        return _START.encode(), _TYPES[".js"]
    if path in _ASSETS:
        return _asset(path), _TYPES[pathlib.PurePosixPath(path).suffix]
    return None


@functools.cache
def _asset(name: str) -> bytes:
    """Read a packaged asset. The package is located, not imported: its import wants a template engine."""
    spec = importlib.util.find_spec("swagger_ui_bundle")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("the package that holds swagger-ui is not installed")
    vendor = pathlib.Path(spec.submodule_search_locations[0]) / "vendor"
    return next(vendor.glob(f"swagger-ui-*/{name}")).read_bytes()
