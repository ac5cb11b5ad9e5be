"""The built-in capabilities, one module per group."""

from __future__ import annotations

from codeyard_server.capabilities.builtin import basics, current_time, file_system, test_packs, todo_list, web_fetch
from codeyard_server.capabilities.definition import Capability
from codeyard_server.capabilities.ports import HtmlConverter, WebFetcher


def builtin_capabilities(fetcher: WebFetcher, converter: HtmlConverter) -> tuple[Capability, ...]:
    """Return all of them in catalogue order; ``fetcher`` and ``converter`` do the work of web_fetch."""
    return (
        basics.NOOP,
        current_time.CURRENT_TIME,
        basics.RESEARCH,
        basics.SANDBOX,
        file_system.SESSION_FILE_SYSTEM,
        test_packs.TEST_MATH,
        test_packs.TEST_WEATHER,
        todo_list.TODO_LIST,
        web_fetch.capability(fetcher, converter),
        *basics.DEMOS,
    )
