"""A block that is still growing, the events that show a block, and its text in an encoder's state."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

from turnstream.core.admission import repair_text
from turnstream.core.blocks import Block, BlockType, Content
from turnstream.core.stream_events import TextDelta, ThinkingDelta, ToolInputDelta
from turnstream.core.tool_input import finish_tool_use
from turnstream.core.turn_events import BlockCatchup, BlockDelta, BlockStart, DeltaField, TurnEvent

DELTA_LENGTH = 16 * 1024
"""Characters of text that one event carries at most.

A longer text becomes several events. This keeps the ring, and each piece that a watcher gets, small.
"""

_DELTAS: dict[BlockType, type[TextDelta] | type[ThinkingDelta] | type[ToolInputDelta]] = {
    "text": TextDelta,
    "thinking": ThinkingDelta,
    "tool_use": ToolInputDelta,
    "tool_result": TextDelta,
    "provider": TextDelta,
    "reference": TextDelta,
    "partial_reference": TextDelta,
}

_PARTS = 16
"""Pieces of text that a block may have before a read of its end joins them. Each piece costs extra memory."""


class CutBlock(NamedTuple):
    """A block that `cut` ended.

    Attributes:
        start: Index of the block's first event in the list that `cut` returns. None if the block was already
            shown.
        stop: Index after the block's last event before its block_stop.
    """

    block: Block
    start: int | None
    stop: int


class OpenBlock:
    """A block that is still growing.

    Attributes:
        length: Characters of its text, or of its input JSON.
        grows_by: The type of delta that adds to its text, or None if the block has no text.
        answered: True if the block is a tool call whose result has come.
        carry: The first half of a surrogate pair whose other half has not come, or "".
    """

    def __init__(
        self,
        sequence: int,
        index: int,
        block_type: BlockType,
        content: Content | None,
        *,
        implicit: bool = False,
    ) -> None:
        self.sequence = sequence
        self.index = index
        self.block_type: BlockType = block_type
        self.content: Content = dict(content) if content else {}
        self.implicit = implicit
        self.answered = False
        self.grows_by = _DELTAS.get(block_type)
        self.field: DeltaField = "partial_json" if block_type == "tool_use" else "text"
        self.length = 0
        self.signature_length = 0
        self.stopped = False
        self.carry = ""
        self.parts: list[str] = []
        self._signature: list[str] = []
        self._own_lists: set[str] = set()

    @property
    def needs_clean_end(self) -> bool:
        """True for a tool call that may be incomplete: a call without arguments, or with free text.

        The text of such a call does not show that it is complete. The end of the model's answer, or the
        call's result, does.
        """
        content = self.content
        if self.block_type != "tool_use" or self.answered or content.get("provider_executed"):
            return False
        if "free_text" in content:
            return True
        return not content.get("input") and not any(map(str.strip, self.parts))

    @property
    def tool_use_id(self) -> str:
        """Id of the tool call that the block is, or answers. Empty if it has none."""
        return str(self.content.get("tool_use_id") or "")

    def append(self, text: str) -> None:
        """Add text."""
        self.parts.append(text)
        self.length += len(text)

    def sign(self, signature: str) -> None:
        """Add to the signature."""
        self._signature.append(signature)
        self.signature_length += len(signature)

    def grow(self, delta: BlockDelta) -> None:
        """Add what an event of this block brings."""
        if delta.field == "content":
            self.merge(delta.value)
        elif delta.field == "signature":
            self.sign(delta.value)
        else:
            self.append(delta.value)

    def merge(self, content: Content) -> None:
        """Merge a content delta into `content`."""
        merge_content(self.content, content, self._own_lists)

    def text(self) -> str:
        """Return the text so far."""
        if len(self.parts) > 1:
            self.parts = ["".join(self.parts)]
        return self.parts[0] if self.parts else ""

    def text_since(self, length: int) -> str:
        """Return the text after the first `length` characters.

        The time depends on the length of the result. Every `_PARTS` pieces, one call joins the whole text.
        """
        if len(self.parts) > _PARTS:
            return self.text()[length:]
        return _end_of(self.parts, self.length - length)

    def signature_since(self, length: int) -> str:
        """Return the signature after its first `length` characters."""
        if len(self._signature) > _PARTS:
            return self.signature[length:]
        return _end_of(self._signature, self.signature_length - length)

    @property
    def signature(self) -> str:
        """Signature so far."""
        if len(self._signature) > 1:
            self._signature = ["".join(self._signature)]
        return self._signature[0] if self._signature else ""

    def replace_content(self, content: Content) -> None:
        """Replace content and signature by `content`, which has the form that `shown_content` returns."""
        self.content = dict(content)
        self._own_lists.clear()
        signature = self.content.pop("signature", None)
        self._signature = []
        self.signature_length = 0
        if isinstance(signature, str) and signature:
            self.sign(signature)

    def content_now(self) -> Content:
        """Return `content` for an event or a catch-up. Its lists do not change when the block grows."""
        self._own_lists.clear()
        return self.content

    def shown_content(self) -> Content | None:
        """Return `content` with the signature so far, as a catch-up shows an open block."""
        content = self.content_now()
        if self._signature:
            return {**content, "signature": self.signature}
        return dict(content) if content else None

    def catchup(self) -> BlockCatchup:
        """Return a catch-up event with the whole open block so far."""
        return catchup_of(
            Block(self.sequence, self.block_type, self.text(), self.shown_content()), complete=False
        )

    def start_event(self) -> BlockStart:
        """Return the event that shows the block's start."""
        content = self.content_now()
        return BlockStart(self.sequence, self.block_type, dict(content) if content else None)

    def finish(self, *, partial: bool = False) -> Block:
        """Return the finished block. `partial`: the block was cut off."""
        text = self.text()
        content = self.shown_content()
        if self.block_type == "tool_use":
            content = finish_tool_use(content or {}, text)
            return Block(self.sequence, "tool_use", None, content, partial)
        has_text = bool(text) or self.block_type in ("text", "thinking")
        return Block(self.sequence, self.block_type, text if has_text else None, content, partial)


def _end_of(parts: list[str], count: int) -> str:
    """Return the last `count` characters of the joined `parts`."""
    surplus, place = -count, 0
    while surplus < 0:
        place -= 1
        surplus += len(parts[place])
    text = "".join(parts[place:]) if place else ""
    return text[surplus:] if surplus else text


def merge_content(content: Content, addition: Content, own_lists: set[str] | None = None) -> None:
    """Merge a content delta in place: extend lists, replace other values.

    Args:
        own_lists: Keys of lists in `content` that no other object shares. These lists grow in place. Any
            other list is copied once, and its key is added here. Code that hands out `content` clears the
            set. None: every list is copied.
    """
    for key, value in addition.items():
        old = content.get(key)
        if not (isinstance(old, list) and isinstance(value, list)):
            content[key] = value
            if own_lists:
                own_lists.discard(key)
        elif own_lists is not None and key in own_lists:
            cast("list[Any]", old).extend(cast("list[Any]", value))
        else:
            content[key] = [*old, *value]
            if own_lists is not None:
                own_lists.add(key)


def catchup_of(block: Block, *, complete: bool = True) -> BlockCatchup:
    """Return the catch-up event with the whole `block`."""
    content = block.content
    if block.block_type != "tool_use":
        return BlockCatchup(
            block.sequence, block.block_type, complete, block.text_content, None, content, block.partial
        )
    input_json = (content or {}).get("input_json", "") if complete else block.text_content
    return BlockCatchup(block.sequence, "tool_use", complete, None, input_json, content, block.partial)


def open_block_of(catchup: BlockCatchup) -> OpenBlock:
    """Return the open block that a catch-up shows. The block can grow."""
    block = OpenBlock(catchup.block_index, 0, catchup.block_type, None)
    block.replace_content(catchup.content or {})
    block.append(catchup.input_partial or catchup.accumulated_text or "")
    return block


def events_so_far(block: OpenBlock) -> list[TurnEvent]:
    """Return the events that show an open block from its beginning."""
    events: list[TurnEvent] = [block.start_event()]
    if block.length:
        events += text_events(block, block.field, block.text())
    if block.signature_length:
        events += text_events(block, "signature", block.signature)
    return events


def text_events(block: OpenBlock, field: DeltaField, text: str) -> list[BlockDelta]:
    """Return the events that add `text` to the block, each with at most DELTA_LENGTH characters."""
    sequence, block_type = block.sequence, block.block_type
    return [
        BlockDelta(sequence, block_type, field, text[start : start + DELTA_LENGTH])
        for start in range(0, len(text), DELTA_LENGTH)
    ]


def repair_surrogates(block: OpenBlock, text: str) -> str:
    """Join halves of a surrogate pair that came in two events. An unpaired half becomes U+FFFD."""
    text, block.carry = join_halves(block.carry + text)
    return text


def join_halves(text: str) -> tuple[str, str]:
    """Return `text` with surrogate pairs joined or replaced, and a half at its end that may be completed."""
    try:
        text.encode()  # nearly every text is valid, and this costs one call
    except UnicodeEncodeError:
        if "\ud800" <= text[-1] <= "\udbff":
            return repair_text(text[:-1]), text[-1]
        return repair_text(text), ""
    return text, ""


def flush_carry(block: OpenBlock) -> None:
    """Replace half of a surrogate pair at the block's end by U+FFFD."""
    block.carry = ""
    block.append("\ufffd")


SHORT_PIECE = 128
"""Characters up to which pieces of a chain are joined. A chain of single tokens would need much memory."""


class TextChain:
    """A text in pieces. Adding a piece makes a new chain that shares the earlier pieces.

    Chains compare by identity: the comparison of two states costs the same however long their texts are.

    Attributes:
        piece: The last piece.
        before: The chain of the earlier pieces, or None.
    """

    __slots__ = ("before", "piece")

    def __init__(self, piece: str, before: TextChain | None = None) -> None:
        self.piece = piece
        self.before = before

    def plus(self, piece: str) -> TextChain:
        """Return the chain with one more piece."""
        if len(self.piece) + len(piece) <= SHORT_PIECE:
            return TextChain(self.piece + piece, self.before)
        return TextChain(piece, self)

    def text(self) -> str:
        """Return the whole text."""
        pieces: list[str] = []
        chain: TextChain | None = self
        while chain is not None:
            pieces.append(chain.piece)
            chain = chain.before
        pieces.reverse()
        return "".join(pieces)
