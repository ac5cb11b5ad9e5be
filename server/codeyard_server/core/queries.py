"""Named SQL blocks: ``queries.sql`` beside a store holds every statement of the domain under ``-- name: <name>``."""

from __future__ import annotations

import pathlib
import re

_NAME = re.compile(r"^-- name: (\w+)\s*$", re.MULTILINE)


class Queries:
    """The statements of one file as attributes: ``sql = Queries.beside(__file__)``, then ``sql.insert_agent``."""

    def __init__(self, statements: dict[str, str]) -> None:
        self._statements = statements

    @classmethod
    def beside(cls, module_file: str) -> Queries:
        """Load ``queries.sql`` from the folder of the module.

        Raises:
            ValueError: two blocks share a name, or text stands before the first name.
        """
        path = pathlib.Path(module_file).with_name("queries.sql")
        head, *parts = _NAME.split(path.read_text())
        if re.sub(r"--[^\n]*", "", head).strip():
            raise ValueError(f"{path}: a statement without a name")
        names = parts[::2]
        if len(set(names)) != len(names):
            raise ValueError(f"{path}: two statements share a name")
        return cls({name: body.strip() for name, body in zip(names, parts[1::2], strict=True)})

    def __getattr__(self, name: str) -> str:
        try:
            return self._statements[name]
        except KeyError:
            raise AttributeError(name) from None

    def names(self) -> list[str]:
        """Return the names of all statements, in file order."""
        return list(self._statements)
