"""Fill a new database with an answer that names its sources."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

from turnstream.core.stream_events import ContentBlockStart, ContentBlockStop, TextDelta
from turnstream.core.turn_events import Source, SourceEvent
from turnstream.engine import Engine


async def answer() -> AsyncIterator[SourceEvent]:
    """Yield a text with a web page, a book and two addresses that a browser must not open as its sources."""
    yield ContentBlockStart(0, "text")
    yield TextDelta(0, "The sky is blue.")
    yield ContentBlockStop(0)
    yield Source("s1", "https://example.org/sky", "The <b>sky</b>")
    yield Source("s2", title="A book")
    yield Source("s3", "javascript:alert(1)", "A script")
    yield Source("s4", "data:text/html,<script>alert(2)</script>")


async def fill_database(url: str) -> None:
    """Run the turn of the answer to its end."""
    async with Engine(url) as engine:
        started = (await engine.start(answer())).started
        await engine.commands.ended(started.assistant_turn.id)


if __name__ == "__main__":
    asyncio.run(fill_database(sys.argv[1]))
