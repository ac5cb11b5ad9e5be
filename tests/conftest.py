"""Fixtures that every kind of test may ask for."""

pytest_plugins = ["tests.aimock", "tests.support.minio", "tests.support.postgres", "tests.support.yard"]
