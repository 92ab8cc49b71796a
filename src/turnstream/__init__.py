"""Durable, resumable LLM streaming: one engine, any number of watchers, nothing lost.

Importing the package loads nothing heavy; each name is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from turnstream.core.accumulator import Accumulator as Accumulator
    from turnstream.core.blocks import Block as Block
    from turnstream.core.blocks import Message as Message
    from turnstream.core.cursor import Cursor as Cursor
    from turnstream.core.usage import Usage as Usage
    from turnstream.engine import Engine as Engine
    from turnstream.engine import LiveTurn as LiveTurn
    from turnstream.errors import TurnstreamError as TurnstreamError
    from turnstream.server.auth import Principal as Principal

_HOMES = {
    "Accumulator": "turnstream.core.accumulator",
    "Block": "turnstream.core.blocks",
    "Cursor": "turnstream.core.cursor",
    "Engine": "turnstream.engine",
    "LiveTurn": "turnstream.engine",
    "Message": "turnstream.core.blocks",
    "Principal": "turnstream.server.auth",
    "TurnstreamError": "turnstream.errors",
    "Usage": "turnstream.core.usage",
}
__all__ = [
    "Accumulator",
    "Block",
    "Cursor",
    "Engine",
    "LiveTurn",
    "Message",
    "Principal",
    "TurnstreamError",
    "Usage",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'turnstream' has no attribute {name!r}")
    return getattr(import_module(home), name)
