"""Events after the end of an answer, which do not belong to it and do not fail it; and a second answer before that end."""

from __future__ import annotations

from turnstream.core.stream_events import StreamNotice
from turnstream.errors import MalformedEvent

AFTER_END = StreamNotice("after_end", "the provider sent more after the end of its answer; it is left out")


class SecondAnswer(MalformedEvent):
    """Another answer begins before the first has ended. To skip this would make one answer of two."""

    def __init__(self) -> None:
        super().__init__("a second answer begins before the first has ended")


class LateEvents:
    """Gives one notice for all that comes after the end."""

    __slots__ = ("_is_told",)

    def __init__(self) -> None:
        self._is_told = False

    def notice(self) -> list[StreamNotice]:
        """Return the notice for an event that is left out; nothing if it was given before."""
        if self._is_told:
            return []
        self._is_told = True
        return [AFTER_END]
