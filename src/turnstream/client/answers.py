"""The server's answers as typed values. Unknown fields are ignored."""

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
    """Turn whose branch is shown."""


class ChatPage(msgspec.Struct, frozen=True):
    """A page of chats, last changed first.

    `next`: value for `before` to read the next page. None on the last page.
    """

    chats: list[Chat]
    next: str | None


class StoredBlock(msgspec.Struct, frozen=True):
    """A block as it is stored. See `core.blocks.Block`."""

    id: str
    sequence: int
    block_type: str
    text_content: str | None
    content: dict[str, Any] | None
    created_at: str
    partial: bool = False

    @property
    def block(self) -> Block:
        """Block without its id and time."""
        kind: Any = self.block_type
        return Block(self.sequence, kind, self.text_content, self.content, self.partial)


class Failure(msgspec.Struct, frozen=True):
    """The error that ended a turn."""

    code: str
    message: str


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One model call that was tried for a turn.

    `outcome`: complete, cancelled, or an error's code. `duration`: seconds. `first_output`: seconds to the
    first output, or None.
    """

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
    first_output: float | None = None


class Approval(msgspec.Struct, frozen=True, kw_only=True):
    """A tool call that needs an approval.

    `approved`: the answer, or None without one. `expires_at`: the time after which the call counts as denied.
    """

    approval_id: str
    turn_id: str
    tool_use_id: str
    tool_name: str
    input_digest: str
    expires_at: str
    approved: bool | None = None
    reason: str | None = None


class StoredTurn(msgspec.Struct, frozen=True, kw_only=True):
    """A turn as it is stored.

    `cost`: US dollars, a decimal number. None if it is not known.
    `model`: the model that gave the final answer. `asked_model`: the model that was asked for.
    `attempts`: the model calls that were tried. Empty before the turn has ended.
    `approvals`: the unanswered approvals of a waiting turn.
    """

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
    approvals: list[Approval] = []
    blocks: list[StoredBlock] = []

    @property
    def usage(self) -> Usage:
        """Tokens of all model calls of the turn."""
        return Usage(*(getattr(self, name) for name in Usage.__struct_fields__))

    @property
    def text(self) -> str:
        """Text of all text blocks, joined."""
        return "".join(block.text_content or "" for block in self.blocks if block.block_type == "text")


class TurnList(msgspec.Struct, frozen=True):
    """Turns, or a page of turns, oldest first.

    `previous`: value for `before` to read the turns before these. None on the page with the first turn.
    """

    turns: list[StoredTurn]
    previous: str | None = None


class PathTurn(StoredTurn, frozen=True, kw_only=True):
    """A turn of a branch.

    Attributes:
        siblings: Ids of the turn and its alternatives, oldest first.
        events: The sources and notices of the turn. They lack the turn's id.
    """

    siblings: list[str]
    events: list[dict[str, Any]] = []


class ChatPath(msgspec.Struct, frozen=True):
    """One branch of a chat, or a page of it, with the blocks.

    `previous`: value for `before` to read the turns before these. None on the page with the first turn.
    """

    chat_id: str
    turns: list[PathTurn]
    previous: str | None = None


class StartedTurns(msgspec.Struct, frozen=True):
    """The turns that a question creates."""

    assistant_turn: StoredTurn
    user_turn: StoredTurn | None = None


class Interrupted(msgspec.Struct, frozen=True):
    """The answer to an interrupt. `status`: `cancelled`, or the status of a turn that had already ended."""

    turn_id: str
    status: TurnStatus
    blocks_completed: int
    partial_block: StoredBlock | None = None


class Model(msgspec.Struct, frozen=True):
    """A model that turns may name. `ready`: True if it can be called, False if its key is missing."""

    id: str
    provider: str
    wire: str
    ready: bool
    default: bool
