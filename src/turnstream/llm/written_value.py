"""Finds a typed value in an answer: in the text of the last message, or in the arguments of a tool."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from turnstream.core.blocks import Block, Content
from turnstream.llm.message_fold import MessageFold
from turnstream.llm.model_message import OUTPUT_TOOL
from turnstream.wires.openai_responses.items import own_metadata

_COMMENTARY = "commentary"


class ValuePlace(NamedTuple):
    """The text that holds the value. It is joined only when it is read.

    Attributes:
        length: Characters of the text.
        blocks: Finished blocks of the text.
        open_text: Returns the text of the open block. None if there is none.
    """

    length: int = 0
    blocks: Sequence[Block] = ()
    open_text: Callable[[], str] | None = None

    def text(self) -> str:
        """Return the text, joined."""
        return "".join([*map(_text_of, self.blocks), self.open_text() if self.open_text is not None else ""])


class _MessageIdentity(NamedTuple):
    """Identity of the message that a text belongs to, if the provider gives one."""

    item_id: str = ""
    phase: str = ""

    @classmethod
    def of(cls, content: Content | None) -> _MessageIdentity:
        """Return the identity in a block's content."""
        own = own_metadata(content)
        return cls(str(own.get("id") or ""), str(own.get("phase") or ""))

    def is_same(self, other: _MessageIdentity) -> bool:
        """Return True if both texts belong to the same message."""
        return self.item_id == other.item_id if self.item_id or other.item_id else self.phase == other.phase


class WrittenValue:
    """Finds the value in an answer that grows. Each block is examined once.

    The value is the text after the last result of a tool. If the provider separates messages, it is the last
    message, without commentary.

    Args:
        as_tool: The value is the arguments of OUTPUT_TOOL instead, if the model called it.
    """

    def __init__(self, fold: MessageFold, *, as_tool: bool) -> None:
        self._fold = fold
        self._as_tool = as_tool
        self._forget()

    def position(self) -> ValuePlace:
        """Return the place of the value so far."""
        self._scan_new_blocks()
        shown = self._fold.accumulator.shown
        if self._as_tool and shown is not None and shown.content.get("tool_name") == OUTPUT_TOOL:
            return ValuePlace(shown.length, (), shown.text)
        if self._call is not None:
            return ValuePlace(len(_text_of(self._call)), (self._call,))
        if shown is None or shown.block_type != "text":
            return ValuePlace() if self._said.phase == _COMMENTARY else ValuePlace(self._length, self._texts)
        said = _MessageIdentity.of(shown.content)
        if said.phase == _COMMENTARY:
            return ValuePlace()
        if self._texts and not said.is_same(self._said):
            return ValuePlace(shown.length, (), shown.text)
        return ValuePlace(self._length + shown.length, self._texts, shown.text)

    def _scan_new_blocks(self) -> None:
        if self._fold.blocks is not self._blocks:  # some blocks were retracted
            self._forget()
        for block in self._blocks[self._seen :]:
            self._scan_block(block)
        self._seen = len(self._blocks)

    def _scan_block(self, block: Block) -> None:
        if self._as_tool and (block.content or {}).get("tool_name") == OUTPUT_TOOL:
            self._call = block
        if block.block_type not in ("text", "tool_result"):
            return
        said = _MessageIdentity.of(block.content)
        if block.block_type == "tool_result" or not said.is_same(self._said):
            self._texts, self._length = [], 0
        if block.block_type == "text":
            self._said = said
            self._texts.append(block)
            self._length += len(block.text_content or "")

    def _forget(self) -> None:
        self._blocks = self._fold.blocks
        self._seen = 0
        self._said = _MessageIdentity()
        self._texts: list[Block] = []
        self._length = 0
        self._call: Block | None = None


def _text_of(block: Block) -> str:
    if block.block_type == "tool_use":
        text = str((block.content or {}).get("input_json") or "")
        return text if block.partial or text.strip() else "{}"
    return block.text_content or ""
