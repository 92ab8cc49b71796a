"""The write that adds a client's messages to a chat without an answer."""

from __future__ import annotations

from sqlalchemy import Connection

from turnstream.store.base import Operation
from turnstream.store.operations.chats import next_moment, require_chat, touch_chat
from turnstream.store.operations.opening import Opening, PlacedOpening, store_opening


class AppendTurns(Operation[None], frozen=True, kw_only=True):
    """Stores the imported turns of `opening`, and makes their branch the shown branch. Raises NotFound.

    Applying it again changes nothing.
    """

    owner: str
    chat_id: str
    opening: Opening

    @property
    def changed_owner(self) -> str:
        return self.owner

    def apply(self, connection: Connection) -> None:
        last = self.opening.last
        assert last is not None
        require_chat(connection, self.owner, self.chat_id)
        moment, is_repeated = next_moment(connection, self.owner, last.turn.id)
        if is_repeated:
            return
        store_opening(connection, self.owner, PlacedOpening(self.opening, self.chat_id), moment)
        touch_chat(connection, self.owner, last.turn, moment + len(self.opening.imported))
