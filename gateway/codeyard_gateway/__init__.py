"""The gateway of Codeyard: Envoy, configured from the protos.

``write_gateway`` writes what Envoy runs on and ``envoy_command`` says how to start it; ``openapi_json`` and
``swagger_file`` are what the system service answers with; ``load_api`` is the model for tests that must know every route
and method.
"""

from codeyard_gateway.render import envoy_binary, envoy_command, load_api, load_image, openapi_json, write_gateway
from codeyard_gateway.settings import GatewaySettings
from codeyard_gateway.swagger import CONTENT_SECURITY_POLICY, swagger_file

__all__ = [
    "CONTENT_SECURITY_POLICY",
    "GatewaySettings",
    "envoy_binary",
    "envoy_command",
    "load_api",
    "load_image",
    "openapi_json",
    "swagger_file",
    "write_gateway",
]
