"""The order of writes that several writers commit at once.

Two writes go to the same writer, which keeps the order of the calls, if

- they write the same turn,
- they change chats of the same owner (`Operation.changed_owner`): the moment of each change is later than all
  earlier moments of its owner, and watchers of the owner read the changes by their moments,
- one starts a turn, and the other writes this turn before the start is answered,
- both belong to no turn and no owner, such as the pages of the journal, and the claims of turns.

All other writes may be committed in any order. As on two nodes, each compares rows in its own transaction.
Between nodes, `OpenDatabase.lock_owners` keeps the order of an owner's changes.
A write that changes a chat belongs to the chat's owner, not to its turn. It follows the end of that turn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from zlib import crc32

from turnstream.store.base import Operation

REST = 0
"""Writer of the writes that belong to no turn and no owner."""


@dataclass(slots=True)
class _Start:
    """A turn whose start is not answered yet: the start's writer, and the writes that wait there."""

    writer: int
    waiting: int = 0


class WriteOrder:
    """Chooses the writer of each write. It belongs to the event loop.

    Args:
        writers: Number of writers. Each commits its writes in the order in which it got them.
    """

    def __init__(self, writers: int) -> None:
        self._writers = writers
        self._starting: dict[str, _Start] = {}
        """Turns by id, until all writes that went to the writer of their start are answered."""

    def place(self, operation: Operation[Any]) -> int:
        """Return the index of the writer that must get this write next. `answered` must follow."""
        if self._writers == 1:
            return REST
        owner = operation.changed_owner
        if owner is None:
            turn_id = operation.turn_id
            if not turn_id:
                return REST
            start = self._starting.get(turn_id)
            if start is None:
                return self._hashed(turn_id)
            start.waiting += 1
            return start.writer
        writer = self._hashed(owner)
        for turn_id in operation.started_turns:
            self._starting.setdefault(turn_id, _Start(writer)).waiting += 1
        return writer

    def answered(self, operation: Operation[Any]) -> None:
        """Note that the writer has answered a write: it is committed, or refused."""
        if not self._starting:
            return
        turn_ids = (operation.turn_id,) if operation.changed_owner is None else operation.started_turns
        for turn_id in turn_ids:
            start = self._starting.get(turn_id)
            if start is not None:
                start.waiting -= 1
                if start.waiting == 0:
                    del self._starting[turn_id]

    def _hashed(self, key: str) -> int:
        return crc32(key.encode("utf-8", "surrogatepass")) % self._writers
