"""A block's content in parts: content deltas that merge to the whole, each small unless a value is large."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import msgspec

from turnstream.core.blocks import Content

PART_BYTES = 32 * 1024
"""Bytes of JSON that a part has at most, unless it holds a single value that is larger."""

_encode = msgspec.json.Encoder().encode


def content_parts(content: Content) -> list[Content]:
    """Return objects that merge to `content` when applied in order.

    Merging extends a list, and replaces any other value. Keys with small values come first, so that the first
    part identifies the block.
    """
    sizes = {key: len(_encode(value)) + len(key) for key, value in content.items()}
    if sum(sizes.values()) <= PART_BYTES:
        return [content] if content else []
    parts: list[Content] = [{}]
    room = PART_BYTES
    for key in sorted(content, key=sizes.__getitem__):
        for value, size in _slices(content[key], sizes[key]):
            if size > room and parts[-1]:
                parts.append({})
                room = PART_BYTES
            parts[-1][key] = value
            room -= size
    return parts


def _slices(value: Any, size: int) -> Iterator[tuple[Any, int]]:
    """Yield `value` with its size, or runs of its items with their sizes if it is a large list."""
    if size <= PART_BYTES or not isinstance(value, list) or not value:
        yield value, size
        return
    run: list[Any] = []
    length = 0
    for item in cast("list[Any]", value):
        item_size = len(_encode(item)) + 1
        if run and length + item_size > PART_BYTES:
            yield run, PART_BYTES
            run, length = [], 0
        run.append(item)
        length += item_size
    yield run, PART_BYTES
