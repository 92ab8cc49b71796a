"""An update of the chat window costs the same at the beginning of an answer and far into it."""

from __future__ import annotations

import asyncio
import gc
import statistics
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

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
"""Deltas of one update, at 100 deltas and 10 updates a second."""
UPDATES, ROUNDS = 20, 12
"""Updates of a round, and rounds. Two windows take turns, so other work of the machine slows both."""
MOST = 1.3
MOST_MEMORY = 24
"""Bytes of resident memory for each character of the answer."""


class Stream:
    """A window in which an answer grows, without a server. Its work runs in the task of the window."""

    def __init__(self, app: ChatApp, deltas: int) -> None:
        self.app = app
        self.turn = TranscriptTurn("turn", "assistant")
        self.turn.feed(
            "turn_start", {"turn_id": "turn", "chat_id": "chat", "role": "assistant", "model": "m"}
        )
        self._texts = (event.text for event in story(deltas, 7) if isinstance(event, TextDelta))
        self._work: asyncio.Queue[tuple[Callable[[], Awaitable[float]], asyncio.Future[float]] | None] = (
            asyncio.Queue()
        )

    async def run(self) -> None:
        """Show the window, and do its work until `end`."""
        conversation = self.app.conversation
        async with self.app.run_test(size=(100, 30)):
            await conversation.drawn.wait()  # the empty chat
            conversation.turns = [self.turn]
            conversation.order += 1
            while (asked := await self._work.get()) is not None:
                work, done = asked
                try:
                    done.set_result(await work())
                except Exception as error:  # noqa: BLE001 - the test raises it
                    done.set_exception(error)

    def end(self) -> None:
        """Close the window after the work that was asked for."""
        self._work.put_nowait(None)

    async def grow(self, deltas: int) -> float:
        """Draw further deltas at once, and return the CPU seconds of it."""
        done: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._work.put_nowait((lambda: self._grow(deltas), done))
        async with asyncio.timeout(60):
            return await done

    async def _grow(self, deltas: int) -> float:
        began = time.process_time()
        for _ in range(deltas):
            text = next(self._texts)
            self.turn.feed("block_delta", {"block_index": 0, "block_type": "text", "delta": {"text": text}})
        self.app.conversation.drawn.clear()
        self.app.note_change()
        await self.app.conversation.drawn.wait()
        refreshed = asyncio.Event()
        self.app.call_after_refresh(refreshed.set)
        await refreshed.wait()
        return time.process_time() - began


@asynccontextmanager
async def stream(deltas: int) -> AsyncGenerator[Stream, None]:
    """Yield a window whose answer has `EARLY` deltas and may grow by `deltas`, and by all rounds."""
    connection = ServerConnection(ServerAccess("http://127.0.0.1:9"))
    app = ChatApp(
        connection, Asking(), WindowOptions(animated=False, theme="textual-dark", update_interval=0)
    )
    shown = Stream(app, EARLY + deltas + ROUNDS * UPDATES * PER_UPDATE)
    running = asyncio.create_task(shown.run())
    try:
        await shown.grow(EARLY)
        yield shown
    finally:
        shown.end()
        async with asyncio.timeout(60):
            await running
        await connection.close()


async def costs(window: Stream) -> list[float]:
    """CPU seconds of the updates of a round, without the first: it may do what the other window has left."""
    return [await window.grow(PER_UPDATE) for _ in range(UPDATES)][1:]


@pytest.mark.timeout(300)
@pytest.mark.requirement("L5")
async def test_an_update_costs_the_same_after_a_hundred_thousand_deltas() -> None:
    async with stream(0) as beginning, stream(LATE) as long:
        memory = {}
        for grown in range(4_000, LATE + 1, 4_000):
            await long.grow(4_000)
            if grown in (LATE // 5, LATE):
                gc.collect()
                memory[grown] = psutil.Process().memory_info().rss
        characters = len(long.turn.text())
        early: list[float] = []
        late: list[float] = []
        for _ in range(ROUNDS):
            early += await costs(beginning)
            late += await costs(long)
        widgets = len(list(long.app.transcript.walk_children()))
    growth = memory[LATE] - memory[LATE // 5]
    ratio = statistics.median(late) / statistics.median(early)
    figures = (
        f"{1e3 * statistics.median(early):.2f} ms at {EARLY} deltas, "
        f"{1e3 * statistics.median(late):.2f} ms at {LATE}: {ratio:.2f} times, {widgets} widgets"
    )
    sys.stdout.write(
        f"{figures}; {growth / 2**20:.1f} MiB more at {LATE} deltas ({characters:,} characters) "
        f"than at {LATE // 5}\n"
    )
    assert growth <= MOST_MEMORY * characters, growth
    assert widgets < 100, figures
    assert ratio <= MOST, figures
