"""Base class of encoders for streamed answers: names, usage and the end of the answer."""

from __future__ import annotations

from turnstream.core.stream_events import MessageStart, MessageStop, Metadata
from turnstream.core.usage import Usage
from turnstream.wires.shared.json_values import JsonObject


class AnswerWriter:
    """Base of the encoders. `model` and `message_id` are defaults for a message start without them."""

    def __init__(self, *, model: str, message_id: str) -> None:
        self._model = model
        self._message_id = message_id
        self._stop: MessageStop | None = None
        self._failed = False
        self._usage: Usage | None = None
        self._raw_usage: JsonObject | None = None

    def _take_names(self, event: MessageStart) -> None:
        self._message_id = event.id or self._message_id
        self._model = event.model or self._model

    def _count(self, event: Metadata) -> None:
        if event.usage is not None:
            self._usage = (self._usage or Usage()).updated(event.usage)
        if event.raw is not None:
            self._raw_usage = {**(self._raw_usage or {}), **event.raw}
