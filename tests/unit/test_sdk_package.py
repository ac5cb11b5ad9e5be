"""The Python client as a package: it stands alone, and offers what it says."""

from __future__ import annotations

import inspect
import subprocess
import sys

import codeyard_client
import pytest
from codeyard_client import AsyncClient, AsyncSession, Client, Session, types
from codeyard_client.gen import methods


def test_client_needs_nothing_of_the_server_when_it_is_imported() -> None:
    """Neither the server nor its protobuf runtime is loaded."""
    script = "import sys, codeyard_client; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert "betterproto2" in loaded
    assert not {"codeyard", "codeyard_server", "codeyard_gateway", "google", "grpclib"} & set(loaded)


@pytest.mark.parametrize("module", [codeyard_client, types], ids=["codeyard_client", "types"])
def test_names_exist_when_they_are_offered(module: object) -> None:
    """Everything in ``__all__`` is there, once and sorted."""
    names = list(module.__all__)  # type: ignore[attr-defined]  # every module of the test has it
    assert names == sorted(set(names))
    assert all(hasattr(module, name) for name in names)


@pytest.mark.parametrize(("asynchronous", "blocking"), [(AsyncClient, Client), (AsyncSession, Session)])
def test_clients_have_the_same_methods_when_one_is_written_from_the_other(asynchronous: type, blocking: type) -> None:
    """The blocking client offers the same calls with the same parameters."""

    def calls(kind: type) -> dict[str, list[str]]:
        members = inspect.getmembers(kind, inspect.isfunction)
        return {name: list(inspect.signature(call).parameters) for name, call in members if not name.startswith("_")}

    assert calls(asynchronous) == calls(blocking)


def test_methods_say_what_may_be_repeated_when_they_come_from_the_protos() -> None:
    """Reading and setting may be repeated, creating has a key, deleting neither."""
    assert methods.AgentService.GET_AGENT.repeatable
    assert methods.AgentService.UPDATE_AGENT.repeatable
    assert methods.AgentService.CREATE_AGENT.keyed
    assert not methods.AgentService.CREATE_AGENT.repeatable
    assert not methods.AgentService.ARCHIVE_AGENT.repeatable
    assert not methods.SessionService.DELETE_SESSION.keyed
    assert methods.EventService.SUBSCRIBE.path == "/codeyard.sessions.v1.EventService/Subscribe"
