"""The demo's watchers: clients that know PROTOCOL.md and nothing else."""

from __future__ import annotations

import json
from typing import Any

import aiohttp

from turnstream.cli.watched import frame_decoder, native_event
from turnstream.core.cursor import Cursor, parse_cursor
from turnstream.dialects.native_fold import NativeFold

_FRAME_END = b"\n\n"


class Watcher:
    """Watches one turn, and counts what it gets."""

    def __init__(self, session: aiohttp.ClientSession, stream_url: str) -> None:
        self.fold = NativeFold()
        self.cursors: list[Cursor] = []
        self.bytes = 0
        self.names: list[str] = []
        self._session = session
        self._url = stream_url

    @property
    def in_order(self) -> bool:
        """Whether every id was above the one before: nothing came twice."""
        return all(before < after for before, after in zip(self.cursors, self.cursors[1:], strict=False))

    async def watch(self) -> None:
        """Read to the end, from the last whole frame on."""
        async with await self._open() as response:
            decoder = frame_decoder()
            async for data in response.content.iter_any():
                self._take(decoder.feed(data), len(data))

    async def watch_until_cut(self, due: float, clock: Clock) -> int:
        """Read until `due` by the clock, then drop the connection in the middle of a frame; returns how many bytes of
        it had come."""
        response = await self._open()
        try:
            decoder = frame_decoder()
            tail = b""
            async for data in response.content.iter_any():
                last = b"event: turn_" in data and b"event: turn_start" not in data
                if last or (clock() >= due and self.cursors):
                    data = _cut(data)  # noqa: PLW2901 - what lies behind the cut never came
                    self._take(decoder.feed(data), len(data))
                    return len((tail + data).rpartition(_FRAME_END)[2])
                self._take(decoder.feed(data), len(data))
                tail = (tail + data).rpartition(_FRAME_END)[2]
        finally:
            response.close()
        return 0
