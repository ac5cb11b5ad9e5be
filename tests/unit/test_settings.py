"""Settings: what a start needs, what it refuses, and that the documented table is the code's."""

from __future__ import annotations

import base64
import pathlib
import re
import secrets

import pytest
from codeyard_server import settings
from codeyard_server.settings import Settings, SettingsError, load_settings

ROOT = pathlib.Path(__file__).resolve().parents[2]

MASTER_KEY = f"k1:{base64.b64encode(bytes(range(32))).decode()}"
ADMIN_KEY = f"cyk_{'0123456789abcdef' * 4}"
NEEDED = {
    "DATABASE_URL": "postgresql://codeyard:pw-0f3a@/codeyard",
    "SECRETS_ENCRYPTION_KEY": MASTER_KEY,
    "CODEYARD_ADMIN_KEY": ADMIN_KEY,
}


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take every setting out of the environment, so that the machine's own do not show through."""
    for field in Settings.model_fields.values():
        monkeypatch.delenv(str(field.validation_alias), raising=False)


def refusal(**changes: str) -> str:
    """Return the message of the refusal that these variables cause, beside the needed ones."""
    with pytest.raises(SettingsError) as caught:
        load_settings({**NEEDED, **changes})
    return str(caught.value)


def test_settings_load_when_only_the_needed_variables_are_set() -> None:
    """Everything but the database and two secrets has a default."""
    loaded = load_settings(NEEDED)
    assert loaded.auth_mode == "admin"
    assert loaded.turn_max_iterations == 10
    assert loaded.master_keys == (("k1", bytes(range(32))),)


def test_settings_load_when_they_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment is read, an override wins over it, and an empty value counts as unset."""
    for name, value in NEEDED.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CODEYARD_TURN_MAX_ITERATIONS", "7")
    monkeypatch.setenv("CODEYARD_TURN_CONCURRENCY", "5")
    monkeypatch.setenv("LOG_FORMAT", "")
    loaded = load_settings({"CODEYARD_TURN_CONCURRENCY": "6"})
    assert (loaded.turn_max_iterations, loaded.turn_concurrency, loaded.log_format) == (7, 6, "json")


def test_settings_split_lists_at_commas() -> None:
    """A list is written with commas; blanks around its words do not count."""
    loaded = load_settings(
        {**NEEDED, "CODEYARD_WEB_ALLOW": "10.0.0.5:11434, [fd00::1]:80,", "ALLOWED_HOSTS": "a.example"}
    )
    assert loaded.web_allow == ("10.0.0.5:11434", "[fd00::1]:80")
    assert loaded.allowed_hosts == ("a.example",)


@pytest.mark.parametrize("name", ["DATABASE_URL", "SECRETS_ENCRYPTION_KEY", "CODEYARD_ADMIN_KEY"])
def test_start_is_refused_with_the_line_to_add_when_a_needed_variable_is_missing(name: str) -> None:
    """The message names the variable and holds a line for the environment file."""
    with pytest.raises(SettingsError) as caught:
        load_settings({key: value for key, value in NEEDED.items() if key != name})
    assert f"{name} is not set" in str(caught.value)
    assert f'add: {name}="' in str(caught.value)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "k1",
        "k1:",
        ":" + base64.b64encode(bytes(range(32))).decode(),
        "k1:not base64!",
        f"k1:{base64.b64encode(bytes(range(31))).decode()}",
        f"k1:{base64.b64encode(bytes(32)).decode()}",
        f"k1:{base64.b64encode(b'change me change me change me me').decode()}",
    ],
)
def test_start_is_refused_when_the_master_key_is_malformed_or_an_example(key: str) -> None:
    """A master key is an id and 32 random bytes."""
    assert "SECRETS_ENCRYPTION_KEY" in refusal(SECRETS_ENCRYPTION_KEY=key or " ")


def test_a_random_master_key_is_always_taken() -> None:
    """The check for examples never hits a key that was really drawn at random."""
    for _ in range(2000):
        settings.parse_master_key(f"k1:{base64.b64encode(secrets.token_bytes(32)).decode()}")


@pytest.mark.parametrize("key", ["cyk_", "cyk_" + "0" * 64, "cyk_" + "ab" * 32, "changeme", ADMIN_KEY.upper()])
def test_start_is_refused_when_the_administrators_key_is_weak(key: str) -> None:
    """An administrator's key has 64 hex digits that somebody drew."""
    assert "CODEYARD_ADMIN_KEY" in refusal(CODEYARD_ADMIN_KEY=key)


def test_start_is_refused_when_both_master_keys_have_one_id() -> None:
    """A sealed value names its key by id, so two keys need two."""
    assert "has the id of" in refusal(SECRETS_ENCRYPTION_KEY_PREVIOUS=MASTER_KEY)


def test_master_keys_are_listed_newest_first_when_there_is_a_previous_one() -> None:
    """The first key seals, both open."""
    previous = f"k0:{base64.b64encode(bytes(range(100, 132))).decode()}"
    loaded = load_settings({**NEEDED, "SECRETS_ENCRYPTION_KEY_PREVIOUS": previous})
    assert [key_id for key_id, _ in loaded.master_keys] == ["k1", "k0"]


@pytest.mark.parametrize("name", ["CODEYARD_LISTEN", "CODEYARD_SOCKET", "CODEYARD_EDGE_SOCKET"])
@pytest.mark.parametrize("address", ["0.0.0.0:8080", "[::]:8080", "192.0.2.1:80", "yard.example:80"])
def test_auth_mode_none_is_refused_when_an_address_is_not_loopback(name: str, address: str) -> None:
    """Without credentials, only this machine may reach a yard."""
    assert f"loopback address in {name}" in refusal(AUTH_MODE="none", **{name: address})


def test_auth_mode_none_needs_no_key_when_every_address_is_local() -> None:
    """By name, on loopback addresses and unix sockets, a yard may run without credentials."""
    local = {"CODEYARD_LISTEN": "[::1]:80", "CODEYARD_SOCKET": "/run/a.sock", "CODEYARD_EDGE_SOCKET": "localhost:1"}
    loaded = load_settings({**NEEDED, **local, "AUTH_MODE": "none", "CODEYARD_ADMIN_KEY": ""})
    assert loaded.admin_key is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AUTH_MODE", "off"),
        ("BASE_URL", "ftp://yard"),
        ("BASE_URL", "https://user:pw-0f3a@yard"),
        ("CODEYARD_BLOB_URL", "s3://key:pw-0f3a@bucket"),
        ("CODEYARD_BLOB_URL", "file://folder"),
        ("CODEYARD_DB_POOL_SIZE", "0"),
        ("CODEYARD_LISTEN", "8080"),
        ("CODEYARD_LISTEN", "::1:80"),
        ("CODEYARD_LISTEN", "127.0.0.1:65536"),
        ("CODEYARD_MCP_CONFIG", "/nowhere/mcp.json"),
        ("CODEYARD_METRICS_ADDRESS", "/run/metrics.sock"),
        ("CODEYARD_TURN_TIMEOUT_SECONDS", "0"),
        ("DATABASE_URL", "mysql://codeyard:pw-0f3a@host/db"),
        ("LOG_FORMAT", "xml"),
    ],
)
def test_start_is_refused_when_a_value_is_out_of_bounds(name: str, value: str) -> None:
    """A wrong value stops the start with the variable's name, and without the value, which may hold a password."""
    message = refusal(**{name: value})
    assert name in message
    assert "pw-0f3a" not in message


def test_secrets_are_hidden_when_settings_are_printed() -> None:
    """Neither repr nor str of the settings shows a key, a password or the database's URL."""
    loaded = load_settings({**NEEDED, "DEFAULT_OPENAI_API_KEY": "sk-0f3a", "AWS_SECRET_ACCESS_KEY": "aws-0f3a"})
    for text in (repr(loaded), str(loaded)):
        for secret in (MASTER_KEY, ADMIN_KEY, "pw-0f3a", "sk-0f3a", "aws-0f3a"):
            assert secret not in text


def test_document_is_up_to_date() -> None:
    """docs/settings.md is what the code prints: `make gen` renews it."""
    assert (ROOT / "docs" / "settings.md").read_text() == settings.settings_table()


def test_every_variable_is_described_in_one_table_cell() -> None:
    """A description says something, and cannot break the table it is printed into."""
    for field in Settings.model_fields.values():
        assert re.fullmatch(r"[^|\n]{10,}\.", str(field.description)), field.validation_alias


def test_every_setting_is_read_somewhere() -> None:
    """A setting that is documented and does nothing would be a promise that is not kept."""
    package = pathlib.Path(settings.__file__).parent
    sources = [path.read_text() for path in package.rglob("*.py") if path.name != "settings.py"]
    own = pathlib.Path(settings.__file__).read_text()
    for name in settings.Settings.model_fields:
        # Secrets are read through properties of the settings themselves.
        assert any(f".{name}" in text for text in sources) or f"self.{name}" in own, name
