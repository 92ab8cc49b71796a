"""The demo's watchers: clients that know what PROTOCOL.md says and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import aiohttp

from turnstream.core.cursor import Cursor, parse_cursor
from turnstream.core.native_fold import TERMINAL_NAMES, NativeFold, frame_decoder, native_event
from turnstream.core.sse import SseDecoder

_FRAME_END = b"\n\n"


class Cut(NamedTuple):
    """Place where a connection was dropped: its bytes, and `unfinished` bytes of a partial frame."""

    received: int
    unfinished: int


class Watcher:
    """Watches one turn, and keeps the id of every frame."""

    def __init__(self, session: aiohttp.ClientSession, stream_url: str) -> None:
        self.fold = NativeFold()
        self.cursors: list[Cursor] = []
        self._session = session
        self._url = stream_url

    @property
    def in_order(self) -> bool:
        """True if every id was above the one before it: no event came twice."""
        return all(before < after for before, after in zip(self.cursors[:-1], self.cursors[1:], strict=True))

    async def watch(self) -> None:
        """Read to the end, from the last whole frame on."""
        async with await self._open() as response:
            decoder = frame_decoder()
            async for data in response.content.iter_any():
                self._take(decoder, data)

    async def watch_until_cut(self, due: Callable[[], bool]) -> Cut:
        """Read until `due`, or else the turn's end, and then drop the connection in the middle of a frame."""
        response = await self._open()
        decoder = frame_decoder()
        received = bytearray()
        try:
            async for data in response.content.iter_any():
                before = len(received)
                received += data
                if (due() and self.cursors) or _end_in(data) is not None:
                    # What lies behind the cut never came.
                    del received[_cut_within(received, before) :]
                    self._take(decoder, bytes(received[before:]))
                    break
                self._take(decoder, data)
        finally:
            response.close()
        return Cut(len(received), len(received) - received.rfind(_FRAME_END) - len(_FRAME_END))

    async def _open(self) -> aiohttp.ClientResponse:
        headers = {"Last-Event-ID": str(self.cursors[-1])} if self.cursors else None
        response = await self._session.get(self._url, headers=headers)
        response.raise_for_status()
        return response

    def _take(self, decoder: SseDecoder, data: bytes) -> None:
        for frame in decoder.feed(data):
            self.fold.feed(*native_event(frame))
            if frame[2] is not None and (cursor := parse_cursor(frame[2].decode())) is not None:
                self.cursors.append(cursor)


def _end_in(data: bytes | bytearray) -> int | None:
    """The place of the turn's last frame in `data`."""
    places = [data.find(b"event: " + name.encode()) for name in TERMINAL_NAMES]
    return max(places) if max(places) >= 0 else None


def _cut_within(received: bytearray, before: int) -> int:
    """A place behind `before` that is inside a frame, and ahead of the turn's end."""
    end = _end_in(received)
    place = end + 10 if end is not None else (before + 1 + len(received)) // 2
    return place - 1 if received[:place].endswith(_FRAME_END) else place
