"""What an installation can set, all of it by environment variable. ``docs/settings.md`` is printed from here:

    python -m codeyard_server.settings > docs/settings.md

``codeyard up`` fills in what a self-contained yard needs and passes the rest of its environment on to the servers.
A secret that is missing, or is an example from some text, stops the start: a yard never runs on a key that others know.
"""

from __future__ import annotations

import base64
import binascii
import importlib.metadata
import ipaddress
import pathlib
import re
import urllib.parse
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

AuthMode = Literal["admin", "full", "none"]
Words = Annotated[tuple[str, ...], NoDecode]
MasterKey = tuple[str, bytes]

_MASTER_KEY = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_ADMIN_KEY = re.compile(r"cyk_[0-9a-f]{64}")
# 32 random bytes hold about 30 different values, 64 random hex digits all 16: fewer means somebody typed it.
_MIN_DIFFERENT_BYTES = 16
_MIN_DIFFERENT_DIGITS = 8

_HINTS = {
    "DATABASE_URL": 'DATABASE_URL="postgresql://USER:PASSWORD@HOST:5432/DATABASE"',
    "SECRETS_ENCRYPTION_KEY": (
        'SECRETS_ENCRYPTION_KEY="k1:<base64 of 32 random bytes>"   (make one with: head -c 32 /dev/urandom | base64)'
    ),
    "CODEYARD_ADMIN_KEY": (
        'CODEYARD_ADMIN_KEY="cyk_<64 hex digits>"   '
        "(make one with: echo cyk_$(head -c 32 /dev/urandom | od -An -vtx1 | tr -d ' \\n'))"
    ),
}


_PREFACE = """# Settings

Set by environment variable; an empty value counts as unset. Lists are separated by commas. This page is printed from
`server/codeyard_server/settings.py` by `make gen`.

`codeyard up` fills in what has no value: it makes the secrets once and keeps them in `secrets.env` in its data folder
(0600), starts a database unless `DATABASE_URL` is set, and chooses the sockets. Further lines of that file reach the
servers too; a variable of the environment wins over the file. The commands `up`, `status` and `down` take their folder
from `--data` or `CODEYARD_DATA`; by default it is `/var/lib/codeyard` for root, `$XDG_DATA_HOME/codeyard` for others.
"""


def _version() -> str:
    try:
        return importlib.metadata.version("codeyard")
    except importlib.metadata.PackageNotFoundError:
        return "0+source"


VERSION = _version()
"""The version of the installed distribution; ``0+source`` where it runs from a source folder without one."""


class SettingsError(Exception):
    """The environment does not make a runnable installation. The message names every variable, and never a value."""


def _variable(name: str, description: str, default: Any = ..., **bounds: Any) -> Any:
    return Field(default, validation_alias=name, description=description, **bounds)


class Settings(BaseSettings):
    """The settings of one server process, and those of the yard that all its processes share.

    Read them with :func:`load_settings`, whose errors are written for the administrator.
    """

    model_config = SettingsConfigDict(
        case_sensitive=True, env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    # State
    database_url: SecretStr = _variable("DATABASE_URL", "PostgreSQL 15 or newer, as `postgresql://` URL.")
    database_pool_size: int = _variable(
        "CODEYARD_DB_POOL_SIZE", "Most database connections of one server process.", 20, ge=2, le=1000
    )
    blob_url: str = _variable(
        "CODEYARD_BLOB_URL",
        "Where blobs are kept: `file:///folder`, or `s3://bucket?endpoint=https://host:port&region=name`.",
        "file:///var/lib/codeyard/blobs",
    )
    s3_access_key_id: SecretStr | None = _variable("AWS_ACCESS_KEY_ID", "Access key of an `s3:` blob store.", None)
    s3_secret_access_key: SecretStr | None = _variable(
        "AWS_SECRET_ACCESS_KEY", "Secret key of an `s3:` blob store.", None
    )

    # Addresses
    socket: str = _variable(
        "CODEYARD_SOCKET", "Where a server listens for gRPC: path of a unix socket, or `host:port`.", "127.0.0.1:9090"
    )
    edge_socket: str = _variable(
        "CODEYARD_EDGE_SOCKET", "Where its WebSocket edge listens: path, or `host:port`.", "127.0.0.1:9091"
    )
    listen: str = _variable("CODEYARD_LISTEN", "Where the gateway listens, `host:port`.", "127.0.0.1:8080")
    base_url: str = _variable("BASE_URL", "The yard's address as its users write it.", "http://127.0.0.1:8080")
    allowed_hosts: Words = _variable(
        "ALLOWED_HOSTS",
        "Host names that the gateway answers to besides the loopback names; `*.example.com` stands for a suffix.",
        (),
    )
    cors_allowed_origins: Words = _variable(
        "CORS_ALLOWED_ORIGINS", "Origins of browser pages that may call, such as `https://app.example.com`.", ()
    )
    metrics_address: str | None = _variable(
        "CODEYARD_METRICS_ADDRESS",
        "`host:port` for Prometheus; unset serves none. Under `codeyard up`, server-1 takes the next port, and so on.",
        None,
    )

    # Trust
    auth_mode: AuthMode = _variable(
        "AUTH_MODE",
        "`admin`: only the administrator's key. `full`: accounts as well. `none`: everybody is the administrator;"
        " on loopback addresses only.",
        "admin",
    )
    admin_key: SecretStr | None = _variable(
        "CODEYARD_ADMIN_KEY",
        "API key of the local administrator, `cyk_` and 64 hex digits. Needed unless `AUTH_MODE` is `none`.",
        None,
        validate_default=True,
    )
    secrets_encryption_key: SecretStr = _variable(
        "SECRETS_ENCRYPTION_KEY", "Master key of the vault, `id:base64(32 bytes)`. New values are sealed with it."
    )
    secrets_encryption_key_previous: SecretStr | None = _variable(
        "SECRETS_ENCRYPTION_KEY_PREVIOUS", "The master key before, to read what has not been rotated yet.", None
    )
    web_allow: Words = _variable(
        "CODEYARD_WEB_ALLOW",
        "Private addresses that URLs of agents and users may reach, each `host:port`, such as `10.0.0.5:8080`.",
        (),
    )

    model_allow: Words = _variable(
        "CODEYARD_MODEL_ALLOW",
        "Private addresses that model providers may be on, each `host:port`, such as `127.0.0.1:11434`. Unlike"
        " `CODEYARD_WEB_ALLOW` it opens nothing to agents and their tools.",
        (),
    )

    # Models and tools
    default_openai_api_key: SecretStr | None = _variable(
        "DEFAULT_OPENAI_API_KEY", "Used where an OpenAI provider has no key of its own.", None
    )
    default_anthropic_api_key: SecretStr | None = _variable(
        "DEFAULT_ANTHROPIC_API_KEY", "Used where an Anthropic provider has no key of its own.", None
    )
    mcp_config: pathlib.Path | None = _variable(
        "CODEYARD_MCP_CONFIG", "File of the administrator's MCP servers; only here may one be a command.", None
    )

    # Turns
    turn_max_iterations: int = _variable(
        "CODEYARD_TURN_MAX_ITERATIONS", "Most model calls of one turn.", 10, ge=1, le=1000
    )
    turn_timeout_seconds: float = _variable(
        "CODEYARD_TURN_TIMEOUT_SECONDS", "A turn that takes longer fails.", 600.0, gt=0
    )
    turn_lease_seconds: float = _variable(
        "CODEYARD_TURN_LEASE_SECONDS",
        "How long a turn of a process that died waits before another takes it up.",
        3.0,
        ge=0.5,
        le=60,
    )
    turn_model_retries: int = _variable(
        "CODEYARD_TURN_MODEL_RETRIES", "How often a model call is repeated after a transient error.", 3, ge=0, le=20
    )
    turn_concurrency: int = _variable(
        "CODEYARD_TURN_CONCURRENCY", "Most turns that one server process runs at a time.", 200, ge=1, le=10000
    )

    # Operation
    shutdown_grace_seconds: float = _variable(
        "CODEYARD_SHUTDOWN_GRACE_SECONDS", "How long a stopping server waits for running calls.", 4.0, ge=0, le=300
    )
    log_level: Literal["debug", "info", "warning", "error"] = _variable("LOG_LEVEL", "The least severe level.", "info")
    log_format: Literal["json", "console"] = _variable(
        "LOG_FORMAT", "`json`: one object a line; `console`: for people.", "json"
    )
    otel_endpoint: str | None = _variable(
        "OTEL_EXPORTER_OTLP_ENDPOINT", "OTLP/HTTP collector for traces; unset sends none.", None
    )
    otel_service_name: str = _variable("OTEL_SERVICE_NAME", "Name of this service in traces.", "codeyard")
    otel_environment: str | None = _variable("OTEL_ENVIRONMENT", "Name of the deployment in traces.", None)

    @property
    def master_keys(self) -> tuple[MasterKey, ...]:
        """The vault's master keys as (id, 32 bytes): the one that seals first, then the previous one."""
        keys = (self.secrets_encryption_key, self.secrets_encryption_key_previous)
        return tuple(parse_master_key(key.get_secret_value()) for key in keys if key is not None)

    @property
    def default_provider_keys(self) -> dict[str, str]:
        """Type of provider -> the key that serves providers of this type without one of their own."""
        keys = {"openai": self.default_openai_api_key, "anthropic": self.default_anthropic_api_key}
        return {kind: key.get_secret_value() for kind, key in keys.items() if key is not None}

    @field_validator("allowed_hosts", "cors_allowed_origins", "web_allow", "model_allow", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(word.strip() for word in value.split(",") if word.strip()) if isinstance(value, str) else value

    @field_validator("log_level", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("database_url")
    @classmethod
    def _check_database_url(cls, value: SecretStr) -> SecretStr:
        if not value.get_secret_value().startswith(("postgresql://", "postgres://")):
            raise ValueError("is not a postgresql:// URL")
        return value

    @field_validator("blob_url")
    @classmethod
    def _check_blob_url(cls, value: str) -> str:
        url = urllib.parse.urlsplit(value)
        if url.username or url.password:
            raise ValueError("must not hold credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
        is_folder = url.scheme == "file" and not url.netloc and url.path.startswith("/")
        if not is_folder and not (url.scheme == "s3" and url.netloc):
            raise ValueError("is neither file:///folder nor s3://bucket?endpoint=...")
        return value

    @field_validator("base_url")
    @classmethod
    def _check_base_url(cls, value: str) -> str:
        if not re.fullmatch(r"https?://[^/\s?#@]+(/[^\s?#]*)?", value):
            raise ValueError("is not an http:// or https:// URL")
        return value.rstrip("/")

    @field_validator("socket", "edge_socket")
    @classmethod
    def _check_endpoint(cls, value: str) -> str:
        if not value.startswith("/"):
            split_address(value)
        return value

    @field_validator("listen", "metrics_address")
    @classmethod
    def _check_address(cls, value: str | None) -> str | None:
        if value is not None:
            split_address(value)
        return value

    @field_validator("auth_mode")
    @classmethod
    def _check_auth_mode(cls, value: AuthMode, info: ValidationInfo) -> AuthMode:
        addresses = {
            "CODEYARD_LISTEN": info.data.get("listen"),
            "CODEYARD_SOCKET": info.data.get("socket"),
            "CODEYARD_EDGE_SOCKET": info.data.get("edge_socket"),
        }
        for name, address in addresses.items():
            if value == "none" and address is not None and not _is_local(address):
                raise ValueError(f"none lets everybody in, so it needs a loopback address in {name}")
        return value

    @field_validator("admin_key")
    @classmethod
    def _check_admin_key(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if value is None:
            if info.data.get("auth_mode") != "none":
                raise ValueError("is not set")
            return None
        key = value.get_secret_value()
        if not _ADMIN_KEY.fullmatch(key):
            raise ValueError("is not cyk_ and 64 lower-case hex digits")
        if len(set(key[4:])) < _MIN_DIFFERENT_DIGITS:
            raise ValueError("is an example, not a secret")
        return value

    @field_validator("secrets_encryption_key", "secrets_encryption_key_previous")
    @classmethod
    def _check_master_key(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            parse_master_key(value.get_secret_value())
        return value

    @field_validator("mcp_config")
    @classmethod
    def _check_mcp_config(cls, value: pathlib.Path | None) -> pathlib.Path | None:
        if value is not None and not value.is_file():
            raise ValueError("is not a file")
        return value

    @model_validator(mode="after")
    def _check_key_ids(self) -> Self:
        ids = [key_id for key_id, _ in self.master_keys]
        if len(set(ids)) < len(ids):
            raise ValueError("SECRETS_ENCRYPTION_KEY_PREVIOUS has the id of SECRETS_ENCRYPTION_KEY")
        return self


def load_settings(overrides: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from the environment; variables in ``overrides`` win over it.

    Raises:
        SettingsError: a variable is missing or wrong; the message says for each what to write instead.
    """
    values: dict[str, Any] = {name: value for name, value in (overrides or {}).items() if value}
    try:
        return Settings(**values)
    except ValidationError as error:
        raise SettingsError(_explain(error)) from None


def parse_master_key(text: str) -> MasterKey:
    """Split ``id:base64(32 bytes)``.

    Raises:
        ValueError: it is not of that form, or the bytes are not random; the message does not quote it.
    """
    key_id, _, encoded = text.partition(":")
    if not _MASTER_KEY.fullmatch(key_id):
        raise ValueError("does not start with an id and a colon")
    try:
        key = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        raise ValueError("does not hold base64 after its id") from None
    if len(key) != 32:
        raise ValueError(f"holds {len(key)} bytes after its id, not 32")
    if len(set(key)) < _MIN_DIFFERENT_BYTES:
        raise ValueError("is an example, not a secret")
    return key_id, key


def split_address(address: str) -> tuple[str, int]:
    """Split ``host:port``; an IPv6 host stands in brackets, which are removed.

    Raises:
        ValueError: it is not of that form.
    """
    host, _, port = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not host or not port.isascii() or not port.isdecimal() or int(port) > 65535 or (":" in host and not bracketed):
        raise ValueError("is not host:port")
    return (host[1:-1] if bracketed else host), int(port)


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine alone. Other names are not resolved: they can change."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def settings_table() -> str:
    """Return ``docs/settings.md``: one row a variable."""
    rows = (
        f"| `{field.validation_alias}` | {_default(field.is_required(), field.default)} | {field.description} |"
        for field in Settings.model_fields.values()
    )
    return "\n".join([_PREFACE, "| Variable | Default | Meaning |", "|---|---|---|", *rows, ""])


def _is_local(address: str) -> bool:
    return address.startswith("/") or is_loopback(split_address(address)[0])


def _default(required: bool, default: object) -> str:
    if required:
        return "required"
    if default is None or default == ():
        return "unset"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def _explain(error: ValidationError) -> str:
    lines = ["The settings do not allow a start:"]
    for problem in error.errors(include_url=False, include_context=False, include_input=False):
        text = "is not set" if problem["type"] == "missing" else problem["msg"].removeprefix("Value error, ")
        if not problem["loc"]:
            lines.append(f"  {text}")
            continue
        name = str(problem["loc"][0])
        # A default that fails is reported under the attribute, a value under its variable.
        field = Settings.model_fields.get(name)
        variable = name if field is None else str(field.validation_alias)
        lines.append(f"  {variable} {text}")
        if variable in _HINTS:
            lines.append(f"    add: {_HINTS[variable]}")
    return "\n".join(lines)


if __name__ == "__main__":
    print(settings_table(), end="")
