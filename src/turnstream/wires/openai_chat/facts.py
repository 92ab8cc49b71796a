"""Collects facts about a whole answer from chat.completions chunks: its id, usage, sources, and
vendor-specific fields."""

from __future__ import annotations

from typing import Any

from turnstream.core.stream_events import MessageStart, Metadata, StreamEvent
from turnstream.wires.openai_chat.chunks import Chunk, leftovers
from turnstream.wires.openai_chat.content_filters import withdraws
from turnstream.wires.openai_chat.stop_reasons import is_known
from turnstream.wires.openai_chat.usage import read_usage
from turnstream.wires.shared.endings import withdrawn_answer
from turnstream.wires.shared.json_values import JsonObject, is_list, is_object, read_json

_EMPTY_LISTS = (b"", b"null", b"[]")


class AnswerFacts:
    """The facts of one answer. `message_id` is the id of the message that is being decoded."""

    def __init__(self) -> None:
        self.started = False
        self.message_id = ""
        self.stop_sequence: str | None = None
        self._last_sources = b""
        self._usage: JsonObject | None = None
        self._is_withdrawn = False
        self._extra: JsonObject = {}

    def take_leftovers(self, chunk: Chunk, value: JsonObject, events: list[StreamEvent]) -> None:
        """Append the start of the message, and metadata for vendor-specific fields of its first and last
        chunks."""
        if not self.started and (chunk.id or chunk.choices):
            self.started = True
            self.message_id = chunk.id or ""
            events.append(MessageStart(chunk.id or None, chunk.model or None))
        found = leftovers(value)
        for key in ("stop_reason", "matched_stop"):
            sequence = found.get(key)
            if isinstance(sequence, str) and not is_known(sequence):
                self.stop_sequence = found.pop(key)
        if new := {key: item for key, item in found.items() if self._extra.get(key) != item}:
            self._extra |= new
            events.append(Metadata(provider_metadata=new))

    def take_filters(self, value: JsonObject, index: int, events: list[StreamEvent]) -> None:
        """Append the redaction of choice `index`, once, if an event withdraws its text."""
        if not self._is_withdrawn and withdraws(value, index):
            self._is_withdrawn = True
            events.append(withdrawn_answer())

    def take_usage(self, chunk: Chunk, events: list[StreamEvent]) -> None:
        """Append the usage that a chunk reports."""
        if chunk.usage:
            self.report_usage(chunk.usage, events)
        if chunk.x_groq and is_object(usage := chunk.x_groq.get("usage")):
            self.report_usage(usage, events)

    def report_usage(self, raw: JsonObject, events: list[StreamEvent]) -> None:
        """Append the usage if it has changed. Any chunk may report usage, and each report is cumulative."""
        if raw != self._usage:
            self._usage = raw
            events.append(Metadata(read_usage(raw), raw))

    def new_sources(self, chunk: Chunk) -> list[Any]:
        """Return the new sources of a chunk as citations. Search vendors repeat the list in every chunk."""
        sources = bytes(chunk.search_results)
        if sources in _EMPTY_LISTS:
            sources = bytes(chunk.citations)
        if sources in _EMPTY_LISTS or sources == self._last_sources:
            return []
        self._last_sources = sources
        value = read_json(sources)
        return [{"url": item} if isinstance(item, str) else item for item in value] if is_list(value) else []
