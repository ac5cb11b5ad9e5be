"""Capabilities without tools: the empty one for tests, and those that are announced but not built."""

from __future__ import annotations

from codeyard_server.capabilities.definition import Capability

NOOP = Capability(
    id="noop",
    name="No-Op",
    description="Adds nothing. For tests of what an agent does without help.",
    icon="circle-off",
    category="Testing",
)
RESEARCH = Capability(
    id="research",
    name="Deep Research",
    description="Gathers findings over many steps in a scratchpad before it answers.",
    status="coming_soon",
    icon="search",
    category="AI",
    prompt="Note each finding with its source in the research scratchpad before you draw a conclusion.",
)
SANDBOX = Capability(
    id="sandbox",
    name="Sandboxed Execution",
    description="Runs code in a sandbox of the session.",
    status="coming_soon",
    icon="box",
    category="Execution",
    prompt="Use the execute_code tool whenever running code is more reliable than reasoning about it.",
)


def _demo(capability_id: str, name: str, icon: str, subject: str) -> Capability:
    return Capability(
        id=capability_id,
        name=name,
        description=f"Made-up {subject} for demonstrations.",
        status="coming_soon",
        icon=icon,
        category="Demo Tools",
    )


# The demo packs stay in the list, so that stored agents that name them remain valid; they have no tools yet.
DEMOS = (
    _demo("fake_warehouse", "Fake Warehouse Tools", "package", "stock, orders and shipments of a warehouse"),
    _demo("fake_aws", "Fake AWS Tools", "cloud", "servers, databases and buckets of a cloud account"),
    _demo("fake_crm", "Fake CRM Tools", "users", "customers and support tickets"),
    _demo("fake_financial", "Fake Financial Tools", "dollar-sign", "accounts, budgets and reports of a company"),
)
