"""A turn as its watcher knows it: server-sent events in, blocks and typed events out (PROTOCOL.md).

Pure: which connection an event came by, and how many there were, makes no difference here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias, get_args

import msgspec

from turnstream.client.answers import Failure
from turnstream.core.blocks import BLOCK_TYPES, Block
from turnstream.core.cursor import parse_cursor
from turnstream.core.lifecycle import TurnStatus
from turnstream.core.native_fold import TERMINAL_NAMES, NativeFold
from turnstream.core.sse import ServerSentEvent, SseDecoder
from turnstream.core.turn_events import BlockDelta, Notice, TurnEvent
from turnstream.core.usage import Usage
from turnstream.errors import MalformedEvent, TooLarge

FRAME_LIMIT = 64 * 1024 * 1024
"""Bytes of one event: a catch-up carries a whole block."""
ANSWER_LIMIT = 256 * 1024 * 1024
"""Bytes that all the blocks of a turn may have, as JSON; the server's own limit is far below."""
MAX_LOST = 100

_KINDS: dict[str, Any] = {str(kind.__struct_config__.tag): kind for kind in get_args(TurnEvent)}
_REPEATABLE = frozenset({"block_catchup", "block_reset", "notice"})
_decode = msgspec.json.Decoder(dict[str, Any]).decode

Frame: TypeAlias = ServerSentEvent


def frame_decoder() -> SseDecoder:
    """For one connection: what it left unfinished is dropped with it."""
    return SseDecoder(event_limit=FRAME_LIMIT)


class NativeEvent(NamedTuple):
    """An event by its name and its data, as it was sent."""

    name: str
    data: dict[str, Any]


def native_event(frame: Frame) -> NativeEvent:
    """The event of one frame. Raises MalformedEvent for one that is not of the native dialect."""
    name, data, _ = frame
    try:
        return NativeEvent((name or b"message").decode(), _decode(data))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _malformed(name, error) from error


def turn_events(event: NativeEvent) -> Sequence[TurnEvent]:
    """The typed form: nothing for an event, or a type of block, that this version does not know; one for each field
    of a delta. Raises MalformedEvent."""
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
        raise _malformed(name.encode(), error) from error


class WatchedTurn:
    """The state of a turn, true at any time while it is watched.

    `after`: the cursor at which watching begins; None for the beginning.
    """

    def __init__(self, turn_id: str, *, after: str | None = None) -> None:
        self.turn_id = turn_id
        self.chat_id: str | None = None
        self.usage: Usage | None = None
        """What the turn has used so far, as far as the server has said."""
        self.cost: str | None = None
        """US dollars, a decimal number with six places."""
        self.last_id = after
        """The cursor of the last whole event: watching can go on from here, in another process too."""
        self._fold = NativeFold()
        self._lost: list[Notice] = []
        self._fresh = True
        self._begun = False
        self._no_more = False
        self._size = 0

    @property
    def blocks(self) -> list[Block]:
        """The blocks so far, in order; one that still grows as if it were cut off now (`partial`)."""
        return self._fold.blocks

    @property
    def text(self) -> str:
        """The texts of the text blocks, joined."""
        return "".join(block.text_content or "" for block in self.blocks if block.block_type == "text")

    @property
    def ended(self) -> bool:
        """Nothing more will come."""
        return self._fold.ending is not None or self._no_more

    @property
    def status(self) -> TurnStatus | None:
        """`pending` before the first event, then `streaming`, then how the turn ended; None where watching began at
        its end, so that nobody said how."""
        if self._fold.ending is not None:
            return self._fold.ending.data["status"]
        if self._no_more:
            return None
        return "streaming" if self._begun else "pending"

    @property
    def stop_reason(self) -> str | None:
        """Why the model stopped; None unless the turn is complete."""
        return self._fold.ending.data.get("stop_reason") if self._fold.ending is not None else None

    @property
    def error(self) -> Failure | None:
        """Why it failed, if it did."""
        ending = self._fold.ending
        if ending is None or ending.name != "turn_error":
            return None
        return Failure(ending.data["code"], ending.data["error"])

    @property
    def lost(self) -> Sequence[Notice]:
        """Each time text that had been shown did not survive: blocks from `block_index` on were dropped, and what
        followed replaced them."""
        return tuple(self._lost)

    def connected(self) -> None:
        """What follows comes by another connection."""
        self._fresh = True

    def nothing_follows(self) -> None:
        """The server says (204) that the cursor is at the turn's end."""
        self._no_more = True

    def take(self, frame: Frame) -> NativeEvent | None:
        """Fold one event; None for what changes nothing: an unknown event, a repetition, one after the end.

        Raises MalformedEvent, TooLarge.
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
        """Whether this was received before: a network in between may send a beginning twice. Numbers only rise within
        a generation. An equal one comes where a long block is caught up in pieces, which begin with a block_catchup
        on a new connection; that and the others of `_REPEATABLE` may be folded twice."""
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
            raise _malformed(name.encode(), error) from error

    def _account(self, data: dict[str, Any]) -> None:
        if data.get("usage") is not None:
            self.usage = msgspec.convert(data["usage"], Usage)
        self.cost = data.get("cost", self.cost)

    def _count(self, length: int) -> None:
        """Hold the answer's size within its bound. Bytes received are only an upper bound, since a catch-up repeats
        what is there: so what is there is measured, each time the bound is reached."""
        self._size += length
        if self._size > ANSWER_LIMIT:
            self._size = sum(len(msgspec.json.encode(block)) for block in self.blocks)
            if self._size > ANSWER_LIMIT // 2:
                raise TooLarge(f"the answer has {self._size} bytes", code="answer_too_large")


def _malformed(name: bytes | None, error: Exception) -> MalformedEvent:
    shown = (name or b"message")[:80].decode("utf-8", "replace")
    return MalformedEvent(f"the server sent a {shown} event that is none: {error}", retryable=False)
