"""The test suite of the whole yard, one folder per kind of test."""
