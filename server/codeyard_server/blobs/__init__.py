"""Blobs: bytes too large for a row. What other domains may call is the port in :mod:`codeyard_server.blobs.ports`."""
