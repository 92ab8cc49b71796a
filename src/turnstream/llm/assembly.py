"""A message put together by hand: events or a provider's bytes in, the message out."""

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
    """Put one model call's answer together.

        assembler = MessageAssembler(wire="anthropic")
        for data in response:
            for event in assembler.feed_bytes(data):
                ...
        assembler.close()
        print(assembler.current_message.text)

    Feed it StreamEvents, or with `wire` the bytes of a provider's answer, cut anywhere. Several threads may feed and ask.
    """

    def __init__(self, wire: str | None = None) -> None:
        self._lock = threading.RLock()
        self._fold = MessageFold()
        self._id = new_id()
        if wire is not None and wire not in WIRES:
            raise ConfigurationError(f"no wire {wire!r}; there are {', '.join(WIRES)}")
        self._decoder = WIRES[wire].decoder() if wire is not None else None

    def feed(self, *events: StreamEvent) -> list[TurnEvent]:
        """Take what a model said next: what to show for it. Raises StreamBroken where the answer is too large, and the error
        that the provider reports within it."""
        with self._lock:
            return self._take(events)

    def feed_bytes(self, data: bytes) -> list[TurnEvent]:
        """Take the next bytes of a provider's answer. Raises as `feed`, and MalformedEvent."""
        if self._decoder is None:
            raise TypeError("these are bytes of which wire? Give MessageAssembler(wire=…)")
        with self._lock:
            return self._take(self._decoder.feed(data))

    def close(self) -> list[TurnEvent]:
        """The answer is over: what is still to be shown. Blocks that were never stopped are whole if the answer is, and else
        `partial`. Of bytes, raises StreamIncomplete where the end is missing; what came is kept all the same."""
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
        """The model's end marker has come, and no error."""
        with self._lock:
            accumulator = self._fold.accumulator
            return accumulator.stop is not None and accumulator.error is None

    @property
    def current_message(self) -> ModelMessage[Any]:
        """The message as far as it has come."""
        with self._lock:
            accumulator = self._fold.accumulator
            reason = accumulator.stop.stop_reason if accumulator.stop is not None else None
            step = MessageStep(
                0,
                None,
                accumulator.model,
                accumulator.message_id,
                reason,
                accumulator.usage,
                raw_usage=accumulator.raw_usage,
            )
            return ModelMessage(
                self._id,
                accumulator.model or "",
                blocks=self._fold.snapshot(),
                complete=self.is_complete,
                stop_reason=reason,
                usage=accumulator.usage,
                steps=(step,),
            )

    @property
    def last_tool_call(self) -> ToolCall | None:
        """The last call of a tool, whole or not: while its arguments come, they are None."""
        with self._lock:
            calls = [block for block in self._fold.snapshot() if block.block_type == "tool_use"]
            return ToolCall.of(calls[-1]) if calls else None

    @property
    def usage(self) -> Usage:
        """What the provider has said of the tokens used."""
        with self._lock:
            return self._fold.accumulator.usage

    @property
    def statistics(self) -> Statistics:
        """Pieces and characters so far, and when they came, in seconds of `time.monotonic`."""
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
