"""What the engine asks of durable storage: rows, writes and reads as values, and the seam that runs them.

A write is an `Operation`: a value that knows how to apply itself within the transaction it is given. All writes go
through one writer, which puts what has gathered meanwhile into one transaction (group commit). A read is a `Query`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Final, Generic, Protocol, TypeAlias, TypeVar

import msgspec
from sqlalchemy import Connection

from turnstream.core.blocks import Block
from turnstream.core.lifecycle import TurnStatus
from turnstream.core.usage import AccountRecord, Moment
from turnstream.wires.base import ToolDefinition

Result = TypeVar("Result")

Identity: TypeAlias = Annotated[str, msgspec.Meta(max_length=36)]
"""UUIDv7 text."""
NOT_NULL: Final = msgspec.Meta(extra={"null": False})
"""Mark of a tuple that is stored when it is empty too; else NULL is."""


SET_BY_STORE: Final = -1
"""A time that the store sets, by its database's clock: the times that order the chats of an owner and the turns of a chat."""


class ChatRecord(msgspec.Struct, frozen=True, gc=False):
    """A tree of turns. `active_turn_id`: the turn whose branch is shown; None in an empty chat."""

    id: Identity
    owner: str
    title: str | None
    metadata: dict[str, Any]
    created_at: Moment
    updated_at: Moment
    active_turn_id: Identity | None = None


class OutcomeRecord(AccountRecord, frozen=True, gc=False, kw_only=True):
    """How far a turn is, or how it ended, with its account. `last_seq`: the last event that is stored or was shown."""

    status: TurnStatus
    stop_reason: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    last_seq: int = 0
    started_at: Moment | None = None
    completed_at: Moment | None = None


class RequestRecord(OutcomeRecord, frozen=True, gc=False, kw_only=True):
    """What was asked for. `model`: the one that is called; of an ended turn the one that answered at last. `asked_model`: what
    was asked for, if that is not `model`. `fallbacks` None: those of the settings. `tools`: names of the engine's tools and definitions of the client's own that the model
    is given; None: no model of ours is called."""

    model: str | None = None
    asked_model: str | None = None
    fallbacks: tuple[str, ...] | None = None
    system: str | None = None
    params: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    tools: tuple[str | ToolDefinition, ...] | None = None


class TurnRecord(RequestRecord, frozen=True, gc=False, kw_only=True):
    """One message of a chat: its identity, with the fields of its request, outcome and account. Structs inherit in one line,
    so each of these classes adds its fields to those of the one before. The columns of `turns` are these fields.

    `fences` holds `(generation, last seq that survived)` for each lost generation, `resets` holds `(seq, index)` for each time
    that blocks were retracted.
    """

    id: Identity
    chat_id: Identity
    owner: str
    prev_turn_id: Identity | None
    role: Annotated[str, msgspec.Meta(max_length=16)]
    created_at: Moment
    generation: int
    fences: Annotated[tuple[tuple[int, int], ...], NOT_NULL] = ()
    resets: tuple[tuple[int, int], ...] = ()


class BlockRecord(msgspec.Struct, frozen=True, gc=False):
    """A block with its row id, and the first and last seq of the log that it spans (its start, its stop)."""

    id: str
    turn_id: str
    block: Block
    first_seq: int
    last_seq: int
    created_at: int


class Annotation(msgspec.Struct, frozen=True, gc=False):
    """A lasting event that belongs to no block (notice, source, data), as its native JSON."""

    turn_id: str
    seq: int
    event: bytes


class Operation(msgspec.Struct, Generic[Result], frozen=True, kw_only=True):
    """A write. `turn_id` isolates it: when a group fails, it is retried turn by turn."""

    turn_id: str = ""

    def apply(self, connection: Connection) -> Result:
        """Do it, in the transaction of `connection`. May raise NotFound, Conflict or Fenced: these are answers for
        this one operation, and leave the rest of its group standing; so nothing may be written before them."""
        raise NotImplementedError

    @classmethod
    def apply_many(cls, connection: Connection, operations: Sequence[Operation[Any]]) -> list[Any]:
        """Apply neighbours of one class together, where that is cheaper. An answer may be an exception."""
        raise NotImplementedError

    batched: ClassVar[bool] = False


class Query(msgspec.Struct, Generic[Result], frozen=True, kw_only=True):
    """A read. Its SQL sees a consistent state of everything committed before it began."""

    def fetch(self, connection: Connection) -> Result:
        raise NotImplementedError


class Store(Protocol):
    """A seam: where turns are kept."""

    async def open(self) -> None:
        """Take the one-writer lock, bring the schema up to date, start the writer.

        Raises StoreLocked (another process writes here) or StoreError, each naming the remedy.
        """
        ...

    async def close(self) -> None:
        """Commit what was given to `write`, then let go of everything."""
        ...

    async def write(self, operation: Operation[Result]) -> Result:
        """Apply durably; returns after the commit. Writes of one turn are applied in the order of the calls.

        The operation is in the queue when this coroutine first suspends; cancelling the wait does not undo it.
        Raises what `apply` raised, or StoreError (`database_error`) when storage failed or took over 5 s.
        """
        ...

    async def read(self, query: Query[Result], *, seconds: float | None = None) -> Result:
        """Return the answer of `query`.

        `seconds`: the deadline, for work that no request waits for. None: those of requests.

        Raises StoreError when storage failed or took too long, and Unreadable when a row cannot be decoded.
        """
        ...
