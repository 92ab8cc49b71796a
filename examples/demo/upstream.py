"""The demo's provider: a recorded answer, sent again at a human pace in pieces that respect no boundary."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from aiohttp import web

from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    MessageStart,
    MessageStop,
    Metadata,
    SignatureDelta,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
)
from turnstream.core.usage import Usage
from turnstream.errors import InvalidRequest
from turnstream.simulator import texts
from turnstream.simulator.script import story
from turnstream.wires import WIRES, usable_wires
from turnstream.wires.base import Wire
from turnstream.wires.recording import decode_pieces, frame_line

DURATION = 4.0
"""Seconds that an answer takes."""
PIECES = 300
"""Writes that an answer is cut into."""
_STORY_DELTAS = 150


class Recording(NamedTuple):
    """A provider's answer: `body` as it came over the wire, and how many events and blocks are in it."""

    wire: Wire
    body: bytes
    events: int
    blocks: int


def made_recording() -> Recording:
    """An answer of our own simulator: thinking, then text with emoji, CRLF, U+2028 and combining marks, then
    a story."""
    wire = WIRES["anthropic"]
    encoder = wire.encoder(model="demo", message_id="msg_demo")
    return _described(wire, encoder.feed(_answer()) + encoder.close())


def _answer() -> Iterator[StreamEvent]:
    yield MessageStart("msg_demo", "demo")
    yield ContentBlockStart(0, "thinking")
    for piece in _pieces(texts.THOUGHT):
        yield ThinkingDelta(0, piece)
    yield SignatureDelta(0, "signed-by-the-simulator")
    yield ContentBlockStop(0)
    yield ContentBlockStart(1, "text")
    for piece in _pieces(texts.UNUSUAL):
        yield TextDelta(1, piece)
    yield ContentBlockStop(1)
    for event in story(_STORY_DELTAS, seed=1):
        yield _moved(event, 2)
    yield Metadata(Usage(12, 300))
    yield MessageStop("end_turn")


def _pieces(text: str) -> list[str]:
    return [text[start : start + 3] for start in range(0, len(text), 3)]


def _moved(event: StreamEvent, index: int) -> StreamEvent:
    match event:
        case ContentBlockStart():
            return ContentBlockStart(index, event.block_type, event.content)
        case TextDelta():
            return TextDelta(index, event.text)
        case _:
            return ContentBlockStop(index)


def read_recording(file: Path) -> Recording:
    """A recorded answer from a file: a response's body, or .jsonl with an event's JSON per line, .gz of
    either; of
    whichever wire it is. Raises InvalidRequest."""
    try:
        data = file.read_bytes()
        if file.name.endswith(".gz"):
            data = gzip.decompress(data)
    except (OSError, EOFError) as error:
        raise InvalidRequest(f"{file} cannot be read: {error}") from error
    name = file.name.removesuffix(".gz")
    found = [_described(wire, _framed(wire, name, data)) for wire in usable_wires()]
    best = max(found, key=lambda recording: (recording.blocks > 0, recording.events))
    if not best.blocks:
        raise InvalidRequest(f"{file} is not a recording of the wires {', '.join(WIRES)}, or holds no block")
    return best


def _framed(wire: Wire, name: str, data: bytes) -> bytes:
    if not name.endswith(".jsonl"):
        return data
    return b"".join(frame_line(wire, line) for line in data.split(b"\n") if line.strip())


def _described(wire: Wire, body: bytes) -> Recording:
    decoded = decode_pieces(wire, [body])
    return Recording(wire, body, decoded["events"], len(decoded["blocks"]))


class Upstream:
    """A server that answers every POST with the recording's body; as an async context manager it listens at
    `url`."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self.url = ""
        application = web.Application()
        application.router.add_post("/{path:.*}", self._answer)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.5)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        await request.read()
        response = web.StreamResponse(headers={"Content-Type": self._recording.wire.content_type})
        await response.prepare(request)
        body = self._recording.body
        size = max(1, -(-len(body) // PIECES))
        loop = asyncio.get_running_loop()
        started = loop.time()
        for number, start in enumerate(range(0, len(body), size)):
            await asyncio.sleep(started + number * DURATION / PIECES - loop.time())
            await response.write(body[start : start + size])
        return response
