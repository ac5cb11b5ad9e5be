"""The ``codeyard`` command."""
