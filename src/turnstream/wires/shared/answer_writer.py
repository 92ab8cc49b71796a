"""State that encoders of streamed answers have: what the answer is called, what was counted, how it ended."""

from __future__ import annotations

from turnstream.core.stream_events import MessageStart, MessageStop, Metadata
from turnstream.core.usage import Usage
from turnstream.wires.shared.json_values import JsonObject


class AnswerWriter:
    """Base of encoders. `model` and `message_id` stand where the message's start brings none."""

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
