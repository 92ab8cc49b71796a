"""A client by the rules of PROTOCOL.md, on a connection that a test may cut at any byte."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from turnstream.core.blocks import Block
from turnstream.core.native_fold import TERMINAL_NAMES, NativeFold
from turnstream.core.open_block import OpenBlock
from turnstream.core.sse import SseDecoder

LASTING = frozenset({"source", "data", "notice"})


class Frame(NamedTuple):
    id: str
    name: str
    data: dict[str, Any]

    @property
    def seq(self) -> int:
        return int(self.id.partition("-")[2])

    @property
    def generation(self) -> int:
        return int(self.id.partition("-")[0])


@dataclass
class Knowledge:
    """State of a client after it has received a frame."""

    cursor: str | None = None
    fold: NativeFold = field(default_factory=NativeFold)
    lasting: list[dict[str, Any]] = field(default_factory=list)
    """The source's own stored events. Passing events are not among them."""

    @property
    def blocks(self) -> list[Block]:
        return self.fold.blocks

    def copy(self) -> Knowledge:
        fold = copy.copy(self.fold)
        fold.approvals = dict(self.fold.approvals)
        fold._blocks = {
            index: _copied(block) if isinstance(block, OpenBlock) else block
            for index, block in self.fold._blocks.items()
        }
        return Knowledge(self.cursor, fold, list(self.lasting))

    @property
    def ended(self) -> bool:
        return self.fold.ending is not None


def _copied(block: OpenBlock) -> OpenBlock:
    copied = copy.copy(block)
    copied.content = dict(block.content)
    copied.parts = list(block.parts)
    copied._signature = list(block._signature)
    return copied


class Client:
    """One watcher over all of its connections. It folds whole frames, and drops the unfinished part at a
    cut."""

    def __init__(self) -> None:
        self.now = Knowledge()
        self.past: list[Knowledge] = [Knowledge()]
        """States of the client after each frame. A reloaded page starts from any of them."""
        self.frames: list[Frame] = []
        self.connection: list[Frame] = []
        """The frames of this connection."""
        self._decoder = SseDecoder(event_limit=1 << 24)

    @property
    def cursor(self) -> str | None:
        return self.now.cursor

    def receive(self, data: bytes) -> list[Frame]:
        """Take bytes, cut anywhere."""
        frames = [
            Frame((identity or b"").decode(), (name or b"").decode(), json.loads(payload))
            for name, payload, identity in self._decoder.feed(data)
        ]
        for frame in frames:
            self._take(frame)
        return frames

    def reconnect(self, knowledge: Knowledge | None = None) -> str | None:
        """Drop the connection. Return the cursor to resume from, with `knowledge` the cursor of that earlier
        state."""
        self._decoder = SseDecoder(event_limit=1 << 24)
        self.connection = []
        if knowledge is not None:
            self.now = knowledge.copy()
        return self.now.cursor

    def _take(self, frame: Frame) -> None:
        assert frame.data["type"] == frame.name
        assert not self.now.ended or frame.name == "turn_start", f"{frame} after the end"
        self._check_id(frame)
        self.now.cursor = frame.id
        self.now.fold.feed(frame.name, frame.data)
        if frame.name == "turn_start":
            self.now.lasting.clear()
        elif (
            frame.name in LASTING and frame.data.get("code") != "passing" and not frame.data.get("transient")
        ):
            self.now.lasting.append(frame.data)
        self.frames.append(frame)
        self.connection.append(frame)
        self.past.append(self.now.copy())

    def _check_id(self, frame: Frame) -> None:
        """Ids rise within a connection, by generation and then by seq. Three frames may repeat the id before
        them: a piece of the open block, a block_reset at the start of a catch-up, and the open block around
        a lasting event that the catch-up sends first."""
        if not self.connection:
            return
        last = self.connection[-1]
        may_repeat = frame.name in {"block_delta", "block_catchup", "block_reset"}
        if frame.generation > last.generation:  # another owner has taken the turn over
            return
        assert frame.seq > last.seq or (may_repeat and frame.seq == last.seq), f"{frame.id} after {last.id}"

    def terminal_events(self) -> list[Frame]:
        return [frame for frame in self.connection if frame.name in TERMINAL_NAMES]
