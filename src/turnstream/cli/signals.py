"""Waiting for a signal that stops the process."""

from __future__ import annotations

import asyncio

from turnstream.process_signals import ending_signals


async def ended_by_signal() -> None:
    """Return at the first signal that ends a process. For a second one, Python's default action applies."""
    ended = asyncio.Event()
    with ending_signals(lambda _: ended.set()):
        await ended.wait()
