"""Conversations of clients that keep the history themselves and send all of it with each request.

    messages ─► digest of each path ─► the longest stored path ─► continued; the rest is imported once

The request that `continue_from` returns stores nothing. `Commands.send` stores the rest of the conversation
and starts the turn in one transaction, so nothing is stored for a request that is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import groupby
from typing import NamedTuple

import msgspec

from turnstream.core.admission import checked_client_id, plain_request_json
from turnstream.core.blocks import Block, Message
from turnstream.core.cursor import first_generation
from turnstream.core.identifiers import new_id
from turnstream.errors import InvalidRequest, TooLarge
from turnstream.limits import MAX_CHARACTERS, MAX_MESSAGES
from turnstream.providers.conversations import run_work
from turnstream.store.base import SET_BY_STORE, ChatRecord, Store, TurnRecord
from turnstream.store.client_ids import (
    ChatOfClient,
    DigestOfPath,
    FindConversation,
    FindRun,
    FoundPath,
    IdKind,
    PathEnd,
    Role,
    RunOfClient,
    SentMessage,
    TurnOfClient,
)
from turnstream.store.conversation_digest import NO_TURNS, entries_of, path_digest
from turnstream.store.operations.appending import AppendTurns
from turnstream.store.operations.opening import ClientTurnId, ImportedTurn, NameRun, Opening
from turnstream.store.queries import AllBlocks, GetTurn
from turnstream.turns.clock import now_microseconds
from turnstream.turns.new_turns import TurnRequest, block_rows


class ResentConversation(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation as a client sends it, without system prompts.

    If a call and its result are in the same assistant message, the server ran the call. If the client ran it,
    the result is in a user message.

    Args:
        messages: Messages before the new one. They need not alternate.
        new: Blocks of the user's new message. Empty: the last message is answered. A message that has an
            answer gets another one. So does a new message whose id the chat has already.
        chat_id: The client's id of the chat. None for a protocol without such ids: then the conversation
            continues in any chat of the owner that has it, or begins a new one.
        message_ids: The client's ids of `messages`, or empty. None for a message without one.
        new_message_id: The client's id of the new message.
        run_id: The client's id of the answer.
        after: Id of the stored turn that the messages follow. Its chat is continued. None: the messages
            are the whole conversation.
    """

    messages: tuple[Message, ...] = ()
    new: tuple[Block, ...] = ()
    chat_id: str | None = None
    message_ids: tuple[str | None, ...] = ()
    new_message_id: str | None = None
    run_id: str | None = None
    after: str | None = None

    @property
    def last(self) -> tuple[Message, ...]:
        """The user's new message, if there is one."""
        return (Message("user", self.new),) if self.new else ()


class _DigestedMessage(NamedTuple):
    """A message of a conversation.

    Attributes:
        client_id: The client's id of the message, or None.
        entries: Digests of its entries.
        digest: Digest of the path up to the message.
    """

    role: Role
    blocks: tuple[Block, ...]
    client_id: str | None
    entries: tuple[str, ...]
    digest: str


class ConversationCommands:
    """Finds chats and turns by clients' ids, and continues clients' conversations."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def chat_of(self, owner: str, client_id: str) -> str | None:
        """Return the id of the chat that the owner's clients know as `client_id`, or None.

        The chat's own id is accepted too. Raises InvalidRequest (`invalid_client_id`).
        """
        checked = checked_client_id(client_id, "the id of the chat")
        return await self._store.read(ChatOfClient(owner=owner, client_id=checked))

    async def turn_of(
        self, owner: str, chat_id: str | None, client_id: str, kind: IdKind = "message"
    ) -> str | None:
        """Return the id of the turn that the owner's clients know as `client_id`, or None.

        The turn's own id is accepted too. Raises InvalidRequest (`invalid_client_id`).

        Args:
            owner: Owner of the chat.
            chat_id: Our id of the chat. None for any chat of the owner: then the newest turn counts.
            client_id: The client's id of the turn.
            kind: Kind of the id.
        """
        checked = checked_client_id(client_id, f"the id of the {kind}")
        query = TurnOfClient(owner=owner, client_id=checked, kind=kind, chat_id=chat_id)
        return await self._store.read(query)

    async def run_of(self, owner: str, client_chat_id: str, client_id: str) -> RunOfClient:
        """Return the chat and the turn of a run. See `chat_of` and `turn_of`."""
        chat = checked_client_id(client_chat_id, "the id of the chat")
        run = checked_client_id(client_id, "the id of the run")
        return await self._store.read(FindRun(owner=owner, client_chat_id=chat, client_id=run))

    async def name_run(self, owner: str, turn_id: str, client_id: str) -> None:
        """Store `client_id` as another run id of a turn. Raises NotFound, StoreError."""
        await self._store.write(NameRun(turn_id=turn_id, owner=owner, client_id=client_id))

    async def continue_from(self, owner: str, conversation: ResentConversation) -> TurnRequest:
        """Return the request that continues a conversation, for `Commands.send`.

        Its `prev_turn_id` ends the longest stored path of the conversation, and its `opening` has the rest.
        The caller adds the model, the system prompt and other options. Raises InvalidRequest
        (`invalid_client_id`), TooLarge (`conversation_too_large`), StoreError.
        """
        _check(conversation)
        conversation = plain_request_json(conversation, "the conversation")
        if conversation.after is not None:
            return await self._continue_after(owner, conversation, conversation.after)
        messages, client_ids = conversation.messages, conversation.message_ids
        if not client_ids:
            client_ids = (None,) * len(messages)
        if conversation.new:
            messages = (*messages, *conversation.last)
            client_ids = (*client_ids, conversation.new_message_id)
        digested = await run_work(messages, partial(_digested, messages, client_ids))
        ends = list(_path_ends(digested, has_new=bool(conversation.new)))
        find = FindConversation(
            owner=owner, client_chat_id=conversation.chat_id, ends=ends, sent=_sent(conversation, digested)
        )
        chat_id, found = await self._store.read(find)
        return _request(owner, conversation, chat_id, found, digested)

    def transient_request(self, conversation: ResentConversation) -> TurnRequest:
        """Return the request for a transient turn that answers a conversation, for `Commands.send`.

        Nothing is read or stored. Raises InvalidRequest (`invalid_client_id`), TooLarge.
        """
        _check(conversation)
        return TurnRequest(
            store=False,
            messages=conversation.messages,
            blocks=conversation.new,
            client_chat_id=conversation.chat_id,
            client_message_id=conversation.new_message_id,
            client_run_id=conversation.run_id,
        )

    async def append(self, owner: str, chat_id: str, after: str | None, messages: Sequence[Message]) -> str:
        """Store messages at the end of a branch, without an answer. Return the id of the last turn.

        Raises NotFound, InvalidRequest, TooLarge (`conversation_too_large`), StoreError.

        Args:
            after: Turn at the end of the branch. None for a chat without turns.
        """
        conversation = ResentConversation(messages=tuple(messages), after=after)
        _check(conversation)
        conversation = plain_request_json(conversation, "the conversation")
        place, digested = await self._place_after(owner, after, conversation.messages)
        imported = _imported(owner, chat_id, place, _turns_of(digested))
        if not imported:
            raise InvalidRequest("the messages are empty: send content")
        opening = Opening(imported=tuple(imported))
        await self._store.write(AppendTurns(owner=owner, chat_id=chat_id, opening=opening))
        return imported[-1].turn.id

    async def _continue_after(self, owner: str, conversation: ResentConversation, after: str) -> TurnRequest:
        messages = (*conversation.messages, *conversation.last)
        turn = await self._store.read(GetTurn(owner=owner, turn_id=after))
        place, digested = await self._place_after(owner, after, messages)
        found = None if place is None else FoundPath(place, turn.chat_id, 0)
        return _request(owner, conversation, turn.chat_id, found, digested)

    async def _place_after(
        self, owner: str, after: str | None, messages: Sequence[Message]
    ) -> tuple[str | None, list[_DigestedMessage]]:
        """Return the turn that messages follow, and the messages.

        If a message of the user follows a turn of the user, one turn with both of them replaces that turn.
        """
        if after is not None and messages and messages[0].role == "user":
            turn = await self._store.read(GetTurn(owner=owner, turn_id=after))
            if turn.role == "user":
                rows = await self._store.read(AllBlocks(turn_id=after))
                said = (*(row.block for row in rows), *messages[0].blocks)
                after, messages = turn.prev_turn_id, (Message("user", said), *messages[1:])
        digest: str | None = NO_TURNS
        if after is not None:
            digest = await self._store.read(DigestOfPath(turn_id=after))
        # A path without a digest gets one that no other path has.
        begin = partial(_digested, messages, (None,) * len(messages), after if digest is None else digest)
        return after, await run_work(messages, begin)


def _check(conversation: ResentConversation) -> None:
    """Check the ids and the size of a conversation."""
    if conversation.chat_id is not None:
        checked_client_id(conversation.chat_id, "the id of the chat")
    if conversation.run_id is not None:
        checked_client_id(conversation.run_id, "the id of the run")
    for client_id in (*conversation.message_ids, conversation.new_message_id):
        if client_id is not None:
            checked_client_id(client_id, "the id of a message")
    if not conversation.messages and not conversation.new and conversation.after is None:
        raise InvalidRequest("the conversation has no messages: send at least one user message")
    if len(conversation.messages) + bool(conversation.new) > MAX_MESSAGES:
        raise _too_large(f"more than {MAX_MESSAGES:,} messages")
    blocks = (*(block for message in conversation.messages for block in message.blocks), *conversation.new)
    if sum(map(_characters, blocks)) > MAX_CHARACTERS:
        raise _too_large(f"more than {MAX_CHARACTERS:,} characters")


def _too_large(size: str) -> TooLarge:
    return TooLarge(
        f"the conversation has {size}: send the last part of it only", code="conversation_too_large"
    )


def _characters(block: Block) -> int:
    values = (block.content or {}).values()
    return len(block.text_content or "") + sum(len(value) for value in values if isinstance(value, str))


def _digested(
    messages: Sequence[Message], client_ids: Sequence[str | None], before: str | None = NO_TURNS
) -> list[_DigestedMessage]:
    """Return the digested messages of a path that continues the one with the digest `before`."""
    digest = before or NO_TURNS
    digested: list[_DigestedMessage] = []
    for message, client_id in zip(messages, client_ids, strict=True):
        entries = entries_of(message.role, message.blocks)
        digest = path_digest(digest, entries)
        digested.append(_DigestedMessage(message.role, message.blocks, client_id, entries, digest))
    return digested


def _sent(conversation: ResentConversation, digested: Sequence[_DigestedMessage]) -> SentMessage | None:
    """Return the new message, which may be a repetition. None if there is none, or if it has no id."""
    if not conversation.new or conversation.new_message_id is None:
        return None
    return SentMessage(conversation.new_message_id, PathEnd(digested[-1].digest, "user", len(digested)))


def _path_ends(digested: Sequence[_DigestedMessage], *, has_new: bool) -> Iterator[PathEnd]:
    """Yield the ends of paths that the conversation may continue, the longest path first.

    A user's turn can follow only an assistant's turn. Without a new message, the answer follows the last one.
    """
    for position in range(len(digested) - has_new, 0, -1):
        last = digested[position - 1]
        if last.digest == NO_TURNS:
            return
        if position == len(digested):
            yield PathEnd(last.digest, last.role, position)
        elif digested[position].role == "user":
            yield PathEnd(last.digest, "assistant", position)
        else:
            yield PathEnd(last.digest, "user", position)
            yield PathEnd(last.digest, "assistant", position)


def _request(
    owner: str,
    conversation: ResentConversation,
    chat_id: str | None,
    found: FoundPath | None,
    digested: Sequence[_DigestedMessage],
) -> TurnRequest:
    """Return the request for a conversation whose path `found` is stored in the chat `chat_id`."""
    new_chat = None
    if chat_id is None:
        chat_id = new_id()
        new_chat = ChatRecord(chat_id, owner, None, {}, SET_BY_STORE, SET_BY_STORE)
    turns = list(_turns_of(digested if found is None else digested[found.position :]))
    asked = turns.pop() if turns and turns[-1][0].role == "user" else ()
    found_id = None if found is None else found.turn_id
    imported = _imported(owner, chat_id, found_id, turns)
    opening = Opening(
        new_chat=new_chat,
        client_chat_id=conversation.chat_id,
        imported=tuple(imported),
        client_ids=tuple(
            ClientTurnId("message", message.client_id, turn.turn.id)
            for turn, messages in zip(imported, turns, strict=True)
            for message in messages
            if message.client_id is not None
        ),
    )
    return TurnRequest(
        chat_id=chat_id,
        blocks=tuple(block for message in asked for block in message.blocks),
        prev_turn_id=found_id,
        client_message_id=asked[-1].client_id if asked else None,
        client_run_id=conversation.run_id,
        opening=opening,
        entries=tuple(entry for message in asked for entry in message.entries),
    )


def _imported(
    owner: str, chat_id: str, previous_id: str | None, turns: Iterable[Sequence[_DigestedMessage]]
) -> list[ImportedTurn]:
    """Return turns in a row, the first one after the turn `previous_id`."""
    imported: list[ImportedTurn] = []
    for messages in turns:
        imported.append(_imported_turn(owner, chat_id, previous_id, messages))
        previous_id = imported[-1].turn.id
    return imported


def _turns_of(digested: Sequence[_DigestedMessage]) -> Iterator[Sequence[_DigestedMessage]]:
    """Yield the messages of each turn. The user's adjacent messages are one turn. Empty ones are left out."""
    for role, messages in groupby(
        (message for message in digested if message.blocks), key=lambda message: message.role
    ):
        if role == "user":
            yield tuple(messages)
        else:
            yield from ((message,) for message in messages)


def _imported_turn(
    owner: str, chat_id: str, previous_id: str | None, messages: Sequence[_DigestedMessage]
) -> ImportedTurn:
    turn_id = new_id()
    blocks = [block for message in messages for block in message.blocks]
    turn = TurnRecord(
        id=turn_id,
        chat_id=chat_id,
        owner=owner,
        prev_turn_id=previous_id,
        role=messages[0].role,
        status="complete",
        created_at=SET_BY_STORE,
        generation=first_generation(turn_id),
        last_seq=len(blocks) + 2,
        completed_at=SET_BY_STORE,
        imported=True,
    )
    return ImportedTurn(turn, block_rows(turn_id, blocks, now_microseconds()), messages[-1].digest)
