"""What the server answers, as typed values. Fields that this version does not know are
passed over."""

from __future__ import annotations

from typing import Any

import msgspec

from turnstream.core.blocks import Block
from turnstream.core.lifecycle import TurnStatus
from turnstream.core.usage import Usage


class Chat(msgspec.Struct, frozen=True):
    """A chat without its turns. Times are ISO 8601, in UTC."""

    id: str
    title: str | None
    metadata: dict[str, Any]
    created_at: str
    updated_at: str
    active_turn_id: str | None = None
    """The branch that is shown goes through this turn."""


class ChatPage(msgspec.Struct, frozen=True):
    """Chats, last changed first. `next`: to be given as `before` to read on; None at the end."""

    chats: list[Chat]
    next: str | None


class StoredBlock(msgspec.Struct, frozen=True):
    """A block with its row; what it holds is told at `core.blocks.Block`."""

    id: str
    sequence: int
    block_type: str
    text_content: str | None
    content: dict[str, Any] | None
    created_at: str
    partial: bool = False

    @property
    def block(self) -> Block:
        """The block without its row."""
        kind: Any = self.block_type
        return Block(self.sequence, kind, self.text_content, self.content, self.partial)


class Failure(msgspec.Struct, frozen=True):
    """Why a turn ended as an error."""

    code: str
    message: str


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """A model call that was tried for a turn. `outcome`: complete, cancelled, or an error's code; `duration`: seconds."""

    step: int
    number: int
    model: str
    outcome: str
    started_at: str
    duration: float
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost: str | None = None
    estimated: bool = False


class StoredTurn(msgspec.Struct, frozen=True, kw_only=True):
    """A turn as it is stored. `cost`: US dollars, a decimal number; None where it is not known. `model`: the one that answered
    at last, `asked_model` the one that was asked for; `attempts`: the calls that were tried, once it has ended."""

    id: str
    chat_id: str
    prev_turn_id: str | None
    role: str
    status: TurnStatus
    model: str | None
    created_at: str
    completed_at: str | None = None
    system: str | None = None
    params: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    stop_reason: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost: str | None = None
    cost_estimated: bool = False
    unpriced: bool = False
    error: Failure | None = None
    asked_model: str | None = None
    fallbacks: list[str] | None = None
    attempts: list[Attempt] = []
    blocks: list[StoredBlock] = []

    @property
    def usage(self) -> Usage:
        """The tokens of all its model calls."""
        return Usage(*(getattr(self, name) for name in Usage.__struct_fields__))

    @property
    def text(self) -> str:
        """The texts of the text blocks, joined."""
        return "".join(block.text_content or "" for block in self.blocks if block.block_type == "text")


class TurnList(msgspec.Struct, frozen=True):
    """Turns, or a page of them, oldest first. `previous`: to be given as `before` to read those before them; None at the
    beginning."""

    turns: list[StoredTurn]
    previous: str | None = None


class PathTurn(StoredTurn, frozen=True, kw_only=True):
    """`siblings`: the ids of this turn and its alternatives, oldest first."""

    siblings: list[str]


class ChatPath(msgspec.Struct, frozen=True):
    """One branch of a chat, or a page of it, with the blocks. `previous`: to be given as `before` to read the turns before
    these; None at the beginning."""

    chat_id: str
    turns: list[PathTurn]
    previous: str | None = None


class StartedTurns(msgspec.Struct, frozen=True):
    """The two turns that a question makes."""

    assistant_turn: StoredTurn
    user_turn: StoredTurn | None = None


class Interrupted(msgspec.Struct, frozen=True):
    """`status`: the turn's true one, `cancelled` or what it had already ended as."""

    turn_id: str
    status: TurnStatus
    blocks_completed: int
    partial_block: StoredBlock | None = None


class Model(msgspec.Struct, frozen=True):
    """A model that turns may name. `ready`: it can be called; else its key is missing."""

    id: str
    provider: str
    wire: str
    ready: bool
    default: bool
