"""Converts HTML pages in processes of their own, so that a page made to break the converter breaks only that."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import pathlib
import sys
from typing import Literal

import structlog

from codeyard_server.capabilities.ports import ToolError

_WORKER = pathlib.Path(__file__).with_name("html_worker.py")

log = structlog.get_logger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class ConverterLimits:
    """Limits of one conversion. The largest page web_fetch reads (2 MiB) takes 0.7 s and 120 MB when it is honest."""

    memory_bytes: int = 512 * 1024 * 1024
    cpu_seconds: int = 5
    seconds: float = 15.0
    output_bytes: int = 400_000
    """What is longer is cut: web_fetch keeps less."""
    processes: int = 2
    """Conversions at one time."""


class ProcessHtmlConverter:
    """Implements HtmlConverter. A conversion costs about 50 ms more than in this process."""

    def __init__(self, limits: ConverterLimits | None = None) -> None:
        self._limits = limits or ConverterLimits()
        self._free = asyncio.Semaphore(self._limits.processes)

    async def convert(self, html: str, output: Literal["markdown", "text"]) -> str:
        """Return a page as Markdown or as plain text; see HtmlConverter.convert."""
        limits = self._limits
        arguments = [output, str(limits.memory_bytes), str(limits.cpu_seconds), str(limits.output_bytes)]
        async with self._free:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-I",
                str(_WORKER),
                *arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env={},  # the server's own holds secrets
            )
            try:
                async with asyncio.timeout(limits.seconds):
                    text, _ = await process.communicate(html.encode("utf-8", "replace"))
            except TimeoutError:
                text = b""
            finally:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                status = await process.wait()
        if status != 0:
            log.warning("html.not_converted", status=status, characters=len(html))
            raise ToolError("The page cannot be converted; fetch it without as_markdown and as_text")
        return text.decode("utf-8", "ignore")
