"""The events of a turn may come late, or never: its stored end is enough."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.terminal.windows import SECONDS, ask_scripted, served
from turnstream.client import NativeEvent
from turnstream.core.stream_events import MessageStart
from turnstream.terminal.asking import Asking
from turnstream.terminal.server_connection import ServerAccess, ServerConnection
from turnstream.terminal.shown_chat import ShownChat
from turnstream.terminal.transcript_turn import TranscriptTurn


@asynccontextmanager
async def shown(url: str, model: str) -> AsyncGenerator[ShownChat, None]:
    """Yield a chat that does not follow its events yet."""
    connection = ServerConnection(ServerAccess(url))
    try:
        yield ShownChat(connection, Asking(model))
    finally:
        await connection.close()


@asynccontextmanager
async def following(chat: ShownChat) -> AsyncGenerator[None, None]:
    task = asyncio.create_task(chat.follow())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


async def stored_end(chat: ShownChat) -> None:
    """Wait until the server has stored the end of the chat's last turn."""
    assert chat.chat_id is not None
    async with asyncio.timeout(SECONDS):
        while (await chat.connection.client.chats.path(chat.chat_id)).turns[-1].completed_at is None:
            pass


async def test_an_answer_that_ended_before_its_events_were_asked_for_is_shown_as_ended(
    tmp_path: Path,
) -> None:
    async with served(tmp_path) as (_, url), shown(url, "sim/echo:pace=0") as chat:
        await chat.send("Quick")
        await stored_end(chat)
        changed = asyncio.Event()
        chat.on_change = changed.set
        async with following(chat), asyncio.timeout(SECONDS):
            while chat.running is not None:
                await changed.wait()
                changed.clear()
        assert [turn.text() for turn in chat.turns] == ["Quick", "Quick"]


async def test_events_that_come_after_the_stored_end_change_nothing(tmp_path: Path) -> None:
    async with served(tmp_path) as (engine, url), shown(url, "sim/echo:pace=0") as chat:
        script, chat_id = await ask_scripted(engine)
        await chat.open(chat_id)
        script.say(MessageStart(), "All of ", "it")
        script.end()
        answer = chat.turns[-1].turn_id
        await stored_end(chat)
        chat._take(NativeEvent("events_start", {}))  # pyright: ignore[reportPrivateUsage]
        await chat.refresh()
        assert chat.running is None
        late = {"turn_id": answer, "block_index": 0, "block_type": "text", "delta": {"text": "it"}}
        chat._take(NativeEvent("block_delta", late))  # pyright: ignore[reportPrivateUsage]
        await chat.refresh()
        assert chat.turns[-1].text() == "All of it"
        assert chat.running is None


def test_the_loss_of_all_text_stays_known_when_the_turn_begins_anew() -> None:
    """The server that took the turn over has none of its text: the first event follows the notice."""
    turn = TranscriptTurn("t", "assistant")
    begin = {"turn_id": "t", "chat_id": "c", "model": None}
    turn.feed("turn_start", begin)
    turn.feed("notice", {"turn_id": "t", "code": "retry", "message": "a call failed"})
    turn.feed("notice", {"turn_id": "t", "code": "truncated", "message": "text is lost", "block_index": 0})
    turn.feed("turn_start", begin)
    assert [note.code for note in turn.notes] == ["truncated"]
