"""``python -m codeyard_server``: one server process."""

import sys

from codeyard_server.main import main

sys.exit(main())
