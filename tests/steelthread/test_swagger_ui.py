"""The documentation page in a real browser: it lists the operations, and a call made from it succeeds."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Page, async_playwright, expect

from tests.support.client import Rest
from tests.support.routes import ROUTES
from tools import real_parts

pytestmark = pytest.mark.browser

# Nothing of the browser's own may reach for the network, and a container has no namespaces for its sandbox.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


@pytest.fixture
async def page(client: Rest) -> AsyncIterator[tuple[Page, list[str]]]:
    """The page with the document loaded, and what the browser has complained about."""
    complaints: list[str] = []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=real_parts.find_chromium(), args=ARGUMENTS)
        page = await browser.new_page()
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("requestfailed", lambda request: complaints.append(f"{request.method} {request.url}"))
        await page.goto(f"{client.yard.url}/swagger-ui/")
        await expect(page.locator(".info .title")).to_contain_text("Codeyard API", timeout=30_000)
        yield page, complaints
        await browser.close()


async def test_page_lists_every_operation(page: tuple[Page, list[str]]) -> None:
    """Grouped by tag, with a button for the credential, and without a complaint of the browser."""
    swagger, complaints = page
    await expect(swagger.locator(".opblock").first).to_be_visible(timeout=30_000)
    shown = await swagger.locator(".opblock-summary").evaluate_all(
        "blocks => blocks.map(b => b.querySelector('.opblock-summary-method').textContent + ' '"
        " + b.querySelector('.opblock-summary-path').getAttribute('data-path'))"
    )
    table = {f"{route['verb']} {route['path'].replace('{path=**}', '')}" for route in ROUTES}
    assert table <= set(shown)
    tags = await swagger.locator(".opblock-tag").evaluate_all("tags => tags.map(tag => tag.dataset.tag)")
    assert set(tags) >= {route["tag"] for route in ROUTES}
    await expect(swagger.locator("button.authorize")).to_be_visible()
    assert complaints == []


async def test_call_from_the_page_succeeds(page: tuple[Page, list[str]], client: Rest) -> None:
    """Authorize with the token, "Try it out" on the list of agents, and the answer is a 200 with the agents."""
    swagger, complaints = page
    agent = await client.agent(name="Seen from the page")
    await swagger.locator("button.authorize").first.click()
    scheme = swagger.locator(".auth-container").filter(has_text=re.compile("bearer", re.IGNORECASE)).first
    await scheme.locator("input").fill(client.yard.token)
    await scheme.locator("button.authorize").click()
    await scheme.locator(".btn-done").click()
    operation = swagger.locator("#operations-agents-listAgents")
    await operation.locator(".opblock-summary-control").click()
    await operation.locator(".try-out__btn").click()
    await operation.locator("button.execute").click()
    answer = operation.locator(".live-responses-table .response")
    await expect(answer.locator(".response-col_status")).to_contain_text("200", timeout=30_000)
    await expect(answer.locator(".response-col_description")).to_contain_text(agent["id"])
    assert complaints == []
