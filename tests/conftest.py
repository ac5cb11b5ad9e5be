"""Fixtures that every kind of test may ask for."""

import os

# Tests start programs from a process that uses gRPC. Its fork handlers run in the child before the program is loaded,
# and can end it there. Read when grpc is imported, which no plugin of pytest does before this.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

pytest_plugins = ["tests.aimock", "tests.support.minio", "tests.support.postgres", "tests.support.yard"]
