"""A client that resends its conversation, with reads of the database."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import msgspec

from tests.turns.world import OWNER, World
from turnstream.core.blocks import Block, Message
from turnstream.store.base import TurnRecord
from turnstream.turns.commands import StartedTurn
from turnstream.turns.conversations import ResentConversation
from turnstream.turns.histories import read_history

MODEL = "sim/echo:pace=0"


def text(value: str) -> tuple[Block, ...]:
    return (Block(0, "text", value),)


def user(value: str) -> Message:
    return Message("user", text(value))


def assistant(value: str) -> Message:
    return Message("assistant", text(value))


class ResendingClient:
    """A client that keeps its conversation and sends all of it with each message."""

    def __init__(self, world: World, chat_id: str | None = None, messages: Sequence[Message] = ()) -> None:
        self.world = world
        self.chat_id = chat_id
        self.messages = list(messages)

    async def start(self, said: str) -> StartedTurn:
        conversation = ResentConversation(messages=tuple(self.messages), new=text(said), chat_id=self.chat_id)
        request = await self.world.commands.conversations.continue_from(OWNER, conversation)
        request = msgspec.structs.replace(request, model=MODEL)
        return await self.world.commands.send(OWNER, request)

    async def say(self, said: str) -> StartedTurn:
        started = await self.start(said)
        state = await self.world.ended(started.assistant_turn.id)
        answer = "".join(row.block.text_content or "" for row in state.blocks)
        assert state.turn.status == "complete"
        self.messages += [user(said), assistant(answer)]
        return started


async def path_of(world: World, turn_id: str) -> list[tuple[TurnRecord, str]]:
    path = await read_history(world.store, turn_id)
    return [(turn, "".join(block.text_content or "" for block in blocks)) for turn, blocks in path]


def rows_of(world: World, table: str) -> int:
    with sqlite3.connect(world.path) as connection:
        (count,) = connection.execute(f"SELECT count(*) FROM turnstream_{table}").fetchone()
    connection.close()
    return count
