"""An answered message through the Python SDK.

    python docs/examples/answer_sdk.py [TEXT]

Address and token come from CODEYARD_URL and CODEYARD_TOKEN, else from `codeyard status`.
"""

import json
import os
import pathlib
import subprocess
import sys

from codeyard_client import Client


def local_yard() -> tuple[str, str]:
    """Return address and token."""
    if "CODEYARD_URL" in os.environ:
        return os.environ["CODEYARD_URL"], os.environ["CODEYARD_TOKEN"]
    command = pathlib.Path(sys.executable).with_name("codeyard")
    status = json.loads(subprocess.run([command, "status", "--output", "json"], check=True, capture_output=True).stdout)
    return status["url"], status["token"]


def main() -> None:
    """Create an agent, open a session, have a message answered."""
    url, token = local_yard()
    with Client(url, token) as client:
        agent = client.agents.create("SDK", "You answer briefly.")
        session = agent.sessions.create(title="Example")
        print(session.ask(sys.argv[1] if len(sys.argv) > 1 else "Hello"))


if __name__ == "__main__":
    main()
