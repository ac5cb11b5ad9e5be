"""Fixtures that every kind of test may ask for."""

pytest_plugins = ["tests.support.minio", "tests.support.postgres", "tests.support.yard"]
