"""Durable storage for the engine: records, writes and reads as values, and the seam that runs them.

A write is an `Operation`: a value that applies itself in a given transaction. All writes go through one
writer, which commits the waiting writes in one transaction (group commit). A read is a `Query`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, ClassVar, Final, Generic, Literal, Protocol, TypeAlias, TypeVar

import msgspec
from sqlalchemy import Connection

from turnstream.core.blocks import Block
from turnstream.core.lifecycle import TurnStatus
from turnstream.core.usage import AccountRecord, Count, Moment
from turnstream.wires.base import ToolDefinition

Result = TypeVar("Result")

Identity: TypeAlias = Annotated[str, msgspec.Meta(max_length=36)]
"""UUIDv7 text."""
NodeState: TypeAlias = Literal["running", "draining", "ended"]
NOT_NULL: Final = msgspec.Meta(extra={"null": False})
"""Mark of a tuple field that is stored as JSON even if it is empty.

Without the mark, an empty tuple is NULL.
"""


SET_BY_STORE: Final = -1
"""Value of a time that the store sets, by the database's clock.

These times order an owner's chats and a chat's turns.
"""


class ChatRecord(msgspec.Struct, frozen=True, gc=False):
    """A tree of turns. `active_turn_id`: the turn whose branch is shown, or None in an empty chat."""

    id: Identity
    owner: str
    title: str | None
    metadata: dict[str, Any]
    created_at: Moment
    updated_at: Moment
    active_turn_id: Identity | None = None


class OutcomeRecord(AccountRecord, frozen=True, gc=False, kw_only=True):
    """A turn's state or end, with its account.

    Attributes:
        stop_sequence: The stop sequence at which the last model call ended, if the provider names it.
        last_seq: Seq of the last event that is stored or was shown.
    """

    status: TurnStatus
    stop_reason: str | None = None
    stop_sequence: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    last_seq: int = 0
    started_at: Moment | None = None
    completed_at: Moment | None = None


class RequestRecord(OutcomeRecord, frozen=True, gc=False, kw_only=True):
    """The request of a turn.

    Args:
        model: Model that is called. In an ended turn: the model that answered last.
        asked_model: Model that the request names. None if it is `model`.
        fallbacks: Fallback models. None for those of the settings.
        system: System prompt.
        params: Parameters of the model call.
        metadata: Data of the host application.
        tools: Names of the engine's tools, and definitions of the client's tools, that the model may call.
            None if the engine does not call a model for this turn.
        history_limit: Turns before this one that the model gets. None: all.
    """

    model: str | None = None
    asked_model: str | None = None
    fallbacks: tuple[str, ...] | None = None
    system: str | None = None
    params: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    tools: tuple[str | ToolDefinition, ...] | None = None
    history_limit: int | None = None


class TurnRecord(RequestRecord, frozen=True, gc=False, kw_only=True):
    """One message of a chat: its identity, with the fields of its request, outcome and account.

    AccountRecord, OutcomeRecord, RequestRecord and this class inherit one from the other. Each adds its own
    fields. The columns of `turns` are these fields.

    `fences` has `(generation, last seq that survived)` for each lost generation. `resets` has `(seq, index)`
    for each retraction of blocks. `imported`: True for a turn that a client sent with its history.
    `awaits_hook`: True until the host application's hook has returned for the turn's end. None: no hook.
    `node`: id of the node whose task writes the turn. None: no node does.
    `taken_from`: id of the node that wrote the turn before `node` claimed it. None once it is recovered.
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
    imported: bool = False
    awaits_hook: bool | None = None
    node: Identity | None = None
    taken_from: Identity | None = None


class BlockRecord(msgspec.Struct, frozen=True, gc=False):
    """A block with its row id, and the seqs of its first and last event in the log (its start and stop)."""

    id: str
    turn_id: str
    block: Block
    first_seq: int
    last_seq: int
    created_at: int


class Annotation(msgspec.Struct, frozen=True, gc=False):
    """A durable event that does not belong to a block (notice, source, data), as its native JSON."""

    turn_id: str
    seq: int
    event: bytes


class ApprovalRecord(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A tool call that needs an approval, and the answer.

    Args:
        sequence: Sequence of the call's block.
        step: Number of the step that made the call.
        seq: Seq of the approval_request event.
        expires_at: Time after which the call counts as denied.
        approved: The answer. None until there is one.
        reason: Reason of the answer, or None.
    """

    id: Identity
    turn_id: Identity
    sequence: Count
    step: Count
    seq: int
    tool_use_id: str
    tool_name: str
    input_digest: Annotated[str, msgspec.Meta(max_length=64)]
    created_at: Moment
    expires_at: Moment
    approved: bool | None = None
    reason: str | None = None
    decided_at: Moment | None = None


class NodeRecord(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A process that shares the database with others.

    Times are those of the database's clock, in microseconds since the epoch.

    Args:
        address: Host and process id, for logs.
        lease: Microseconds after a heartbeat in which no other node may claim this node's turns.
    """

    id: Identity
    address: str
    state: NodeState
    lease: int
    joined_at: int
    heartbeat_at: int


class Operation(msgspec.Struct, Generic[Result], frozen=True, kw_only=True):
    """A write.

    `turn_id` isolates it: if a group of writes fails, the writer retries the group turn by turn.
    """

    turn_id: str = ""

    def apply(self, connection: Connection) -> Result:
        """Apply the write in the transaction of `connection`.

        May raise NotFound, Conflict or Fenced. These are answers for this operation only, and the rest of its
        group is committed. So an operation raises them before it writes anything.
        """
        raise NotImplementedError

    @classmethod
    def apply_many(cls, connection: Connection, operations: Sequence[Operation[Any]]) -> list[Any]:
        """Apply consecutive operations of one class together. Return an answer for each.

        An answer may be an exception.
        """
        raise NotImplementedError

    batched: ClassVar[bool] = False
    renews_lease: ClassVar[bool] = False
    """True if a node's lease depends on the write. Such a write does not wait for other writes."""

    @property
    def changed_owner(self) -> str | None:
        """Owner whose chats this write changes, or in whose chats it starts turns. None if there is none."""
        return None

    @property
    def started_turns(self) -> tuple[str, ...]:
        """Ids of the turns that this write starts. Their other writes come after it."""
        return ()


class Query(msgspec.Struct, Generic[Result], frozen=True, kw_only=True):
    """A read. Its SQL sees one consistent state, with everything that was committed before it began."""

    def fetch(self, connection: Connection) -> Result:
        raise NotImplementedError


class StoreReader(Protocol):
    """Answers queries."""

    async def read(self, query: Query[Result], *, seconds: float | None = None) -> Result:
        """See `Store.read`."""
        ...


class Store(Protocol):
    """A seam: the storage of turns.

    Attributes:
        on_change: Called in the event loop with each write's `changed_owner`, after its commit.
    """

    on_change: Callable[[str], None]

    async def open(self) -> None:
        """Take the one-writer lock, upgrade the schema, and start the writer.

        Raises StoreLocked if another process writes here, or StoreError. Both errors name the remedy.
        """
        ...

    async def close(self) -> None:
        """Commit the queued writes, then release all resources."""
        ...

    async def write(self, operation: Operation[Result]) -> Result:
        """Apply the operation durably. Return its result after the commit.

        Writes of one turn are applied in the order of the calls, and so are writes that change the chats of
        one owner. The operation is in the queue when this coroutine first suspends. Cancelling the wait does
        not undo it.

        The answer to a commit may be lost. Then the operation is applied again, so applying it twice changes
        nothing more, and gives the same result.

        Raises the error that `apply` raised, or StoreError (`database_error`) if storage failed or took over
        5 s.
        """
        ...

    async def read(self, query: Query[Result], *, seconds: float | None = None) -> Result:
        """Return the answer of `query`.

        `seconds`: deadline for reads that no request waits for. None for the deadline of requests.

        Raises StoreError if storage failed or took too long, and Unreadable if a row cannot be decoded.
        """
        ...
