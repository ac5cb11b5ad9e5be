"""How a peer that is an HTTP server is run: uvicorn with uvloop and httptools, one or several processes on one socket.

    DATABASE_URL=postgresql://… python <peer>.py --listen /run/peer.sock --workers 2
    DATABASE_URL=postgresql://… python <peer>.py --listen 127.0.0.1:8090

The line ``ready`` on stdout says that every process accepts requests. SIGTERM and SIGINT end all of them.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import functools
import os
import pathlib
import signal
import socket
from collections.abc import Awaitable, Callable

import uvicorn
from fastapi import FastAPI

_BACKLOG = 4096
_PR_SET_PDEATHSIG = 1


class _Server(uvicorn.Server):
    """A server that tells when it accepts requests."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()


def serve(app: FastAPI, prepare: Callable[[], Awaitable[None]]) -> None:
    """Run ``prepare`` once (it makes the tables), then the app in as many processes as the command line says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", required=True, help="path of a unix socket, or host:port")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    options = parser.parse_args()
    asyncio.run(_run(prepare))
    listener = _bind(options.listen)
    if options.workers == 1:
        _serve_one(app, listener, lambda: print("ready", flush=True))
    else:
        _serve_many(app, listener, options.workers)


async def _run(prepare: Callable[[], Awaitable[None]]) -> None:
    await prepare()


def _bind(address: str) -> socket.socket:
    if "/" in address:
        pathlib.Path(address).unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(address)
    else:
        host, _, port = address.rpartition(":")
        listener = socket.socket(socket.AF_INET)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, int(port)))
    listener.listen(_BACKLOG)
    return listener


def _serve_one(app: FastAPI, listener: socket.socket, ready: Callable[[], None]) -> None:
    config = uvicorn.Config(
        app, loop="uvloop", http="httptools", lifespan="on", log_level="warning", access_log=False, backlog=_BACKLOG,
        timeout_graceful_shutdown=1,
    )  # fmt: skip
    _Server(config, ready).run(sockets=[listener])


def _tell(pipe: int) -> None:
    os.write(pipe, b".")


def _serve_many(app: FastAPI, listener: socket.socket, workers: int) -> None:
    """Fork before any event loop exists; all processes accept from the one listening socket."""
    reader, writer = os.pipe()
    children = []
    for _ in range(workers):
        child = os.fork()
        if child == 0:
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            _serve_one(app, listener, functools.partial(_tell, writer))
            os._exit(0)
        children.append(child)

    def stop(number: int, _frame: object) -> None:
        for child in children:
            os.kill(child, number)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    for _ in children:
        os.read(reader, 1)
    print("ready", flush=True)
    for child in children:
        os.waitpid(child, 0)
