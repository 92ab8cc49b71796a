"""Builds a message from events or a provider's bytes, without a model call."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

from turnstream.core.accumulator import Statistics
from turnstream.core.identifiers import new_id
from turnstream.core.stream_events import StreamEvent
from turnstream.core.turn_events import TurnEvent
from turnstream.core.usage import Usage
from turnstream.errors import ConfigurationError, ProviderError
from turnstream.llm.message_fold import MessageFold
from turnstream.llm.model_message import MessageStep, ModelMessage, ToolCall
from turnstream.providers.failures import stream_error
from turnstream.wires import WIRES
from turnstream.wires.base import rest_of


class MessageAssembler:
    """Builds the message of one model call.

        assembler = MessageAssembler(wire="anthropic")
        for data in response:
            for event in assembler.feed_bytes(data):
                ...
        assembler.close()
        print(assembler.current_message.text)

    Feed it StreamEvents, or the bytes of a provider's answer, split anywhere. Several threads may use it.

    Args:
        wire: Name of the provider's wire, for bytes. None for events.
    """

    def __init__(self, wire: str | None = None) -> None:
        self._lock = threading.RLock()
        self._fold = MessageFold()
        self._id = new_id()
        if wire is not None and wire not in WIRES:
            raise ConfigurationError(f"no wire {wire!r}; choose one of {', '.join(WIRES)}")
        self._decoder = WIRES[wire].decoder() if wire is not None else None

    def feed(self, *events: StreamEvent) -> list[TurnEvent]:
        """Fold the next events of an answer, and return the events that show them.

        Raises StreamBroken if the answer is too large, and the error that the provider reports in the stream.
        """
        with self._lock:
            return self._take(events)

    def feed_bytes(self, data: bytes) -> list[TurnEvent]:
        """Fold the next bytes of a provider's answer. Raises as `feed`, and MalformedEvent."""
        if self._decoder is None:
            raise TypeError("the wire of these bytes is not known: give MessageAssembler(wire=…)")
        with self._lock:
            return self._take(self._decoder.feed(data))

    def close(self) -> list[TurnEvent]:
        """End the answer, and return the remaining events.

        Blocks that were never stopped are complete if the answer is complete. Otherwise they are `partial`.
        Raises StreamIncomplete if bytes were fed and the answer's end is missing. The message is kept.
        """
        with self._lock:
            shown: list[TurnEvent] = []
            try:
                if self._decoder is not None:
                    events, incomplete = rest_of(self._decoder)
                    shown += self._take(events)
                    if incomplete is not None:
                        raise incomplete
            finally:
                shown += self._fold.end_call() if self.is_complete else self._fold.cut()
            return shown

    @property
    def is_complete(self) -> bool:
        """True if the model's end marker has come, without an error."""
        with self._lock:
            accumulator = self._fold.accumulator
            return accumulator.stop is not None and accumulator.error is None

    @property
    def current_message(self) -> ModelMessage[Any]:
        """The message so far."""
        with self._lock:
            accumulator = self._fold.accumulator
            step = MessageStep.of(0, None, accumulator)
            return ModelMessage(
                self._id,
                accumulator.model or "",
                blocks=self._fold.snapshot(),
                complete=self.is_complete,
                stop_reason=step.stop_reason,
                usage=accumulator.usage,
                steps=(step,),
                user_replacement=accumulator.user_replacement,
            )

    @property
    def last_tool_call(self) -> ToolCall | None:
        """The last tool call so far, or None. Its `arguments` are None until it is complete."""
        with self._lock:
            calls = [block for block in self._fold.snapshot() if block.block_type == "tool_use"]
            return ToolCall.of(calls[-1]) if calls else None

    @property
    def usage(self) -> Usage:
        """Token counts that the provider has reported so far."""
        with self._lock:
            return self._fold.accumulator.usage

    @property
    def statistics(self) -> Statistics:
        """Counts of pieces and characters so far, and their times, in seconds of `time.monotonic`."""
        with self._lock:
            return self._fold.accumulator.statistics

    def _take(self, events: Sequence[StreamEvent]) -> list[TurnEvent]:
        shown = self._fold.fold(events, time.monotonic())
        error = self._fold.accumulator.error
        if error is not None:
            raise self._reported(stream_error(error))
        return shown

    def _reported(self, error: ProviderError) -> ProviderError:
        error.partial = self.current_message
        return error
