"""Waiting for a signal that stops the process."""

from __future__ import annotations

import asyncio
import signal

ENDING = (signal.SIGINT, signal.SIGTERM)


async def ended_by_signal() -> None:
    """Return at the first SIGINT or SIGTERM. For a second signal, Python's default action applies."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in ENDING:
        loop.add_signal_handler(number, ended.set)
    try:
        await ended.wait()
    finally:
        for number in ENDING:
            loop.remove_signal_handler(number)
