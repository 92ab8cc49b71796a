"""An update of the chat window costs the same at the beginning of an answer and far into it."""

from __future__ import annotations

import asyncio
import gc
import statistics
import sys
import time

import psutil
import pytest

from turnstream.core.stream_events import TextDelta
from turnstream.simulator.script import story
from turnstream.terminal.app import ChatApp, WindowOptions
from turnstream.terminal.asking import Asking
from turnstream.terminal.server_connection import ServerAccess, ServerConnection
from turnstream.terminal.transcript_turn import TranscriptTurn

EARLY, LATE = 1_000, 100_000
PER_UPDATE = 10
"""Deltas of one update: 100 a second, and 10 updates a second."""
UPDATES = 60
MOST = 1.6
MOST_MEMORY = 24
"""Bytes of resident memory for each character of the answer."""


class Stream:
    """A window in which an answer grows, without a server."""

    def __init__(self, app: ChatApp, deltas: int) -> None:
        self.app = app
        self.turn = TranscriptTurn("turn", "assistant")
        self.turn.feed(
            "turn_start", {"turn_id": "turn", "chat_id": "chat", "role": "assistant", "model": "m"}
        )
        app.conversation.turns = [self.turn]
        app.conversation.order += 1
        self._texts = (event.text for event in story(deltas, 7) if isinstance(event, TextDelta))

    async def grow(self, deltas: int) -> None:
        """Feed deltas, and draw them once."""
        for _ in range(deltas):
            text = next(self._texts)
            self.turn.feed("block_delta", {"block_index": 0, "block_type": "text", "delta": {"text": text}})
        await self.app.transcript.draw([self.turn], self.app.conversation.order, has_older=False)
        drawn = asyncio.Event()
        self.app.call_after_refresh(drawn.set)
        await drawn.wait()

    async def cost(self) -> float:
        """CPU seconds of an update: the best of three medians, as other work of the machine adds to all."""
        return min([await self._median() for _ in range(3)])

    async def _median(self) -> float:
        costs = []
        for _ in range(UPDATES):
            began = time.process_time()
            await self.grow(PER_UPDATE)
            costs.append(time.process_time() - began)
        return statistics.median(costs)


@pytest.mark.requirement("L5")
async def test_an_update_costs_the_same_after_a_hundred_thousand_deltas() -> None:
    connection = ServerConnection(ServerAccess("http://127.0.0.1:9"))
    app = ChatApp(connection, Asking(), WindowOptions(animated=False, theme="textual-dark"))
    async with app.run_test(size=(100, 30)):
        stream = Stream(app, LATE + EARLY + 6 * UPDATES * PER_UPDATE)
        await stream.grow(EARLY)
        gc.collect()
        early = await stream.cost()
        memory = {}
        for grown in range(4_000, LATE + 1, 4_000):
            await stream.grow(4_000)
            if grown in (LATE // 5, LATE):
                gc.collect()
                memory[grown] = psutil.Process().memory_info().rss
        characters = len(stream.turn.text())
        late = await stream.cost()
        widgets = len(list(app.transcript.walk_children()))
    await connection.close()
    figures = f"{1e3 * early:.2f} ms at {EARLY} deltas, {1e3 * late:.2f} ms at {LATE}, {widgets} widgets"
    growth = memory[LATE] - memory[LATE // 5]
    sys.stdout.write(
        f"{figures}; {growth / 2**20:.1f} MiB more at {LATE} deltas ({characters:,} characters) "
        f"than at {LATE // 5}\n"
    )
    assert growth <= MOST_MEMORY * characters, growth
    assert widgets < 100, figures
    assert late <= MOST * early, figures
