"""The part of a conversation that is stored before its new turns: a new chat, and imported turns."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from sqlalchemy import Connection, bindparam, delete, select

from turnstream.errors import NotFound
from turnstream.store.base import BlockRecord, ChatRecord, Operation, TurnRecord
from turnstream.store.client_ids import IdKind, PathEnd, chat_of, find_path
from turnstream.store.database import driver_of
from turnstream.store.operations.chats import next_moment
from turnstream.store.rows import block_row, chat_rows
from turnstream.store.schema import blocks, chats, client_chats, client_turns, turns
from turnstream.store.settings import store_settings

_CHAT_OF_TURN = (
    select(turns.c.chat_id)
    .join(chats, chats.c.id == turns.c.chat_id)
    .where(
        turns.c.id == bindparam("turn_id"),
        turns.c.owner == bindparam("owner"),
        chats.c.deleted_at.is_(None),
    )
)
_DROP_CHAT = delete(chats).where(chats.c.id == bindparam("dropped"))


class ClientTurnId(msgspec.Struct, frozen=True, gc=False):
    """An id that a client gave to a turn."""

    kind: IdKind
    client_id: str
    turn_id: str


class ImportedTurn(msgspec.Struct, frozen=True):
    """A turn that a client sent with its history, and the digest of the path up to it."""

    turn: TurnRecord
    blocks: tuple[BlockRecord, ...]
    path_digest: str


class Opening(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a client's conversation that is not stored yet. It is stored with the first new turn.

    Args:
        new_chat: Chat to create, unless the client's id has a chat by then. None if the chat exists.
        client_chat_id: The client's id of the chat. None for a protocol without such ids.
        imported: Turns to store, oldest first. Turns that another request has stored meanwhile are not
            stored again.
        client_ids: The client's ids of the imported turns.
    """

    new_chat: ChatRecord | None = None
    client_chat_id: str | None = None
    imported: tuple[ImportedTurn, ...] = ()
    client_ids: tuple[ClientTurnId, ...] = ()

    @property
    def last(self) -> ImportedTurn | None:
        """The last imported turn, or None."""
        return self.imported[-1] if self.imported else None


class PlacedOpening(msgspec.Struct, frozen=True):
    """The part of an opening that this transaction stores.

    Attributes:
        opening: The part.
        chat_id: Chat of all its turns.
        after: Id of the stored turn that the part follows. None if it is the turn that the request found.
    """

    opening: Opening
    chat_id: str
    after: str | None = None


def place_opening(connection: Connection, owner: str, opening: Opening, chat_id: str) -> PlacedOpening:
    """Return the part of an opening that is not stored. Another request may have stored the rest meanwhile.

    A new chat with a client's id is stored here, so that the rest of the transaction sees one chat only.

    Args:
        chat_id: The chat that the request found, or the new one.
    """
    new_chat = opening.new_chat
    if new_chat is not None and opening.client_chat_id is not None:
        chat_id, new_chat = _chat_of_client(connection, new_chat, opening.client_chat_id), None
    imported, after = opening.imported, None
    if imported:
        ends = [
            PathEnd(found.path_digest, "user" if found.turn.role == "user" else "assistant", position)
            for position, found in enumerate(imported, 1)
        ]
        anywhere = new_chat is not None and opening.client_chat_id is None
        path = find_path(connection, owner, None if anywhere else chat_id, ends[::-1])
        if path is not None:
            chat_id, after, new_chat = path.chat_id, path.turn_id, None
            imported = imported[path.position :]
    left = msgspec.structs.replace(opening, new_chat=new_chat, imported=_following(imported, chat_id, after))
    return PlacedOpening(left, chat_id, after)


def _chat_of_client(connection: Connection, new: ChatRecord, client_id: str) -> str:
    """Return the chat of a client's id. Store `new` if there is none.

    If two nodes store a chat for one id, the second waits here for the first, and then finds that chat.
    """
    known = chat_of(connection, new.owner, client_id)
    if known is not None:
        return known
    driver = driver_of(connection)
    moment, _ = next_moment(connection, new.owner)
    chat = msgspec.structs.replace(new, created_at=moment, updated_at=moment)
    driver.insert(connection, chats, [(*chat_rows.row(chat), None)])
    if driver.insert(connection, client_chats, [(new.owner, client_id, new.id)]) == 1:
        return new.id
    connection.execute(_DROP_CHAT, {"dropped": new.id})
    known = chat_of(connection, new.owner, client_id)
    if known is None:
        raise NotFound("the chat is being deleted: send the message again")
    return known


def store_opening(connection: Connection, owner: str, placed: PlacedOpening, moment: int) -> None:
    """Store the chat and the imported turns. The first turn gets the time `moment`."""
    opening, driver = placed.opening, driver_of(connection)
    if (chat := opening.new_chat) is not None:
        chat = msgspec.structs.replace(chat, created_at=moment, updated_at=moment)
        driver.insert(connection, chats, [(*chat_rows.row(chat), None)])
    rows = [
        store_settings(connection, _at(imported.turn, moment + number), imported.path_digest)
        for number, imported in enumerate(opening.imported)
    ]
    driver.insert(connection, turns, rows)
    driver.insert(connection, blocks, [block_row(row) for turn in opening.imported for row in turn.blocks])
    imported_ids = {imported.turn.id for imported in opening.imported}
    store_client_ids(
        connection,
        owner,
        placed.chat_id,
        [given for given in opening.client_ids if given.turn_id in imported_ids],
    )


def store_client_ids(connection: Connection, owner: str, chat_id: str, given: Sequence[ClientTurnId]) -> None:
    """Store ids that clients gave to turns of a chat. An id that the chat has already keeps its turn."""
    rows = [(chat_id, name.kind, name.client_id, owner, name.turn_id) for name in given]
    driver_of(connection).insert(connection, client_turns, rows)


class NameRun(Operation[None], frozen=True, kw_only=True):
    """Stores another id of a run that a client gave to a turn. Raises NotFound.

    Applying it again changes nothing.
    """

    owner: str
    client_id: str

    def apply(self, connection: Connection) -> None:
        values = {"turn_id": self.turn_id, "owner": self.owner}
        chat_id = connection.execute(_CHAT_OF_TURN, values).scalar()
        if chat_id is None:
            raise NotFound("no such turn: list the turns of its chat")
        name = ClientTurnId("run", self.client_id, self.turn_id)
        store_client_ids(connection, self.owner, chat_id, [name])


def _following(
    imported: tuple[ImportedTurn, ...], chat_id: str, after: str | None
) -> tuple[ImportedTurn, ...]:
    """Return the turns in chat `chat_id`, the first one after the turn `after` if it is not None."""
    if not imported or (after is None and imported[0].turn.chat_id == chat_id):
        return imported
    moved: list[ImportedTurn] = []
    for given in imported:
        previous = given.turn.prev_turn_id if moved or after is None else after
        turn = msgspec.structs.replace(given.turn, chat_id=chat_id, prev_turn_id=previous)
        moved.append(msgspec.structs.replace(given, turn=turn))
    return tuple(moved)


def _at(turn: TurnRecord, moment: int) -> TurnRecord:
    return msgspec.structs.replace(turn, created_at=moment, completed_at=moment)
