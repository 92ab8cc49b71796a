"""A turn as a watcher sees it: server-sent events in, blocks and typed events out (PROTOCOL.md).

This module does no I/O and does not depend on the number of connections.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias, get_args

import msgspec

from turnstream.client.answers import Failure
from turnstream.core.blocks import BLOCK_TYPES, Block, beginning
from turnstream.core.cursor import Cursor, parse_cursor
from turnstream.core.lifecycle import TurnStatus
from turnstream.core.native_fold import TERMINAL_NAMES, NativeEvent, NativeFold, malformed_frame, native_event
from turnstream.core.sse import ServerSentEvent
from turnstream.core.turn_events import ApprovalRequest, BlockDelta, Notice, TurnEvent
from turnstream.core.usage import Usage
from turnstream.errors import TooLarge

ANSWER_LIMIT = 256 * 1024 * 1024
"""Largest size of all blocks of a turn, in bytes of JSON. The server's limit is far lower."""
MAX_LOST = 100

_KINDS: dict[str, Any] = {str(kind.__struct_config__.tag): kind for kind in get_args(TurnEvent)}
_REPEATABLE = frozenset({"block_catchup", "block_reset", "notice"})

Frame: TypeAlias = ServerSentEvent


def turn_events(event: NativeEvent) -> Sequence[TurnEvent]:
    """Convert a native event to typed events. A delta becomes one event per field, any other event just one.

    Return an empty sequence if the event or its type of block is unknown. Raises MalformedEvent if the data
    is not valid.
    """
    name, data = event
    kind = _KINDS.get(name)
    if kind is None or data.get("block_type", "text") not in BLOCK_TYPES:
        return ()
    try:
        if kind is BlockDelta:
            index, block_type = data["block_index"], data["block_type"]
            return [BlockDelta(index, block_type, field, value) for field, value in data["delta"].items()]
        return (msgspec.convert(data, kind),)
    except (msgspec.ValidationError, KeyError, AttributeError) as error:
        raise malformed_frame(name.encode(), error) from error


class WatchedTurn:
    """The current state of a watched turn.

    `after`: cursor after which watching starts. None: the turn's beginning.
    """

    def __init__(self, turn_id: str, *, after: str | None = None) -> None:
        self.turn_id = turn_id
        self.chat_id: str | None = None
        self.usage: Usage | None = None
        """Tokens that the turn has used so far, as the server reported last. None before the first report."""
        self.cost: str | None = None
        """US dollars, a decimal number with six places."""
        self.last_id = after
        """Cursor of the last complete event. Watching can resume from it, also in another process."""
        self._fold = NativeFold()
        self._lost: list[Notice] = []
        self._fresh = True
        self._begun = False
        self._at_end = False
        self._size = 0

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.turn_id}, {self.status}: {beginning(self.text)!r}>"

    @property
    def path(self) -> str:
        """Path of the turn's event stream."""
        return f"/turns/{self.turn_id}/stream"

    @property
    def position(self) -> Cursor | None:
        """Cursor of the last complete event, or None if that event has no valid cursor."""
        return parse_cursor(self.last_id or "")

    @property
    def blocks(self) -> list[Block]:
        """Blocks so far, in order. An open block is included as if it were cut off now (`partial`)."""
        return self._fold.blocks

    @property
    def text(self) -> str:
        """Text of all text blocks, joined."""
        return "".join(block.text_content or "" for block in self.blocks if block.block_type == "text")

    @property
    def ended(self) -> bool:
        """True if no further events will arrive."""
        return self._fold.ending is not None or self._at_end

    @property
    def status(self) -> TurnStatus | None:
        """Status of the turn: `pending` before the first event, then `streaming`, then the final status.

        `waiting` while an approval is unanswered. None if watching started at the turn's end: then the server
        does not send the final status.
        """
        if self._fold.ending is not None:
            return self._fold.ending.data["status"]
        if self._at_end:
            return None
        if self._fold.approvals:
            return "waiting"
        return "streaming" if self._begun else "pending"

    @property
    def approvals(self) -> Sequence[ApprovalRequest]:
        """Unanswered approval requests, for `client.approve`."""
        return [msgspec.convert(data, ApprovalRequest) for data in self._fold.approvals.values()]

    @property
    def stop_reason(self) -> str | None:
        """Reason why the model stopped. None unless the turn is complete."""
        return self._fold.ending.data.get("stop_reason") if self._fold.ending is not None else None

    @property
    def error(self) -> Failure | None:
        """Error of a failed turn, else None."""
        ending = self._fold.ending
        if ending is None or ending.name != "turn_error":
            return None
        return Failure(ending.data["code"], ending.data["error"])

    @property
    def lost(self) -> Sequence[Notice]:
        """Losses of text that had been sent. The blocks from `block_index` on were dropped and replaced."""
        return tuple(self._lost)

    def connected(self) -> None:
        """Record that the next frames come from a new connection."""
        self._fresh = True

    def end_reached(self) -> None:
        """Record the server's status 204: the cursor is at the turn's end."""
        self._at_end = True

    def take(self, frame: Frame) -> NativeEvent | None:
        """Fold one event and return it.

        Return None if it is unknown, a repetition, or after the end. Raises MalformedEvent if it is not
        valid, and TooLarge if the answer exceeds `ANSWER_LIMIT`.
        """
        if self.ended:
            return None
        name, data, identity = frame
        cursor = identity.decode("utf-8", "replace") if identity else self.last_id
        known = (name or b"message").decode("utf-8", "replace")
        if known in _KINDS and not self._is_repetition(known, cursor):
            event = native_event(frame)
            self._feed(event)
            self._count(len(data))
            self._fresh, self._begun = False, True
            self.last_id = cursor
            return event
        if known not in _KINDS:
            self.last_id = cursor
        return None

    def _is_repetition(self, name: str, cursor: str | None) -> bool:
        """Return True if the event was received before: a proxy may send the start of a stream twice."""
        # Sequence numbers only rise within a generation. An equal number is valid for the pieces of a long
        # catch-up, which start with a block_catchup on a new connection. Events of `_REPEATABLE` may be
        # folded twice.
        if name == "turn_start" or cursor is None or self.last_id is None:
            return False
        now, last = parse_cursor(cursor), parse_cursor(self.last_id)
        if now is None or last is None or now.generation != last.generation or now.seq > last.seq:
            return False
        return now.seq < last.seq or (self._fresh and name not in _REPEATABLE)

    def _feed(self, event: NativeEvent) -> None:
        name, data = event
        try:
            self._fold.feed(name, data)
            if name == "turn_start":
                self.turn_id, self.chat_id = data["turn_id"], data["chat_id"]
                self.usage = self.cost = None
                self._size = 0
            elif name == "usage" or name in TERMINAL_NAMES:
                self._account(data)
            elif name == "notice" and data["code"] == "truncated":
                self._lost = [*self._lost[1 - MAX_LOST :], msgspec.convert(data, Notice)]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise malformed_frame(name.encode(), error) from error

    def _account(self, data: dict[str, Any]) -> None:
        if data.get("usage") is not None:
            self.usage = msgspec.convert(data["usage"], Usage)
        self.cost = data.get("cost", self.cost)

    def _count(self, length: int) -> None:
        """Raise TooLarge if the blocks exceed the size limit."""
        # Received bytes are only an upper bound, because a catch-up repeats blocks. So the blocks are
        # measured each time the received bytes reach the limit.
        self._size += length
        if self._size > ANSWER_LIMIT:
            self._size = sum(len(msgspec.json.encode(block)) for block in self.blocks)
            if self._size > ANSWER_LIMIT // 2:
                raise TooLarge(f"the answer has {self._size} bytes", code="answer_too_large")
