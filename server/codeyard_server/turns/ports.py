"""What turns ask of the outside."""

from __future__ import annotations

import contextlib
from typing import Protocol

from codeyard_server.models import ResolvedModel
from codeyard_server.models.ports import ModelDriver


class Drivers(Protocol):
    """Lends drivers, and holds each provider to its number of concurrent calls."""

    def lend(self, model: ResolvedModel) -> contextlib.AbstractAsyncContextManager[ModelDriver]:
        """Lend the driver of the model's provider for one call; waits while the provider is busy.

        Raises:
            ModelError: the provider lacks what a call takes, such as a key.
        """
        ...
