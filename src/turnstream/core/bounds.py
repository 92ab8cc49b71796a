"""Bounds on the answer of one model call, and the charges that count against them.

Text counts by its characters, content and metadata by the bytes of their JSON. Every block costs memory and
work, and a tool call costs more. So each block beyond the few of an ordinary answer has a charge in addition
to its content.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from turnstream.core.admission import TOO_DEEP, encodes_deeper
from turnstream.core.blocks import BlockType, Content
from turnstream.errors import MalformedEvent, StreamBroken
from turnstream.limits import NESTING_LIMIT

DEFAULT_MAX_LENGTH: Final = 32 * 1024 * 1024
"""Characters that one model call may answer. A longer answer ends with the error `answer_too_large`."""
BLOCK_CHARGE: Final = 512
"""Characters that a block counts, open or closed, in addition to its content."""
CALL_CHARGE: Final = 256
"""Characters that a tool call counts in addition to its block's charge."""
FREE_BLOCKS: Final = 256
"""Blocks of a model call that have no charge."""

_encode = msgspec.json.Encoder().encode


def charge_of(block_type: BlockType) -> int:
    """Return the characters that a block counts in addition to its content."""
    return BLOCK_CHARGE + CALL_CHARGE if block_type == "tool_use" else BLOCK_CHARGE


def content_size(content: Content) -> int:
    """Return the bytes of the content's JSON.

    Raises MalformedEvent if the content cannot be encoded as JSON, or if one of its values nests too deeply.
    """
    try:
        encoded = _encode(content)
        if encodes_deeper(encoded, content, NESTING_LIMIT + 1):
            raise ValueError(TOO_DEEP)
        return len(encoded)
    except (TypeError, ValueError, RecursionError) as error:
        raise MalformedEvent(
            f"a block's content cannot be written as JSON: {error}", retryable=False
        ) from None


def _size_of(value: Any) -> int:
    try:
        return len(_encode(value))
    except (TypeError, ValueError, RecursionError):
        return BLOCK_CHARGE  # not JSON, so it cannot be sent


def too_large(limit: int) -> StreamBroken:
    """Return the error that ends an answer beyond its limit."""
    return StreamBroken(f"the answer grew past {limit} characters", code="answer_too_large", retryable=False)


class MergedObjects:
    """Objects merged key by key. The cost of a merge depends only on the new object.

    `size` is the sum, over all keys, of the largest number of bytes that the key and its value have had.
    """

    __slots__ = ("_sizes", "_values", "_view", "size")

    def __init__(self) -> None:
        self.size = 0
        self._values: dict[str, Any] = {}
        self._sizes: dict[str, int] = {}
        self._view: dict[str, Any] | None = None

    def add(self, values: dict[str, Any], *, drops_null: bool = False) -> int:
        """Merge `values`. Return the growth of `size`. If `drops_null`, a None removes the earlier value."""
        self._view = None
        before = self.size
        for key, value in values.items():
            if drops_null and value is None and key in self._values:
                del self._values[key]
                continue
            known = self._sizes.get(key)
            if known is None or not (value is None or isinstance(value, int | float)):
                size = len(key) + _size_of(value)
                self.size += max(0, size - (known or 0))
                self._sizes[key] = max(size, known or 0)
            self._values[key] = value
        return self.size - before

    def view(self) -> dict[str, Any]:
        """Return the merged object. Later merges do not change it."""
        if self._view is None:
            self._view = dict(self._values)
        return self._view
