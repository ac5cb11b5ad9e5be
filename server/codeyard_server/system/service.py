"""RPCs of the installation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from codeyard.system.v1 import system_service_pb2 as pb
from google.api.httpbody_pb2 import HttpBody

from codeyard_server.core import errors
from codeyard_server.core.call import Call
from codeyard_server.core.clock import Clock
from codeyard_server.core.database import Database

HEALTH_SECONDS = 2.0

SwaggerFile = Callable[[str], tuple[bytes, str] | None]
"""Path below /swagger-ui/ -> bytes and content type."""


class SystemService:
    """Health and documentation; needs no credential."""

    def __init__(
        self,
        database: Database,
        swagger_file: SwaggerFile,
        page_policy: str,
        openapi: Callable[[], bytes],
        version: str,
        auth_mode: str,
        clock: Clock,
    ) -> None:
        self._database = database
        self._swagger_file = swagger_file
        self._page_policy = page_policy
        self._openapi = openapi
        self._version = version
        self._auth_mode = auth_mode
        self._clock = clock

    async def get_health(self, request: pb.GetHealthRequest, call: Call) -> pb.GetHealthResponse:
        try:
            async with asyncio.timeout(HEALTH_SECONDS), self._database.connection() as tx:
                await tx.value("SELECT 1")
        except (TimeoutError, errors.Unavailable) as error:
            raise errors.Unavailable("The database cannot be reached", details={"dependency": "database"}) from error
        return pb.GetHealthResponse(
            status="ok",
            version=self._version,
            runner_mode="Durable",
            auth_mode=self._auth_mode.capitalize(),
            timestamp=self._clock(),
        )

    async def get_open_api(self, request: pb.GetOpenApiRequest, call: Call) -> HttpBody:
        return HttpBody(content_type="application/json", data=await asyncio.to_thread(self._openapi))

    async def get_swagger_ui(self, request: pb.GetSwaggerUiRequest, call: Call) -> HttpBody:
        if call.metadata.get("x-envoy-original-path", "").partition("?")[0] == "/swagger-ui":
            call.headers += [("x-http-code", "303"), ("location", "/swagger-ui/")]
            return HttpBody()
        found = self._swagger_file(request.path)
        if found is None:
            raise errors.NotFound("There is no such file")
        data, content_type = found
        call.headers.append(("content-security-policy", self._page_policy))
        return HttpBody(content_type=content_type, data=data)
