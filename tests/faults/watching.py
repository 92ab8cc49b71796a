"""The client's side: the API over real HTTP, and watchers that fold what they see and remember when they saw
it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import aiohttp

from turnstream.core.blocks import Block
from turnstream.core.native_fold import TERMINAL_NAMES, NativeFold
from turnstream.core.sse import SseDecoder

WATCH_SECONDS = 30.0
GONE = (aiohttp.ClientError, ConnectionError)


class Frame(NamedTuple):
    """One event as a watcher got it; `at` is the client's monotonic clock."""

    at: float
    id: str
    name: str
    data: dict[str, Any]


@dataclass
class Watcher:
    """One client's view of one turn, over all its connections."""

    turn_id: str
    fold: NativeFold = field(default_factory=NativeFold, repr=False)
    frames: list[Frame] = field(default_factory=list, repr=False)
    stopped: dict[int, Block] = field(default_factory=dict, repr=False)
    """Blocks whose block_stop it saw, as it saw them."""
    status: int | None = None

    @property
    def cursor(self) -> str | None:
        return self.frames[-1].id if self.frames else None

    @property
    def ended(self) -> bool:
        return self.fold.ending is not None

    @property
    def open_text(self) -> tuple[int, str]:
        """The last block if it is open, and its text; (-1, "") when none is."""
        blocks = self.fold.blocks
        if not blocks or blocks[-1].sequence in self.stopped:
            return -1, ""
        return blocks[-1].sequence, shown_text(blocks[-1])

    async def watch(
        self,
        api: Api,
        *,
        until: Callable[[Frame], bool] | None = None,
        params: dict[str, str] | None = None,
    ) -> None:
        """Watch from the cursor on until the stream closes, the connection breaks, or `until` says so."""
        headers = {"Last-Event-ID": self.cursor} if self.cursor else {}
        url = f"{api.url}/api/turns/{self.turn_id}/stream"
        decoder = SseDecoder(event_limit=1 << 24)
        try:
            async with asyncio.timeout(WATCH_SECONDS), api.get(url, headers, params) as response:
                self.status = response.status
                if response.status != 200:
                    return
                async for data in response.content.iter_any():
                    if self._take(decoder, data, until):
                        return
        except GONE:
            return

    def _take(self, decoder: SseDecoder, data: bytes, until: Callable[[Frame], bool] | None) -> bool:
        now = time.monotonic()
        for name, payload, identity in decoder.feed(data):
            frame = Frame(now, (identity or b"").decode(), (name or b"").decode(), json.loads(payload))
            self.take(frame)
            if until is not None and until(frame):
                return True
        return False

    def take(self, frame: Frame) -> None:
        assert frame.id, frame
        assert not self.ended or frame.name == "turn_start", f"{frame} after {self.fold.ending}"
        self.frames.append(frame)
        self.fold.feed(frame.name, frame.data)
        index = frame.data.get("block_index")
        if frame.name == "block_stop" or (frame.name == "block_catchup" and frame.data["complete"]):
            self.stopped[index] = next(block for block in self.fold.blocks if block.sequence == index)

    def terminal_events(self) -> list[str]:
        return [frame.name for frame in self.frames if frame.name in TERMINAL_NAMES]


class Api:
    """A client of one server."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self._session = session

    def get(
        self, url: str, headers: dict[str, str] | None = None, params: dict[str, str] | None = None
    ) -> Any:
        return self._session.get(url, headers=headers, params=params)

    async def call(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        """Status and JSON of one request. Raises what `GONE` holds when the server dies over it."""
        async with (
            asyncio.timeout(WATCH_SECONDS),
            self._session.request(method, self.url + path, json=body, headers=headers) as response,
        ):
            text = await response.text()
            return response.status, json.loads(text) if text else None

    async def create_chat(self) -> str:
        status, chat = await self.call("POST", "/api/chats", {})
        assert status == 201, chat
        return chat["id"]

    async def post_turn(
        self, chat_id: str, text: str, model: str, *, prev: str | None = None, key: str | None = None
    ) -> tuple[int, Any]:
        body = {
            "prev_turn_id": prev,
            "model": model,
            "turn_blocks": [{"block_type": "text", "text_content": text}],
        }
        headers = {"Idempotency-Key": key} if key else None
        return await self.call("POST", f"/api/chats/{chat_id}/turns", body, headers)

    async def start(self, chat_id: str, text: str, model: str, *, prev: str | None = None) -> str:
        """The id of the assistant turn."""
        status, started = await self.post_turn(chat_id, text, model, prev=prev)
        assert status == 201, started
        return started["assistant_turn"]["id"]

    async def turn(self, turn_id: str) -> dict[str, Any]:
        status, turn = await self.call("GET", f"/api/turns/{turn_id}")
        assert status == 200, turn
        return turn

    async def turns(self, chat_id: str) -> list[dict[str, Any]]:
        status, listed = await self.call("GET", f"/api/chats/{chat_id}/turns")
        assert status == 200, listed
        return listed["turns"]

    async def watched(self, turn_id: str) -> Watcher:
        """A new watcher, at the turn's end."""
        watcher = Watcher(turn_id)
        await watcher.watch(self)
        return watcher


def text_of(frame: Frame) -> str:
    """The text, the tool call's arguments, or the tool's result, that a frame brings."""
    delta = frame.data.get("delta", {})
    brought = (
        frame.data.get("accumulated_text"),
        frame.data.get("input_partial"),
        delta.get("text"),
        delta.get("partial_json"),
        (frame.data.get("content") or {}).get("content"),
        (delta.get("content") or {}).get("content"),
    )
    return next((text for text in brought if text), "")


def stored_blocks(turn: dict[str, Any]) -> list[Block]:
    """The blocks of a turn as the API gives them."""
    return [
        Block(row["sequence"], row["block_type"], row["text_content"], row["content"], row["partial"])
        for row in turn["blocks"]
    ]


def shown_text(block: Block) -> str:
    """Return the growing part of a block: its text, a call's arguments, or a whole result of a tool."""
    if block.block_type == "tool_use":
        return (block.content or {}).get("input_json", "")
    if block.block_type == "tool_result":
        return (block.content or {}).get("content", "")
    return block.text_content or ""
