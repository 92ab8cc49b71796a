"""A source that yields the test's batches at the test's times, and a stream of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import turnstream as ts
from turnstream.llm.live_answer import LiveAnswer
from turnstream.llm.message_stream import StreamOptions
from turnstream.llm.output import OutputFormat
from turnstream.model_loop.sources import Batches, Stream, TurnSource


class Scripted(TurnSource):
    """Yields one batch after another, each as soon as `go` allows it."""

    needs_end_marker = True

    def __init__(self, batches: Sequence[Sequence[Any]], *, stepwise: bool = False) -> None:
        self._batches = batches
        self.go: asyncio.Semaphore | None = asyncio.Semaphore(0) if stepwise else None
        self.closed = False

    def step(self, number: int) -> Stream | None:
        return self._open() if number == 0 else None

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[Batches]:
        yield self._said()

    async def _said(self) -> AsyncIterator[Sequence[Any]]:
        for batch in self._batches:
            if self.go is not None:
                await self.go.acquire()
            yield batch

    async def close(self) -> None:
        self.closed = True


def streaming(
    source: TurnSource, output: OutputFormat[Any] | None = None, **options: Any
) -> ts.MessageStream[Any]:
    async def make(_stream_id: str, _live: LiveAnswer) -> TurnSource:
        return source

    return ts.MessageStream(make, StreamOptions(**options), output)
