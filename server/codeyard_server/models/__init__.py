"""Models: providers, their models, and the drivers that call them.

Other domains may call: :func:`require_model`, :func:`resolve_model`, :class:`ResolvedModel`, :func:`seed_simulator`,
:class:`ProviderKeys`, and the port of the drivers in :mod:`codeyard_server.models.ports`.
"""

from codeyard_server.models.keys import ProviderKeys
from codeyard_server.models.service import seed_simulator
from codeyard_server.models.store import ResolvedModel, require_model, resolve_model

__all__ = ["ProviderKeys", "ResolvedModel", "require_model", "resolve_model", "seed_simulator"]
