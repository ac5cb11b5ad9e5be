"""The asynchronous client. The blocking one in ``codeyard_client.gen.sync`` is written from it by ``make gen``."""
