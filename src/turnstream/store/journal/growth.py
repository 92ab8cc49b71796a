"""The growth of a block's content between two segments of the journal."""

from __future__ import annotations

from typing import Any, cast

from turnstream.core.blocks import Content

_NOTHING = object()


class ContentGrowth:
    """Tracks how much of a content has been written.

    Keeps the length and the last item of each list, and every other value as it is.
    """

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, Any]] = {}

    def begin(self, content: Content) -> None:
        """Mark all of `content` as written."""
        self._known = {key: _mark(value) for key, value in content.items()}

    def gained(self, content: Content) -> Content | None:
        """Return the difference between the written content and `content`, and mark it as written.

        Return None if merging cannot produce `content`, because a list has replaced another one.
        """
        known = self._known
        gained: Content = {}
        for key, value in content.items():
            length, last = known.get(key, (-1, _NOTHING))
            if not isinstance(value, list):
                if length >= 0 or value is not last:
                    gained[key] = value
            elif length < 0:
                gained[key] = value
            else:
                items = cast("list[Any]", value)
                if len(items) < length or (length and items[length - 1] is not last):
                    return None
                if len(items) > length:
                    gained[key] = items[length:]
        for key in gained:
            known[key] = _mark(content[key])
        return gained


def _mark(value: Any) -> tuple[int, Any]:
    """Return a list's length and last item, or -1 and the value if it is not a list."""
    if not isinstance(value, list):
        return -1, value
    items = cast("list[Any]", value)
    return len(items), items[-1] if items else None
