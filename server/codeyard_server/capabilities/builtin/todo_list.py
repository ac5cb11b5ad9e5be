"""A task list that lives only in the conversation: each call repeats the whole list, nothing is stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from codeyard_server.capabilities.definition import Capability, FunctionTool, arguments_schema
from codeyard_server.capabilities.ports import ToolContext, ToolError

_PROMPT = """\
## Task list

You can keep a task list with the tool write_todos. The person you work for sees it, so it shows both your plan and your
progress.

Keep one when the work
- takes three or more separate steps,
- consists of several things that were asked for at once,
- needs a plan before the first change, or
- was asked for as a list.

Do without one when the answer is a single step, a plain question or a short conversation: a list of one helps nobody.

Each task has three fields:
- content: what is to be done, as an instruction ("Run the tests");
- activeForm: the same while it is being done ("Running the tests");
- status: pending, in_progress or completed.

Rules:
1. Write the list before you start, in the order in which you mean to work.
2. Each call replaces the whole list. Repeat every task that still counts; leave out one that has become pointless.
3. Exactly one task is in_progress while you work. Set it before you begin, not afterwards.
4. Mark a task completed as soon as it is done, one at a time. Do not save the updates up for later.
5. A task is completed only when it is done entirely. If tests fail or something is missing, it stays in_progress; if
   something blocks it, add a task for what has to be solved first.
6. When the work turns out to be larger than thought, add the new tasks at once."""


def _warning(counts: Counter[str]) -> str | None:
    if counts["in_progress"] > 1:
        return f"{counts['in_progress']} tasks are in_progress; exactly one should be"
    if counts["in_progress"] == 0 and counts["pending"]:
        return "No task is in_progress; mark the one you are working on"
    return None


async def _write_todos(arguments: Mapping[str, Any], _context: ToolContext) -> Mapping[str, Any]:
    todos = arguments["todos"]
    for position, todo in enumerate(todos, start=1):
        for field in ("content", "activeForm"):
            if not todo[field].strip():
                raise ToolError(f"Task {position}: {field} is empty")
    counts = Counter(todo["status"] for todo in todos)
    result: dict[str, Any] = {
        "success": True,
        "total_tasks": len(todos),
        "pending": counts["pending"],
        "in_progress": counts["in_progress"],
        "completed": counts["completed"],
        "todos": todos,
    }
    if warning := _warning(counts):
        result["warning"] = warning
    return result


TODO_LIST = Capability(
    id="stateless_todo_list",
    name="Task Management",
    description="Plans work of several steps as a task list and keeps it up to date.",
    icon="list-checks",
    category="Productivity",
    prompt=_PROMPT,
    tools=(
        FunctionTool(
            name="write_todos",
            description="Write the task list. It replaces the one before.",
            parameters=arguments_schema(
                ("todos",),
                todos={
                    "type": "array",
                    "maxItems": 200,
                    "description": "All tasks, in working order.",
                    "items": arguments_schema(
                        ("content", "activeForm", "status"),
                        content={
                            "type": "string",
                            "minLength": 1,
                            "maxLength": 2000,
                            "description": "What is to be done, as an instruction.",
                        },
                        activeForm={
                            "type": "string",
                            "minLength": 1,
                            "maxLength": 2000,
                            "description": "The same while it is being done.",
                        },
                        status={"type": "string", "enum": ["pending", "in_progress", "completed"]},
                    ),
                },
            ),
            handler=_write_todos,
        ),
    ),
)
