"""Ids for tool calls that a provider gave none."""

from __future__ import annotations

import hashlib

CALL = "call_"


def made_up_id(seed: str, ordinal: int, prefix: str = CALL) -> str:
    """The same at every decoding, another for every call. `seed` tells the message from others."""
    return prefix + hashlib.sha256(f"{seed}:{ordinal}".encode("utf-8", "replace")).hexdigest()[:24]
