"""Functions that are called with the events of a stream."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from turnstream.core.turn_events import TurnEvent
from turnstream.core.usage import Usage
from turnstream.llm.live_answer import LiveAnswer
from turnstream.llm.metrics import StreamMetrics
from turnstream.llm.model_message import ModelMessage
from turnstream.llm.readers import EventsReader, Throttle

logger = logging.getLogger(__name__)

CALLBACK_SECONDS = 10.0
"""Seconds that callbacks may still run after the stream has ended."""

_CallbackResult: TypeAlias = Awaitable[object] | object


class Batching(NamedTuple):
    """Passes events to `on_events` together.

    Attributes:
        max_events: Largest number of events of a call. If as many wait, `on_events` is called at once.
        interval: Seconds between calls, unless `max_events` is reached earlier.
    """

    max_events: int = 10
    interval: float = 0.05


@dataclass(frozen=True, slots=True)
class Callbacks:
    """Functions to call, sync or async. They run in the stream's event loop, one after another, in order.

    A function that raises is logged. A slow function does not delay the stream: waiting deltas are joined.
    After the stream has ended, the functions have 10 s to finish.

    Attributes:
        on_start: Called as `on_start(stream_id)`.
        on_event: Called as `on_event(event)`.
        on_events: Called as `on_events(events)`, with several events.
        on_complete: Called as `on_complete(message, usage, metrics)` if the message is complete.
        on_error: Called as `on_error(error)` if the message is not complete.
        batching: Limits how often `on_events` is called, and how many events it gets. `on_event` gets the
            same events, one by one. None: as soon as there are events.
    """

    on_start: Callable[[str], _CallbackResult] | None = None
    on_event: Callable[[TurnEvent], _CallbackResult] | None = None
    on_events: Callable[[Sequence[TurnEvent]], _CallbackResult] | None = None
    on_complete: Callable[[ModelMessage[Any], Usage, StreamMetrics], _CallbackResult] | None = None
    on_error: Callable[[BaseException], _CallbackResult] | None = None
    batching: Batching | None = None


class Caller:
    """Calls the callbacks of one stream, in a separate task."""

    def __init__(self, callbacks: Callbacks, stream_id: str, live: LiveAnswer) -> None:
        self._callbacks = callbacks
        self._stream_id = stream_id
        self._live = live
        self._task: asyncio.Task[None] | None = None

    def start(self, ending: Callable[[], tuple[ModelMessage[Any], StreamMetrics]]) -> None:
        """Start the task.

        Args:
            ending: Returns the arguments of `on_complete`, or raises the error for `on_error`.
        """
        if self._callbacks == Callbacks():
            return
        name = f"callbacks of stream {self._stream_id}"
        self._task = asyncio.get_running_loop().create_task(self._run(ending), name=name)

    async def finish(self) -> None:
        """Wait until all callbacks have been called. Cancel them after CALLBACK_SECONDS."""
        task = self._task
        if task is None:
            return
        try:
            done, _ = await asyncio.wait({task}, timeout=CALLBACK_SECONDS)
        finally:
            task.cancel()
        if not done:
            logger.warning("stream %s: its callbacks did not end, and were cancelled", self._stream_id)
            await asyncio.wait({task}, timeout=1.0)

    def cancel(self) -> None:
        """Call no more callbacks."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self, ending: Callable[[], tuple[ModelMessage[Any], StreamMetrics]]) -> None:
        told = self._callbacks
        await self._call(told.on_start, self._stream_id)
        await self._deliver_events()
        await self._live.ended.wait()
        try:
            self._live.raise_error()
            message, metrics = ending()
        except BaseException as error:  # noqa: BLE001 - the error is for `on_error`, not for this task
            await self._call(told.on_error, error)
        else:
            await self._call(told.on_complete, message, message.usage, metrics)

    async def _deliver_events(self) -> None:
        told = self._callbacks
        if told.on_event is None and told.on_events is None:
            return
        batching = told.batching
        pace = Throttle(batching.interval, batching.max_events) if batching is not None else None
        reader = EventsReader(self._live, pace)
        try:
            async for events in reader:
                if told.on_event is not None:
                    for event in events:
                        await self._call(told.on_event, event)
                size = len(events) if batching is None else max(batching.max_events, 1)
                for first in range(0, len(events), size):
                    await self._call(told.on_events, events[first : first + size])
        except Exception as error:
            if error is not self._live.error:
                raise

    async def _call(self, function: Callable[..., _CallbackResult] | None, *arguments: Any) -> None:
        if function is None:
            return
        try:
            result = function(*arguments)
            if inspect.isawaitable(result):
                await result
        except Exception:
            logger.exception("stream %s: a callback failed", self._stream_id)
