"""The administrator's file of MCP servers: the only place that can name a command to start.

    - name: files
      command: npx
      args: ["-y", "@modelcontextprotocol/server-filesystem", "/srv/shared"]
      env: {LOG_LEVEL: warn}
    - name: tickets
      url: https://tickets.example.com/mcp
      headers: {Authorization: Bearer example}

YAML or JSON. Everybody may use these servers. A command runs with the rights of the server process; an address may be
one of the private network, and nothing but this server is thereby opened to agents.
"""

from __future__ import annotations

import pathlib
from typing import Annotated, Any, Self

import pydantic
import yaml

from codeyard_server.capabilities.ports import McpServer

NAME = r"^[a-z0-9]+(-[a-z0-9]+)*$"


class McpConfigError(Exception):
    """The file cannot be used; the text names the place and quotes no value."""


class _Entry(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", hide_input_in_errors=True)

    name: Annotated[str, pydantic.Field(pattern=NAME, max_length=40)]
    command: Annotated[str, pydantic.Field(min_length=1)] | None = None
    args: tuple[str, ...] = ()
    env: dict[str, str] = {}
    url: Annotated[str, pydantic.Field(pattern=r"^https?://[^\s/?#@]+([/?][^\s#]*)?$", max_length=2048)] | None = None
    headers: dict[str, str] = {}

    @pydantic.model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.command is None) == (self.url is None):
            raise ValueError("give either command or url")
        if self.headers if self.url is None else (self.args or self.env):
            raise ValueError("args and env go with command, headers go with url")
        return self


_ENTRIES = pydantic.TypeAdapter(list[_Entry])


def read_servers(path: pathlib.Path | None) -> tuple[McpServer, ...]:
    """Return the servers of the file, in its order; none without a file.

    Raises:
        McpConfigError: it cannot be read, or does not have this form.
    """
    if path is None:
        return ()
    try:
        loaded: Any = yaml.safe_load(path.read_text())
        entries = _ENTRIES.validate_python(loaded or [])
    except (OSError, UnicodeDecodeError) as error:
        raise McpConfigError(f"{path}: cannot be read: {error}") from error
    except yaml.YAMLError as error:
        place = getattr(error, "problem_mark", None)
        raise McpConfigError(f"{path}: not YAML or JSON, line {place.line + 1 if place else '?'}") from None
    except pydantic.ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise McpConfigError(f"{path}: {problems}") from None
    names = [entry.name for entry in entries]
    if len(set(names)) != len(names):
        raise McpConfigError(f"{path}: a name is given twice")
    return tuple(
        McpServer(
            key=f"config/{entry.name}",
            name=entry.name,
            trusted=True,
            url=entry.url,
            headers=entry.headers,
            command=entry.command,
            args=entry.args,
            env=entry.env,
        )
        for entry in entries
    )
