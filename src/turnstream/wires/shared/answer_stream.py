"""State that every decoder of a streamed answer has, and its ways to fail and to end."""

from __future__ import annotations

from typing import ClassVar, Literal

from turnstream.core.stream_events import StreamEvent, StreamNotice
from turnstream.errors import EventTooLarge, MalformedEvent, StreamBroken, StreamIncomplete
from turnstream.wires.base import DEFAULT_EVENT_LIMIT, Finish
from turnstream.wires.shared.endings import LateEvents, SecondAnswer
from turnstream.wires.shared.unframed_text import UnframedText


class AnswerStream:
    """Base of the decoders; see `wires.base.Decoder`. Each has its own `feed`, since that is the hot path.

    _failure: The fault that was found, which every later call raises.
    _over: True once the answer has ended, or the provider has reported an error. `_failed`: it is an error.
    """

    END: ClassVar[str]
    """Words for the end marker."""

    def __init__(
        self, *, event_limit: int = DEFAULT_EVENT_LIMIT, on_malformed: Literal["fail", "skip"] = "fail"
    ) -> None:
        self._event_limit = event_limit
        self._skips_malformed = on_malformed == "skip"
        self._unframed = UnframedText()
        self._failure: StreamBroken | None = None
        self._over = self._failed = False
        self._late = LateEvents()

    @property
    def finish(self) -> Finish | None:
        """As `Decoder.finish`. None, unless a wire says why an answer ended before its end marker."""
        return None

    def end(self) -> list[StreamEvent]:
        """As `Decoder.end`."""
        return self.close()

    def close(self) -> list[StreamEvent]:
        """As `Decoder.close`."""
        if self._failure is not None:
            raise self._failure
        events: list[StreamEvent] = []
        self._take_rest(events)
        if not self._over:
            words = self._unframed.words or None
            raise StreamIncomplete(f"the stream ended without {self.END}", detail=words)
        return events

    def _take_rest(self, events: list[StreamEvent]) -> None:
        """Add the events of what is left of the body. One that was cut does not fail the answer."""
        raise NotImplementedError

    def _refuse(self, failure: MalformedEvent, events: list[StreamEvent]) -> None:
        """Raise `failure`, or tell it as a notice if malformed events are skipped and it can be."""
        if not self._skips_malformed or isinstance(failure, EventTooLarge | SecondAnswer):
            raise failure
        events.append(StreamNotice(failure.code, failure.message))
