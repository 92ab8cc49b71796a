"""Retracted text in dialects that cannot retract.

A stream whose shown text is retracted continues only if the next attempt repeats that text. The repetition is
compared, and not sent again. If it differs, the stream ends with an error: text of two attempts is never
joined.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import msgspec
from msgspec.structs import replace

from turnstream.core.blocks import Block
from turnstream.core.turn_events import (
    BlockCatchup,
    BlockDelta,
    BlockReset,
    BlockStart,
    BlockStop,
    Notice,
    TurnCancelled,
    TurnComplete,
    TurnError,
    TurnEvent,
    TurnStart,
)
from turnstream.turnlog.base import DialectEncoder

RETRACTED = TurnError(
    "the text that was shown was retracted for another text: load the chat again, or ask again",
    "retracted",
    0,
)
"""The end of a stream whose text was retracted."""


class AppendedState(Protocol):
    """The state of a dialect that cannot retract."""

    @property
    def is_over(self) -> bool:
        """True if the stream has ended."""
        ...

    @property
    def last_block(self) -> int:
        """Index of the last block that was shown, or -1."""
        ...


class AppendingEncoder(DialectEncoder, Protocol):
    """An encoder of a dialect that cannot retract. Its states are of the kind `AppendedState`."""

    def last_block(self, state: object) -> int:
        """Return the index of the last block that was shown, or -1."""
        now: AppendedState = state  # type: ignore[assignment]
        return now.last_block

    def is_over(self, state: object) -> bool:
        """Return True if the stream has ended."""
        now: AppendedState = state  # type: ignore[assignment]
        return now.is_over

    def needs_replay(self, state: object) -> bool:
        """Return False: retracted text cannot be replaced."""
        del state
        return False

    def is_settled(self, state: object) -> bool:
        """Return True: a waiting turn keeps its stream open."""
        del state
        return True

    def settle(self, state: object) -> tuple[bytes, object]:
        """Return nothing. See `is_settled`."""
        return b"", state


class Repeating(msgspec.Struct, frozen=True, gc=False):
    """The state of a stream while the next attempt repeats what was shown.

    Attributes:
        inner: The dialect's own state. The last of `blocks` is open in it if it is partial.
        blocks: The blocks that were shown and have not been repeated yet. The first is being repeated.
        length: Characters of the first block that have been repeated, or None before it begins.
    """

    inner: object
    blocks: tuple[Block, ...]
    length: int | None = None


class RepetitionEncoder:
    """Encodes a turn in a dialect that cannot retract, and compares repetitions.

    Args:
        repeats: Returns the state of the dialect from which the stream continues after a repetition, given
            its state and the seq of the retraction. It returns None if the stream must end. Default: the
            state does not change.
    """

    def __init__(
        self, encoder: AppendingEncoder, repeats: Callable[[object, int], object | None] | None = None
    ) -> None:
        self.name = encoder.name
        self._encoder = encoder
        self._repeats = repeats

    def begin(self) -> object:
        """Return the state before a turn's first event."""
        return self._encoder.begin()

    def is_over(self, state: object) -> bool:
        """Return True if the stream has ended."""
        return self._encoder.is_over(state.inner if isinstance(state, Repeating) else state)

    def needs_replay(self, state: object) -> bool:
        """Return True if the dialect needs the turn's events again."""
        return self._encoder.needs_replay(state.inner if isinstance(state, Repeating) else state)

    def is_settled(self, state: object) -> bool:
        """Return True if there is nothing to send before the next event comes."""
        return isinstance(state, Repeating) or self._encoder.is_settled(state)

    def settle(self, state: object) -> tuple[bytes, object]:
        """Return the dialect's bytes after the newest event."""
        return self._encoder.settle(state)

    def encode(self, state: object, seq: int, event: TurnEvent) -> tuple[bytes, object]:
        """Return the bytes of one event, and the state after it. See `DialectEncoder.encode`."""
        if type(event) is BlockDelta and type(state) is not Repeating:  # nearly all events
            return self._encoder.encode(state, seq, event)
        if isinstance(state, Repeating):
            return self._repeat(state, seq, event)
        if isinstance(event, BlockReset):
            return self._retract(state, seq, event)
        if isinstance(event, Notice) and event.code == "truncated":
            return self._retract(state, seq, BlockReset(event.block_index or 0))
        return self._encoder.encode(state, seq, event)

    def _retract(self, state: object, seq: int, event: BlockReset) -> tuple[bytes, object]:
        inner = state if self._repeats is None else self._repeats(state, seq)
        if inner is None:
            return self._fail(state, seq)
        if event.block_index > self._encoder.last_block(state):
            return b"", inner
        return (b"", Repeating(inner, event.shown)) if event.shown else self._fail(state, seq)

    def _fail(self, state: object, seq: int) -> tuple[bytes, object]:
        return self._encoder.encode(state, seq, RETRACTED)

    def _repeat(self, state: Repeating, seq: int, event: TurnEvent) -> tuple[bytes, object]:
        expected = state.blocks[0]
        match event:
            case BlockStart():
                return self._begin(state, seq, event.block_index, event.block_type, event.content)
            case BlockDelta(field="text" | "partial_json"):
                return self._compare(state, seq, event)
            case BlockStop():
                is_whole = state.length == len(_text(expected)) and not expected.partial and not event.partial
                return self._next(state) if is_whole else self._fail(state.inner, seq)
            case BlockDelta() | TurnStart():
                return b"", state  # other content of a block came with the first attempt
            case BlockReset(block_index=index):
                is_same = index <= expected.sequence
                return (b"", replace(state, length=None)) if is_same else self._fail(state.inner, seq)
            case BlockCatchup() | TurnComplete() | TurnCancelled():
                return self._fail(state.inner, seq)
            case _:
                data, inner = self._encoder.encode(state.inner, seq, event)
                return data, replace(state, inner=inner)

    def _begin(
        self, state: Repeating, seq: int, index: int, block_type: str, content: dict[str, Any] | None
    ) -> tuple[bytes, object]:
        expected = state.blocks[0]
        is_same = (index, block_type) == (expected.sequence, expected.block_type)
        if not is_same or _call(content) != _call(expected.content):
            return self._fail(state.inner, seq)
        if expected.partial and not _text(expected):
            return b"", state.inner
        return b"", replace(state, length=0)

    def _compare(self, state: Repeating, seq: int, event: BlockDelta) -> tuple[bytes, object]:
        expected, length = state.blocks[0], state.length or 0
        text, new = _text(expected), str(event.value)
        repeated = text[length : length + len(new)]
        if not new.startswith(repeated):
            return self._fail(state.inner, seq)
        state = replace(state, length=length + len(repeated))
        if state.length == len(text) and expected.partial:  # the open block: from here on the text is new
            rest = replace(event, value=new[len(repeated) :])
            return self._encoder.encode(state.inner, seq, rest) if rest.value else (b"", state.inner)
        return (b"", state) if len(repeated) == len(new) else self._fail(state.inner, seq)

    @staticmethod
    def _next(state: Repeating) -> tuple[bytes, object]:
        rest = state.blocks[1:]
        return b"", Repeating(state.inner, rest) if rest else state.inner


def _text(block: Block) -> str:
    return block.text_content or str((block.content or {}).get("input_json", ""))


def _call(content: dict[str, Any] | None) -> tuple[object, object]:
    """Return the id and the tool of a call, which the next attempt has to repeat."""
    content = content or {}
    return content.get("tool_use_id"), content.get("tool_name")
