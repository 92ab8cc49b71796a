"""Growth of a block's content, so that the journal need not write all of it again."""

from __future__ import annotations

from typing import Any, cast

from turnstream.core.blocks import Content

_NOTHING = object()


class ContentGrowth:
    """Remembers how far a content has been written: of lists the length and the last item, of other values which they
    were."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, Any]] = {}

    def begin(self, content: Content) -> None:
        """Take all of `content` as written."""
        self._known = {key: _mark(value) for key, value in content.items()}

    def gained(self, content: Content) -> Content | None:
        """Return what merges the content that was written into `content`, and take that as written. None if merging
        cannot do it: a list took the place of another one."""
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
    """Return a list's length and last item; for another value -1 and the value."""
    if not isinstance(value, list):
        return -1, value
    items = cast("list[Any]", value)
    return len(items), items[-1] if items else None
