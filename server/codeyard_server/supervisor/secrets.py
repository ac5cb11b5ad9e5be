"""The secrets of a self-contained yard: made once, kept in ``secrets.env`` (0600), passed to its processes.

The file is lines of ``NAME=value``, with comments and blank lines. An administrator may add any other setting to it.
"""

from __future__ import annotations

import base64
import os
import re
import secrets
import stat
from collections.abc import Callable, Mapping

from codeyard_server.supervisor import errors
from codeyard_server.supervisor.layout import Layout, usable

DATABASE_PASSWORD = "CODEYARD_DB_PASSWORD"  # noqa: S105 - the name of the variable
DATABASE_ADMIN_PASSWORD = "CODEYARD_DB_ADMIN_PASSWORD"  # noqa: S105 - the name of the variable

_GENERATORS: Mapping[str, Callable[[], str]] = {
    "SECRETS_ENCRYPTION_KEY": lambda: f"k1:{base64.b64encode(secrets.token_bytes(32)).decode()}",
    "CODEYARD_ADMIN_KEY": lambda: f"cyk_{secrets.token_hex(32)}",
    DATABASE_PASSWORD: lambda: secrets.token_hex(32),
    DATABASE_ADMIN_PASSWORD: lambda: secrets.token_hex(32),
}
_LINE = re.compile(r"""(?:export\s+)?([A-Z][A-Z0-9_]*)=(?:"([^"]*)"|'([^']*)'|(.*))""")


def load_secrets(layout: Layout) -> dict[str, str]:
    """Return every variable of the yard's secrets file, which gains those that are missing.

    Raises:
        BadDataFolder: the file can be read by others, a line is not ``NAME=value``, or it cannot be written.
    """
    with usable(layout.data):
        known = _read(layout)
        missing = {name: generate() for name, generate in _GENERATORS.items() if name not in known}
        if missing:
            _append(layout, missing, is_new=not known)
    return {**known, **missing}


def _read(layout: Layout) -> dict[str, str]:
    if not layout.secrets.exists():
        return {}
    if layout.secrets.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise errors.BadDataFolder(f"{layout.secrets} can be read by others: run chmod 600 {layout.secrets}")
    found: dict[str, str] = {}
    for number, line in enumerate(layout.secrets.read_text(encoding="utf-8").splitlines(), start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        match = _LINE.fullmatch(text)
        if match is None:
            raise errors.BadDataFolder(f"{layout.secrets}:{number}: expected NAME=value")
        found[match[1]] = next(value for value in (match[2], match[3], match[4]) if value is not None).strip()
    return found


def _append(layout: Layout, values: Mapping[str, str], *, is_new: bool) -> None:
    """Add lines and see them on the disk: a master key that is lost takes every stored secret with it."""
    draft = layout.secrets.with_suffix(".new")
    draft.unlink(missing_ok=True)
    lines = (
        ["# Secrets of this yard. Without SECRETS_ENCRYPTION_KEY the vault cannot be read: back it up."]
        if is_new
        else []
    )
    lines += [f'{name}="{value}"' for name, value in values.items()]
    before = (
        "" if is_new or not layout.secrets.exists() else layout.secrets.read_text(encoding="utf-8").rstrip("\n") + "\n"
    )
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(before + "\n".join(lines) + "\n")
        file.flush()
        os.fsync(file.fileno())
    draft.rename(layout.secrets)
    folder = os.open(layout.data, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
