"""A real server, and windows that show its chats."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.segment import Segment
from textual.pilot import Pilot

from tests.server.live import serving
from turnstream.cli.question.attachments import attached
from turnstream.client import AsyncClient
from turnstream.core.blocks import Block
from turnstream.core.stream_events import MessageStop, TextDelta
from turnstream.core.turn_events import SourceEvent
from turnstream.engine import Engine
from turnstream.terminal.app import ChatApp, WindowOptions
from turnstream.terminal.asking import Asking
from turnstream.terminal.server_connection import ServerAccess, ServerConnection

SECONDS = 30.0
SIZE = (80, 24)


@asynccontextmanager
async def served(folder: Path, **given: Any) -> AsyncGenerator[tuple[Engine, str], None]:
    """Serve an engine; the engine and its URL."""
    engine = Engine(f"sqlite:///{folder}/turns.sqlite", **given)
    async with serving(engine.application()) as port:
        yield engine, f"http://127.0.0.1:{port}"


@asynccontextmanager
async def server(folder: Path, **given: Any) -> AsyncGenerator[str, None]:
    """Serve an engine; its URL."""
    async with served(folder, **given) as (_, url):
        yield url


class ScriptedAnswer:
    """The source of a turn: a test says what comes next, and when the answer ends."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[SourceEvent | None] = asyncio.Queue()

    async def __aiter__(self) -> AsyncGenerator[SourceEvent, None]:
        while (event := await self._queue.get()) is not None:
            yield event

    def say(self, *events: SourceEvent | str) -> None:
        """Continue the answer. A text is a delta of block 0."""
        for event in events:
            self._queue.put_nowait(TextDelta(0, event) if isinstance(event, str) else event)

    def end(self) -> None:
        self._queue.put_nowait(MessageStop("end_turn"))
        self._queue.put_nowait(None)


async def ask_scripted(engine: Engine, question: str = "Go", **options: Any) -> tuple[ScriptedAnswer, str]:
    """Start a scripted turn; the script and the chat's id."""
    answer = ScriptedAnswer()
    live = await engine.start(answer, blocks=[Block(0, "text", question)], **options)
    return answer, live.chat_id


@dataclass
class Window:
    """A window in a test, and its pilot."""

    app: ChatApp
    pilot: Pilot[None]
    client: AsyncClient = field(init=False)

    def __post_init__(self) -> None:
        self.client = self.app.conversation.connection.client

    async def until(self, found: Callable[[], object], what: str = "") -> None:
        """Wait until `found` returns a true value."""
        try:
            async with asyncio.timeout(SECONDS):
                while not found():
                    await self.pilot.pause(0.01)
        except TimeoutError:
            raise AssertionError(f"no {what or found} on\n{self.screen()}") from None

    async def until_shown(self, text: str) -> None:
        await self.until(lambda: text in self.screen(), text)

    async def until_ready(self, answers: int = 1) -> None:
        """Wait until the branch has this many answers, all of them ended and drawn."""
        conversation = self.app.conversation

        def ended() -> bool:
            found = [turn for turn in conversation.turns if turn.role == "assistant" and turn.ended]
            return len(found) >= answers and conversation.running is None and not conversation.sending

        await self.until(ended, f"end of answer {answers}")
        draws = self.app.draws
        self.app.note_change()
        await self.until(lambda: self.app.draws > draws, "draw")

    async def ask(self, text: str) -> None:
        """Type a question, and send it."""
        self.app.prompt.fill(text)
        await self.pilot.press("enter")

    def rows(self) -> list[list[Segment]]:
        """The styled characters on the screen, line by line."""
        width, height = self.app.size
        console = Console(
            width=width, height=height, file=StringIO(), force_terminal=True, color_system="truecolor",
            legacy_windows=False, safe_box=False,
        )  # fmt: skip
        compositor = self.app.screen._compositor  # pyright: ignore[reportPrivateUsage]
        behind = self.app._background_screens  # pyright: ignore[reportPrivateUsage]
        update = compositor.render_update(full=True, screen_stack=behind)
        assert update is not None
        return list(Segment.split_lines(part for part in console.render(update) if not part.control))

    def lines(self) -> list[str]:
        """The characters on the screen."""
        return ["".join(segment.text for segment in row).rstrip() for row in self.rows()]

    def notices(self) -> str:
        """The texts of all notices."""
        return "\n".join(notification.message for notification in self.app._notifications)  # pyright: ignore[reportPrivateUsage]

    def status(self) -> str:
        return self.app.status.text()

    def screen(self) -> str:
        return "\n".join(self.lines())


@asynccontextmanager
async def window(
    url: str,
    *,
    size: tuple[int, int] = SIZE,
    asking: Asking | None = None,
    find: Any = None,
    **options: Any,
) -> AsyncGenerator[Window, None]:
    """Open a window on a server."""
    connection = ServerConnection(ServerAccess(url), find)
    app = ChatApp(
        connection,
        asking or Asking(),
        WindowOptions(
            **{
                "animated": False,
                "update_interval": 0.02,
                "theme": "textual-dark",
                "attach": attached_file,
                **options,
            }
        ),
    )
    try:
        async with app.run_test(size=size, notifications=True) as pilot:
            yield Window(app, pilot)
    finally:
        await connection.close()


def texts(window: Window) -> Sequence[str]:
    """The texts of the shown turns."""
    return [turn.text() for turn in window.app.conversation.turns]


def attached_file(name: str) -> Block:
    return next(attached([name], first=1))


LONG = Asking("sim/story:events=100000,pace=0.01")
"""An answer that does not end by itself during a test."""
HUNG = Asking("sim/story:fault=silence,after=6,pace=0")
"""An answer of a provider that falls silent."""
