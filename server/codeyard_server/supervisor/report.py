"""What ``codeyard up`` tells when the yard is ready: where it is, its first token, and lines to paste."""

from __future__ import annotations

from codeyard_server.supervisor.state import YardStatus

_ID = """python3 -c 'import json, sys; print(json.load(sys.stdin)["id"])'"""


def summary(status: YardStatus) -> str:
    """Return the text. It holds the token, so it belongs on a terminal and in no log."""
    yard = str(status.url)
    lines = [
        "",
        f"  Codeyard    {yard}",
        f"  Token       {status.token or 'none is needed (AUTH_MODE=none)'}",
        f"  Swagger UI  {yard}/swagger-ui/",
        f"  Data        {status.data}",
        "",
        "Create an agent, open a session, send a message:",
        "",
        *first_steps(status)[:3],
        "",
        "Follow the answer (Ctrl-C ends it):",
        "",
        first_steps(status)[3],
        "",
    ]
    return "\n".join(lines)


def first_steps(status: YardStatus) -> list[str]:
    """Return four lines for a shell: create an agent, open a session, send a message, follow the events."""
    token = f"Authorization: Bearer {status.token}" if status.token else "Accept: */*"
    json = "-H 'Content-Type: application/json'"
    call = f'curl -sS -H "$AUTH" {json}'
    sessions = "$YARD/v1/agents/$AGENT/sessions"
    return [
        f"YARD={status.url} AUTH='{token}'; AGENT=$({call} $YARD/v1/agents"
        f""" -d '{{"name": "Guide", "system_prompt": "You answer briefly."}}' | {_ID})""",
        f"SESSION=$({call} {sessions} -d '{{}}' | {_ID})",
        f"""{call} {sessions}/$SESSION/messages -d '{{"content": "Hello"}}'; echo""",
        f'curl -sSN -H "$AUTH" {sessions}/$SESSION/events',
    ]
