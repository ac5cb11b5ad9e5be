"""How a turn looks while it runs: the answer on stdout, tool calls and waiting on stderr."""

from __future__ import annotations

import datetime
import json
from typing import TYPE_CHECKING, Any

from codeyard_cli.output import clean, short

if TYPE_CHECKING:
    from codeyard_client import Event
    from codeyard_client.types import MessageDelta, ToolCall, ToolCallCompleted


class TurnRecord:
    """What a turn came to, as ``--output json`` prints it."""

    def __init__(self) -> None:
        self.turn_id: str | None = None
        self.text = ""
        self.error: str | None = None
        self.error_code: str | None = None
        self.calls: dict[str, dict[str, Any]] = {}

    def take(self, event: Event) -> None:
        """Take in one event of the turn."""
        from codeyard_client import text_of, types

        self.turn_id = event.turn_id or self.turn_id
        match event.data:
            case types.MessageStored(message=types.EventMessage() as message) if event.type == "message.agent":
                self.text = text_of(message)
            case types.ToolCallStarted(tool_call=types.ToolCall() as call):
                self.calls[call.id] = {"id": call.id, "name": call.name, "arguments": _arguments(call)}
            case types.ToolCallCompleted() as done:
                self.calls.setdefault(done.tool_call_id, {"id": done.tool_call_id, "name": done.tool_name})
                self.calls[done.tool_call_id] |= {"status": done.status, "result": _result(done)}
            case types.TurnFailed() as failed:
                self.error, self.error_code = failed.error, failed.error_code

    def to_json(self) -> dict[str, Any]:
        """Return the members in their documented order."""
        result: dict[str, Any] = {"turn_id": self.turn_id, "text": self.text, "tool_calls": [*self.calls.values()]}
        return result | ({"error": self.error, "error_code": self.error_code} if self.error_code else {})


class TurnView:
    """Shows a turn to a person.

    ``live``: the answer appears as the model writes it, for a terminal. Otherwise each message is printed when it is
    complete: a reply that the model starts again would be in the output twice.
    """

    def __init__(self, *, live: bool) -> None:
        from rich.console import Console

        self._live = live
        self._errors = Console(stderr=True, highlight=False, markup=False)
        self._status = self._errors.status("thinking")
        self._spins = self._errors.is_terminal
        self._shown = ""
        self._attempt: tuple[str, int] | None = None
        self._complete: set[str] = set()
        self._replying = False
        self._early: list[MessageDelta] = []
        self._running: dict[str, tuple[str, datetime.datetime]] = {}

    def wait(self, text: str) -> None:
        """Show that something is awaited; not over a reply that is being written, which would be wiped out."""
        if self._spins and not self._shown:
            # One line only: what wraps is not taken away again.
            self._status.update(short(text, self._errors.width - 4))
            self._status.start()

    def stop(self) -> None:
        """Show that nothing is awaited any more."""
        self._status.stop()

    def say(self, text: str) -> None:
        """Print a line about the conversation."""
        self._status.stop()
        self._errors.print(clean(text), style="dim", soft_wrap=True)

    def take(self, event: Event) -> None:
        """Show one event of the turn."""
        from codeyard_client import text_of, types

        match event.data:
            case types.ReasonStarted():
                self.wait("thinking")
                self._replying = True
                early, self._early = self._early, []
                for piece in early:
                    self._piece(piece)
            case types.MessageDelta() as piece:
                self._piece(piece)
            case types.MessageStored(message=types.EventMessage() as message) if event.type == "message.agent":
                self._message(message.id, text_of(message))
            case types.ToolCallStarted(tool_call=types.ToolCall() as call):
                self._running[call.id] = (f"{call.name}({_pairs(call)})", event.ts)
                self._wait_for_calls()
            case types.ToolCallCompleted() as done:
                self._call_ended(done, event.ts)
            case types.TurnCompleted() | types.TurnFailed():
                self.stop()
                if self._shown:
                    # Cut off in the middle of a reply.
                    print(flush=True)
                    self._shown = ""

    def _piece(self, piece: MessageDelta) -> None:
        # Live pieces and stored events come by different ways, and may overtake each other.
        if not self._live or piece.message_id in self._complete:
            return
        if not self._replying or (self._attempt and self._attempt[0] != piece.message_id):
            self._early.append(piece)
            return
        attempt = (piece.message_id, piece.attempt)
        if attempt != self._attempt:
            self._restart()
            self._attempt = attempt
        if piece.offset > len(self._shown):
            # Pieces are lost when the connection breaks. What is missing comes with the whole message.
            return
        self._write(piece.delta[len(self._shown) - piece.offset :])

    def _message(self, message_id: str, text: str) -> None:
        self._complete.add(message_id)
        self._replying = False
        if not text.startswith(self._shown):
            self._restart()
        self._write(text[len(self._shown) :])
        if self._shown and not self._shown.endswith("\n"):
            print(flush=True)
        self._shown, self._attempt = "", None

    def _restart(self) -> None:
        """Leave what is shown of a reply that begins again."""
        if self._shown:
            print(flush=True)
            self.say("(the reply starts again)")
        self._shown = ""

    def _write(self, text: str) -> None:
        if text:
            self._status.stop()
            print(clean(text) if self._live else text, end="", flush=True)
            self._shown += text

    def _call_ended(self, done: ToolCallCompleted, ended: datetime.datetime) -> None:
        name, started = self._running.pop(done.tool_call_id, (done.tool_name, ended))
        seconds = max((ended - started).total_seconds(), 0.0)
        result = done.error or json.dumps(_result(done), ensure_ascii=False)
        mark = "✓" if done.success else "✗"
        self.say(short(f"{mark} {name} [{done.status}, {seconds:.1f} s] {result}", 160))
        self._wait_for_calls()

    def _wait_for_calls(self) -> None:
        if self._running:
            self.wait("running " + ", ".join(name for name, _ in self._running.values()))


def _arguments(call: ToolCall) -> Any:
    from codeyard_client import to_json

    return None if call.arguments is None else to_json(call.arguments)


def _pairs(call: ToolCall) -> str:
    arguments = _arguments(call)
    if not isinstance(arguments, dict):
        return ""
    # A map of a message comes in no order.
    return ", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in sorted(arguments.items()))


def _result(done: ToolCallCompleted) -> Any:
    """Return what a tool answered: the JSON that its text holds."""
    text = "".join(part.text or "" for part in done.result)
    try:
        return json.loads(text) if text else done.error
    except ValueError:
        return text
