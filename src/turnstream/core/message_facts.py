"""Facts about one model call that do not belong to a block: its ids, its end, its usage."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

from turnstream.core.bounds import MergedObjects
from turnstream.core.origin import Origin
from turnstream.core.stream_events import (
    MessageStart,
    MessageStop,
    Metadata,
    RedactContent,
    StreamError,
    StreamNotice,
)
from turnstream.core.turn_events import Notice
from turnstream.core.usage import Usage

MAX_NOTICES = 32
"""Notices of one model call that are kept at most."""
_CLEAN_ENDS = frozenset({"tool_use", "end_turn", "stop_sequence"})

Fact: TypeAlias = MessageStart | MessageStop | Metadata | RedactContent | StreamError | StreamNotice


class Statistics(NamedTuple):
    """Counts of the folded events. Times are seconds of the clock that was passed to `fold`.

    Attributes:
        chunks: Number of text deltas.
        length: Characters of text.
        started_at: Time of the first fold, or None.
        updated_at: Time of the last fold, or None.
        complete: True if the end marker came.
    """

    chunks: int
    length: int
    started_at: float | None
    updated_at: float | None
    complete: bool

    @property
    def duration(self) -> float:
        """Seconds between the first and the last fold, or 0.0."""
        return (
            0.0 if self.started_at is None or self.updated_at is None else self.updated_at - self.started_at
        )


def is_clean_end(stop: MessageStop | None) -> bool:
    """Return True if the end marker says that the model finished. False without a marker or a reason."""
    return stop is not None and stop.stop_reason in _CLEAN_ENDS


class MessageFacts:
    """The facts of one model call that the provider has sent so far."""

    def __init__(self) -> None:
        self.message_id: str | None = None
        self.model: str | None = None
        self.stop: MessageStop | None = None
        self.error: StreamError | None = None
        self.usage = Usage()
        self.latency_ms: float | None = None
        self.trace: Any = None
        self.notices: list[Notice] = []
        """Notices of the stream, at most MAX_NOTICES. The owner shows them."""
        self.is_redacted = False
        """True once the provider has retracted the answer. The content that follows does not count."""
        self.user_replacement: str | None = None
        """Text that replaces the user's message, or None if the provider has not redacted it."""
        self.metadata_size = 0
        """Bytes of the usage and the metadata, in the provider's own words, of all calls so far."""
        self._origin: Origin | None = None
        self._raw_usage: MergedObjects | None = None
        self._provider_metadata: MergedObjects | None = None

    @property
    def raw_usage(self) -> dict[str, Any] | None:
        """Usage in the provider's own fields, or None."""
        return None if self._raw_usage is None else self._raw_usage.view()

    @property
    def provider_metadata(self) -> dict[str, Any] | None:
        """Other facts that the provider sent about the message as a whole, or None."""
        return None if self._provider_metadata is None else self._provider_metadata.view()

    def note(self, event: Fact) -> None:
        """Record one event that does not belong to a block."""
        match event:
            case MessageStart():
                self.message_id = event.id or self.message_id
                self.model = event.model or self.model
                self._origin = event.origin or self._origin
            case MessageStop():
                self.stop = event
            case Metadata():
                self._note_metadata(event)
            case StreamNotice():
                self._notify(event.code, event.message)
            case RedactContent():
                if event.side == "assistant":
                    self.is_redacted = True
                else:
                    self.user_replacement = event.replacement
                self._notify("content_redacted", f"the provider redacted {event.side} content")
            case StreamError():
                self.error = self.error or event

    def forget_call(self) -> None:
        """Discard the end, the error and the usage, because another call replaces this one."""
        self.stop = None
        self.error = None
        self.is_redacted = False
        self.usage = Usage()
        self._raw_usage = None

    def _notify(self, code: str, message: str) -> None:
        if len(self.notices) < MAX_NOTICES:
            self.notices.append(Notice(code, message))

    def _note_metadata(self, event: Metadata) -> None:
        if event.usage is not None:
            self.usage = self.usage.updated(event.usage)
        if event.raw is not None:
            self._raw_usage = self._raw_usage or MergedObjects()
            self.metadata_size += self._raw_usage.add(event.raw, drops_null=True)
        if event.latency_ms is not None:
            self.latency_ms = event.latency_ms
        if event.trace is not None:
            self.trace = event.trace
        if event.provider_metadata is not None:
            self._provider_metadata = self._provider_metadata or MergedObjects()
            self.metadata_size += self._provider_metadata.add(event.provider_metadata)
