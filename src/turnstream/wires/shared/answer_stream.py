"""Base class of decoders for streamed answers: their common state, and how they fail and end."""

from __future__ import annotations

from typing import ClassVar, Literal

from turnstream.core.stream_events import StreamEvent, StreamNotice
from turnstream.errors import EventTooLarge, MalformedEvent, StreamBroken, StreamIncomplete
from turnstream.wires.base import DEFAULT_EVENT_LIMIT, Finish
from turnstream.wires.shared.endings import LateEvents, SecondAnswer
from turnstream.wires.shared.unframed_text import UnframedText


class AnswerStream:
    """Base of the decoders. See `wires.base.Decoder`. Each subclass has its own `feed`, which is the hot
    path.

    Attributes:
        _failure: The fault that every later call raises, or None.
        _is_over: True once the answer has ended, or the provider has reported an error.
        _failed: True if an error ended the answer.
    """

    END: ClassVar[str]
    """Name of the end marker, for the error message."""

    def __init__(
        self, *, event_limit: int = DEFAULT_EVENT_LIMIT, on_malformed: Literal["fail", "skip"] = "fail"
    ) -> None:
        self._event_limit = event_limit
        self._skips_malformed = on_malformed == "skip"
        self._unframed = UnframedText()
        self._failure: StreamBroken | None = None
        self._is_over = self._failed = False
        self._late = LateEvents()

    @property
    def finish(self) -> Finish | None:
        """See `Decoder.finish`. None by default: most wires give no reason before their end marker."""
        return None

    def end(self) -> list[StreamEvent]:
        """See `Decoder.end`."""
        return self.close()

    def close(self) -> list[StreamEvent]:
        """See `Decoder.close`."""
        if self._failure is not None:
            raise self._failure
        events: list[StreamEvent] = []
        self._take_rest(events)
        if not self._is_over:
            words = self._unframed.words or None
            raise StreamIncomplete(f"the stream ended without {self.END}", detail=words)
        return events

    def _take_rest(self, events: list[StreamEvent]) -> None:
        """Append the events of the unread rest of the body. A cut event in it does not fail the answer."""
        raise NotImplementedError

    def _refuse(self, failure: MalformedEvent, events: list[StreamEvent]) -> None:
        """Raise `failure`.

        If it is a malformed event, and such events are skipped, append a notice instead.
        """
        if not self._skips_malformed or isinstance(failure, EventTooLarge | SecondAnswer):
            raise failure
        events.append(StreamNotice(failure.code, failure.message))
