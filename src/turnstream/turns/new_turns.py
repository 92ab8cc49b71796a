"""Requests for new turns: their rows, the first event of a turn, and the idempotency keys in use."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, NamedTuple

import msgspec

from turnstream.core.admission import is_unreadable
from turnstream.core.blocks import Block, Message
from turnstream.core.cursor import Fence, ResetRecord, first_generation
from turnstream.core.identifiers import new_id
from turnstream.core.turn_events import TurnStart
from turnstream.core.usage import CallAttempt
from turnstream.errors import Conflict, InvalidRequest
from turnstream.providers.conversations import run_work
from turnstream.store.base import SET_BY_STORE, ApprovalRecord, BlockRecord, RequestRecord, Store, TurnRecord
from turnstream.store.conversation_digest import entries_of
from turnstream.store.journal.pages import OpenedBlock
from turnstream.store.operations.opening import ClientTurnId, Opening
from turnstream.store.operations.start import StartedRecords
from turnstream.store.queries import AllBlocks, GetTurn, StartedWith
from turnstream.turnlog.base import History, LogState
from turnstream.turns.clock import iso_timestamp, now_microseconds
from turnstream.wires.base import ToolDefinition


class Alternative(msgspec.Struct, frozen=True, kw_only=True):
    """One of several answers to a question. Fields that are None are those of the request."""

    model: str | None = None
    params: dict[str, Any] | None = None
    fallbacks: tuple[str, ...] | None = None
    system: str | None = None
    tools: tuple[str | ToolDefinition, ...] | None = None
    metadata: dict[str, Any] = {}
    """Added to the request's metadata."""


class TurnRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A caller's request for a new turn.

    Fields that are None are taken from the last assistant turn before it, unless `inherits` is False.
    """

    chat_id: str = ""
    """The chat. Empty for a transient turn without a chat."""
    store: bool | None = None
    """False for a transient turn, which has no rows. None: as the engine's settings say."""
    messages: tuple[Message, ...] = ()
    """The conversation before `blocks`, for a transient turn without a chat."""
    blocks: tuple[Block, ...] = ()
    prev_turn_id: str | None = None
    model: str | None = None
    asked_model: str | None = None
    """The `model` that the caller gave, which may be a name from the settings.

    Callers do not set this field.
    """
    fallbacks: tuple[str, ...] | None = None
    """Models to call, in this order, if the model fails.

    None: those of the turn before, or of the settings.
    """
    system: str | None = None
    params: dict[str, Any] | None = None
    inherits: bool = True
    metadata: dict[str, Any] = {}
    tools: tuple[str | ToolDefinition, ...] | None = None
    """Names of the engine's tools, and definitions of tools that the client runs.

    None: all the engine's tools.
    """
    alternatives: tuple[Alternative, ...] = ()
    """Answers to start at once, as branches. The first of them is shown. Empty: one answer."""
    history_limit: int | None = None
    """Turns before this one that the model gets. None: all."""
    idempotency_key: str | None = None
    is_first_use: bool = False
    """True if the caller has claimed the key (`KeysInUse`), and no request with it has started a turn."""
    is_claimed: bool = False
    """True if the caller has claimed the key, and a request with it may have started a turn."""
    fingerprint: str | None = None
    """Hash of the request. The same idempotency key with another hash is a conflict."""
    client_message_id: str | None = None
    """The client's id of the user's turn. See `core.admission.checked_client_id`."""
    client_run_id: str | None = None
    """The client's id of the assistant's turn."""
    client_chat_id: str | None = None
    """The client's id of the chat, for a transient turn without a chat."""
    opening: Opening | None = None
    """Part of a client's conversation that is stored with the turn, before it. It follows `prev_turn_id`.

    `ConversationCommands.continue_from` sets it, and `entries`.
    """
    entries: tuple[str, ...] | None = None
    """Digests of the entries of `blocks`, if they are several messages of a client. None: one message."""

    @property
    def last_turn_id(self) -> str | None:
        """Id of the turn that the new turn follows, or None."""
        last = None if self.opening is None else self.opening.last
        return self.prev_turn_id if last is None else last.turn.id


class StartedTurn(NamedTuple):
    """A turn that has begun.

    Attributes:
        user_turn: The user's turn. None for a turn without one.
        alternatives: Further answers that were started with `assistant_turn`.
        replayed: True if the request repeats an earlier one with the same idempotency key.
        answered: Blocks of the stored user turn that is answered, if there is no new one. May be empty.
    """

    user_turn: TurnRecord | None
    user_blocks: tuple[BlockRecord, ...]
    assistant_turn: TurnRecord
    replayed: bool = False
    answered: tuple[Block, ...] = ()
    alternatives: tuple[TurnRecord, ...] = ()

    @property
    def question(self) -> tuple[Block, ...]:
        """Blocks that the assistant's turn answers. Empty if they are not known."""
        return self.answered or tuple([row.block for row in self.user_blocks])


class TurnState(NamedTuple):
    """A turn with its blocks, as of now.

    Attributes:
        open_block: Index of the block being written, or None.
        attempts: Model calls of the turn. Empty until the turn has ended.
        approvals: Unanswered approvals. Empty unless the turn waits.
    """

    turn: TurnRecord
    blocks: tuple[BlockRecord, ...]
    open_block: int | None
    attempts: tuple[CallAttempt, ...] = ()
    approvals: tuple[ApprovalRecord, ...] = ()


class KeysInUse:
    """The idempotency keys of this process's requests under way.

    A request that has claimed a key may call the model before its rows are committed: no other request of
    this process can have started a turn with the key. A second request waits, and then finds the turn of the
    first. On a shared database, another process may use the key too: there, the model is called after the
    commit, which decides which request is the first.
    """

    def __init__(self) -> None:
        self._uses: dict[tuple[str, str], asyncio.Future[None]] = {}
        self._writes: dict[tuple[str, str], asyncio.Future[Any]] = {}

    @asynccontextmanager
    async def claim(self, owner: str, key: str) -> AsyncGenerator[None, None]:
        """Use a key of an owner, once no other request uses it.

        Read the earlier uses of the key from the store after this, not before.
        """
        name = (owner, key)
        while (other := self._uses.get(name)) is not None:
            await asyncio.wait((other,))
        use = self._uses[name] = asyncio.get_running_loop().create_future()
        try:
            yield
        finally:
            write = self._writes.pop(name, None)
            if write is None or write.done():
                self._release(name, use)
            else:  # the caller was cancelled, and its turn starts all the same
                write.add_done_callback(lambda _: self._release(name, use))

    def hold(self, owner: str, key: str, write: asyncio.Future[Any]) -> None:
        """Use a claimed key until `write` is done, even if the request is cancelled before."""
        if (owner, key) in self._uses:
            self._writes[owner, key] = write

    def _release(self, name: tuple[str, str], use: asyncio.Future[None]) -> None:
        del self._uses[name]
        use.set_result(None)


_KEPT = [name for name in RequestRecord.__struct_fields__ if name in TurnRequest.__struct_fields__]
"""Fields of a request that are stored with its assistant turn."""
_INHERITED = ("fallbacks", "system", "params")


def inherit_fields(request: TurnRequest, path: Sequence[tuple[TurnRecord, tuple[Block, ...]]]) -> TurnRequest:
    """Fill fields of the request that are None from the last assistant turn in `path` that is not imported.

    Raises InvalidRequest if that turn's params are needed and cannot be read.
    """
    if not request.inherits:
        return request
    answers = (turn for turn, _ in reversed(path) if turn.role == "assistant" and not turn.imported)
    previous = next(answers, None)
    if previous is None:
        return request
    if request.params is None and is_unreadable(previous.params):
        raise InvalidRequest("the params of the turn before cannot be read: give params")
    taken = {name: getattr(previous, name) for name in _INHERITED if getattr(request, name) is None}
    if request.model is None:
        taken["model"] = previous.asked_model or previous.model
    return msgspec.structs.replace(request, **taken)


def each_alternative(request: TurnRequest) -> list[TurnRequest]:
    """Return the requests of the answers that a request with alternatives starts, in their order."""
    requests: list[TurnRequest] = []
    for wanted in request.alternatives:
        given = {name: getattr(wanted, name) for name in wanted.__struct_fields__}
        own = {name: value for name, value in given.items() if value is not None}
        own["metadata"] = {**request.metadata, **wanted.metadata}
        requests.append(msgspec.structs.replace(request, alternatives=(), **own))
    return requests


async def entries_of_question(request: TurnRequest) -> tuple[str, ...]:
    """Return the digests of the entries of a request's blocks."""
    if request.entries is not None:
        return request.entries
    said = Message("user", request.blocks)
    return await run_work((said,), partial(entries_of, said.role, said.blocks))


async def read_started(
    store: Store, user_turn_id: str | None, assistant_turn_id: str, *, count: int
) -> StartedTurn:
    """Return the turns of an earlier request of the same owner.

    Args:
        count: Number of answers that the request started at once. 0: one answer.
    """
    assistant = await store.read(GetTurn(owner=None, turn_id=assistant_turn_id))
    query = StartedWith(turn_id=assistant_turn_id, count=count)
    others = await store.read(query) if count else ()
    if user_turn_id is None:
        return StartedTurn(None, (), assistant, replayed=True, alternatives=others)
    user = await store.read(GetTurn(owner=None, turn_id=user_turn_id))
    blocks = tuple(await store.read(AllBlocks(turn_id=user_turn_id)))
    return StartedTurn(user, blocks, assistant, replayed=True, alternatives=others)


async def alternative_of(starting: asyncio.Future[StartedRecords], number: int) -> StartedRecords:
    """Wait for the write that starts several answers. Return the records of one of them."""
    started = await asyncio.shield(starting)
    if started.replayed:
        return started
    return StartedRecords(started.user_turn, started.alternatives[number], replayed=False)


def idempotency_conflict() -> Conflict:
    """Return the error for an idempotency key that was used with another request."""
    return Conflict(
        "this Idempotency-Key was used with another request: use a new key", code="idempotency_mismatch"
    )


def user_turn(owner: str, request: TurnRequest) -> tuple[TurnRecord, tuple[BlockRecord, ...]]:
    """Return the row of the user's turn, and the rows of its blocks."""
    now = now_microseconds()
    turn_id = new_id()
    turn = TurnRecord(
        id=turn_id,
        chat_id=request.chat_id,
        owner=owner,
        prev_turn_id=request.last_turn_id,
        role="user",
        status="complete",
        created_at=SET_BY_STORE,
        generation=first_generation(turn_id),
        metadata=request.metadata,
        last_seq=len(request.blocks) + 2,
        completed_at=SET_BY_STORE,
    )
    return turn, block_rows(turn_id, request.blocks, now)


def block_rows(turn_id: str, given: Sequence[Block], now: int) -> tuple[BlockRecord, ...]:
    """Return the rows of the blocks of a turn that is stored whole. `now`: microseconds since the epoch."""
    return tuple(
        BlockRecord(
            new_id(), turn_id, msgspec.structs.replace(block, sequence=place), place + 2, place + 2, now
        )
        for place, block in enumerate(given)
    )


def client_ids_of(
    request: TurnRequest, user: TurnRecord | None, assistant: TurnRecord
) -> tuple[ClientTurnId, ...]:
    """Return the client's ids of the new turns."""
    given: list[ClientTurnId] = []
    if user is not None and request.client_message_id is not None:
        given.append(ClientTurnId("message", request.client_message_id, user.id))
    if request.client_run_id is not None:
        given.append(ClientTurnId("run", request.client_run_id, assistant.id))
    return tuple(given)


def assistant_turn(
    owner: str,
    request: TurnRequest,
    user: TurnRecord | None,
    *,
    awaits_hook: bool = False,
    node: str | None = None,
) -> TurnRecord:
    """Return the row of the pending turn that answers `user`, or follows `request.prev_turn_id`.

    `awaits_hook`: the host application has a hook for the turn's end. `node`: id of the node that runs it.
    """
    turn_id = new_id()
    asked: dict[str, Any] = {name: getattr(request, name) for name in _KEPT}
    asked["params"] = request.params or {}
    return TurnRecord(
        id=turn_id,
        chat_id=request.chat_id,
        owner=owner,
        prev_turn_id=user.id if user is not None else request.last_turn_id,
        role="assistant",
        status="pending",
        created_at=SET_BY_STORE,
        generation=first_generation(turn_id),
        awaits_hook=awaits_hook or None,
        node=node,
        **asked,
    )


def history_of(turn: TurnRecord, last_seq: int) -> History:
    """Return the start event, the resets and the fences of a turn, from its row.

    Args:
        last_seq: Seq of the last event, or 0 if there is none. Then the start event has no number yet.
    """
    return History(
        (min(1, last_seq), start_event(turn)),
        tuple(ResetRecord(seq, index) for seq, index in turn.resets),
        tuple(Fence(generation, seq) for generation, seq in turn.fences),
    )


def continued_state(turn: TurnRecord, opened: OpenedBlock | None) -> LogState:
    """Return the state from which the log of a turn's new generation continues.

    Args:
        turn: The row, as the new generation is stored.
        opened: The open block that survived, or None.
    """
    history = history_of(turn, turn.last_seq)
    state = LogState(turn.generation, turn.last_seq, history, history.fences[-1].seq)
    if opened is None:
        return state
    return state._replace(open_block=opened.block, open_first_seq=opened.first_seq)


def start_event(turn: TurnRecord) -> TurnStart:
    """Return the first event of a turn."""
    return TurnStart(
        turn.chat_id,
        turn.role,
        turn.asked_model or turn.model,
        iso_timestamp(turn.created_at),
        turn.prev_turn_id,
    )
