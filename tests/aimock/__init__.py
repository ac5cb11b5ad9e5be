"""A real model server for tests, made by others: the npm package aimock, on a loopback port.

It speaks the OpenAI, Azure OpenAI and Anthropic protocols and answers from rules ("fixtures"): the first whose
``match`` fits a request. ``fixtures.json`` holds the ones below, chosen by a word in brackets anywhere in the last user
message; :meth:`AimockServer.add_fixtures` adds more at run time. A request that no rule fits is answered 503.

Fixtures of pytest: :func:`aimock`, and :func:`locked_aimock`, which accepts only its own key.

===============  ====================================================================================================
``[text]``       a text in several pieces, with 11 input and 7 output tokens
``[tools]``      a text, then calls of get_weather and get_time; when results are there, a text
``[slow]``       the first piece after 30 s
``[dropped]``    the connection breaks after a few pieces
``[refused]``    the connection breaks before an answer
``[malformed]``  an answer that is not a stream
``[limited]``    429 with Retry-After: 7
``[invalid]``    400
``[broken]``     500
===============  ====================================================================================================
"""

from __future__ import annotations

import contextlib
import pathlib
import re
import secrets
import subprocess
import time
from collections.abc import Iterator, Mapping
from typing import Any

import httpx2
import pytest

from tests.support.processes import die_with_parent, stop
from tools import real_parts

FOLDER = pathlib.Path(__file__).parent
_START_SECONDS = 60.0


class AimockServer:
    """A running server.

    Args:
        url: ``http://127.0.0.1:port``; also the base URL of an Anthropic provider.
        api_key: the one key it accepts; None when it accepts every key and none.
    """

    def __init__(self, url: str, api_key: str | None) -> None:
        self.url = url
        self.api_key = api_key
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}

    @property
    def openai_url(self) -> str:
        """The base URL of an OpenAI provider."""
        return f"{self.url}/v1"

    def add_fixtures(self, *fixtures: Mapping[str, Any]) -> None:
        """Add rules behind the existing ones, in the form of ``fixtures.json``."""
        self._control("POST", "/fixtures", {"fixtures": list(fixtures)})

    def requests(self) -> list[dict[str, Any]]:
        """Return the requests since the last :meth:`forget_requests`, oldest first.

        Each has ``path`` (with the query), ``headers`` (names in lower case, credentials redacted) and ``body``, which
        is in OpenAI's form whatever the protocol was, without what that form lacks.
        """
        journal: list[dict[str, Any]] = self._control("GET", "/journal")
        return journal

    def forget_requests(self) -> None:
        """Forget the requests so far."""
        self._control("POST", "/reset/journal")

    def _control(self, method: str, path: str, body: object = None) -> Any:
        response = httpx2.request(
            method, f"{self.url}/__aimock{path}", json=body, headers=self._headers, trust_env=False
        )
        response.raise_for_status()
        return response.json()


@contextlib.contextmanager
def running_aimock(folder: pathlib.Path, *, api_key: str | None = None) -> Iterator[AimockServer]:
    """Run a server; its log is written to the folder.

    Raises:
        tools.real_parts.MissingPart: the package is not installed; the message says how to install it.
    """
    program = real_parts.npm_package(FOLDER) / "node_modules" / "@copilotkit" / "aimock" / "dist" / "cli.js"
    log = folder / "aimock.log"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [real_parts.node_binary(), program, "--port", "0", "--fixtures", FOLDER / "fixtures.json", "--strict"],
            env={"HOME": str(folder)} | ({"AIMOCK_API_KEYS": api_key} if api_key else {}),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - it is one system call
        )
    try:
        yield AimockServer(_wait_until_ready(process, log), api_key)
    finally:
        stop(process)


@pytest.fixture(scope="session")
def aimock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AimockServer]:
    """The session's model server; it accepts every key and none."""
    with running_aimock(tmp_path_factory.mktemp("aimock")) as server:
        yield server


@pytest.fixture(scope="session")
def locked_aimock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AimockServer]:
    """A model server that accepts only its own key, in whichever header."""
    with running_aimock(tmp_path_factory.mktemp("locked"), api_key=f"sk-{secrets.token_hex(16)}") as server:
        yield server


def _wait_until_ready(process: subprocess.Popen[bytes], log: pathlib.Path) -> str:
    """Return the address that the server has printed, once it answers there."""
    deadline = time.monotonic() + _START_SECONDS
    while True:
        printed = log.read_text(errors="replace")
        if address := re.search(r"listening on (http://127\.0\.0\.1:\d+)", printed):
            httpx2.get(f"{address[1]}/health", trust_env=False).raise_for_status()
            return address[1]
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"aimock did not start:\n{printed}")
        time.sleep(0.02)
