"""Tools of the server under test. Both take time, report progress, and return text that is hard to carry."""

from __future__ import annotations

import asyncio

from turnstream.tools import ToolContext

STEPS = 6
"""Pieces of progress that each call shows."""
WEATHER = "👩‍👩‍👧‍👦 and 🇪🇺 see\u2028sun,\r\nthen e\u0301 \u0085rain"
PLACE = "שלום\u2029data: not an event\n\n" + 'with "quotes" \\ and 👍🏽 '


async def look_out(window: str, context: ToolContext) -> str:
    """Look out of a window.

    Args:
        window: Which one.
    """
    await _take_steps("looking 🔭\u2028", 0.02, context)
    return f"{window}: {WEATHER}"


async def ask_the_way(place: str, context: ToolContext) -> str:
    """Ask for the way.

    Args:
        place: Destination.
    """
    await _take_steps("asking 🙋\r\n", 0.013, context)
    return f"{place}: {PLACE}"


async def _take_steps(doing: str, pause: float, context: ToolContext) -> None:
    for number in range(STEPS):
        context.progress(f"{doing}{number}")
        await asyncio.sleep(pause)
