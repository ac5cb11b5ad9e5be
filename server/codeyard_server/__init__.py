"""The Codeyard server: one package per domain, wired together in main.py."""
