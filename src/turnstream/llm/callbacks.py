"""Functions that are told what happens in a stream."""

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
"""What callbacks have to come to their end once the stream has."""

_Told: TypeAlias = Awaitable[object] | object


class Batching(NamedTuple):
    """Events are told together: as soon as `most` of them wait, or `interval` seconds after those before."""

    most: int = 10
    interval: float = 0.05


@dataclass(frozen=True, slots=True)
class Callbacks:
    """What to call, each function sync or async; they are called one after another, in order, in the stream's event loop.

    `on_start(stream_id)`, `on_event(event)`, `on_events(events)` with several at once, `on_complete(message, usage, metrics)` at a
    whole message, `on_error(error)` where there is none. `batching` holds `on_events` back a little.

    A function that fails is logged, and nothing else. One that is slow does not hold up the stream: what continues is joined
    for it, and it has 10 s to finish once the stream has ended.
    """

    on_start: Callable[[str], _Told] | None = None
    on_event: Callable[[TurnEvent], _Told] | None = None
    on_events: Callable[[Sequence[TurnEvent]], _Told] | None = None
    on_complete: Callable[[ModelMessage[Any], Usage, StreamMetrics], _Told] | None = None
    on_error: Callable[[BaseException], _Told] | None = None
    batching: Batching | None = None


class Caller:
    """Calls the callbacks of one stream, in a task of its own."""

    def __init__(self, callbacks: Callbacks, stream_id: str, live: LiveAnswer) -> None:
        self._callbacks = callbacks
        self._stream_id = stream_id
        self._live = live
        self._task: asyncio.Task[None] | None = None

    def start(self, ending: Callable[[], tuple[ModelMessage[Any], StreamMetrics]]) -> None:
        """`ending` tells what to say at a whole message, or raises what is wrong with it."""
        if self._callbacks == Callbacks():
            return
        name = f"callbacks of stream {self._stream_id}"
        self._task = asyncio.get_running_loop().create_task(self._run(ending), name=name)

    async def finish(self) -> None:
        """Wait until everything was told; a callback that does not end in time is cancelled."""
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
        """Tell nothing more."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self, ending: Callable[[], tuple[ModelMessage[Any], StreamMetrics]]) -> None:
        told = self._callbacks
        await self._call(told.on_start, self._stream_id)
        await self._tell_events()
        await self._live.ended.wait()
        try:
            self._live.raise_error()
            message, metrics = ending()
        except BaseException as error:  # noqa: BLE001 - it is handed on, and not this task's own
            await self._call(told.on_error, error)
        else:
            await self._call(told.on_complete, message, message.usage, metrics)

    async def _tell_events(self) -> None:
        told = self._callbacks
        if told.on_event is None and told.on_events is None:
            return
        batching = told.batching
        pace = Throttle(batching.interval, batching.most) if batching is not None else None
        reader = EventsReader(self._live, pace)
        try:
            async for events in reader:
                if told.on_event is not None:
                    for event in events:
                        await self._call(told.on_event, event)
                await self._call(told.on_events, events)
        except Exception as error:
            if error is not self._live.error:
                raise

    async def _call(self, function: Callable[..., _Told] | None, *arguments: Any) -> None:
        if function is None:
            return
        try:
            result = function(*arguments)
            if inspect.isawaitable(result):
                await result
        except Exception:
            logger.exception("stream %s: a callback failed", self._stream_id)
