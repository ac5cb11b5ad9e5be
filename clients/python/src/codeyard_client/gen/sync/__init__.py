# Written by tools/gen_sdk.py from ../../aio/__init__.py: change that one.
"""The asynchronous client. The blocking one in ``codeyard_client.gen.sync`` is written from it by ``make gen``."""
