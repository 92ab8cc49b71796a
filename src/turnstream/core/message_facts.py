"""Facts about one model call that belong to no block: its ids, its end, what it used."""

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
_CLEAN_ENDS = frozenset({"tool_use", "end_turn", "stop_sequence"})

Fact: TypeAlias = MessageStart | MessageStop | Metadata | RedactContent | StreamError | StreamNotice


class Statistics(NamedTuple):
    """Counts of what has been folded. Times are seconds of the clock that was passed to `fold`."""

    chunks: int
    length: int
    started_at: float | None
    updated_at: float | None
    complete: bool

    @property
    def duration(self) -> float:
        return (
            0.0 if self.started_at is None or self.updated_at is None else self.updated_at - self.started_at
        )


def is_clean_end(stop: MessageStop | None) -> bool:
    """Return True if the end marker says that the model had said all it wanted. False without a marker, or a reason."""
    return stop is not None and stop.stop_reason in _CLEAN_ENDS


class MessageFacts:
    """The facts of one model call, as far as the provider has told them."""

    def __init__(self) -> None:
        self.message_id: str | None = None
        self.model: str | None = None
        self.stop: MessageStop | None = None
        self.error: StreamError | None = None
        self.usage = Usage()
        self.latency_ms: float | None = None
        self.trace: Any = None
        self.notices: list[Notice] = []
        """Notices of the stream, at most MAX_NOTICES; the owner shows them."""
        self._origin: Origin | None = None
        self._raw_usage: MergedObjects | None = None
        self._provider_metadata: MergedObjects | None = None

    @property
    def raw_usage(self) -> dict[str, Any] | None:
        """Usage in the provider's own words."""
        return None if self._raw_usage is None else self._raw_usage.view()

    @property
    def provider_metadata(self) -> dict[str, Any] | None:
        """Other facts that the provider told about the message as a whole."""
        return None if self._provider_metadata is None else self._provider_metadata.view()

    @property
    def metadata_size(self) -> int:
        """Bytes of the usage and the metadata in the provider's own words."""
        return sum(merged.size for merged in (self._raw_usage, self._provider_metadata) if merged is not None)

    def note(self, event: Fact) -> None:
        """Take one event that belongs to no block."""
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
                self._notify("content_redacted", f"the provider redacted {event.side} content")
            case StreamError():
                self.error = self.error or event

    def forget_call(self) -> None:
        """Forget the end, the error and the usage: another call takes the place of this one."""
        self.stop = None
        self.error = None
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
            self._raw_usage.add(event.raw, drops_null=True)
        if event.latency_ms is not None:
            self.latency_ms = event.latency_ms
        if event.trace is not None:
            self.trace = event.trace
        if event.provider_metadata is not None:
            self._provider_metadata = self._provider_metadata or MergedObjects()
            self._provider_metadata.add(event.provider_metadata)
