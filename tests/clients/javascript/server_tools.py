"""Tools of the server that the clients talk to."""

from __future__ import annotations


def erase(path: str) -> str:
    """Erase a file."""
    return f"{path} is gone"
