"""``python -m codeyard_cli``: the ``codeyard`` command."""

from codeyard_cli.main import main

main()
