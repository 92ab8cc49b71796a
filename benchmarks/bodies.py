"""Provider bodies for decoding. turnstream's own encoders make them, so all wires have the same content."""

from __future__ import annotations

import gzip
import json
import os
import random
from collections.abc import Sequence
from pathlib import Path

from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    MessageStart,
    MessageStop,
    Metadata,
    StreamEvent,
    TextDelta,
    ToolInputDelta,
)
from turnstream.core.usage import Usage
from turnstream.wires import WIRES

WORDS = (
    "the ",
    "of ",
    "river",
    " lantern",
    ", and",
    " a",
    "quiet ",
    "harbour",
    ".\n",
    " 日本",
    "é",
    " “yes”",
)
CORPUS_VARIABLE = "TURNSTREAM_CORPUS"


def text_body(wire: str, deltas: int) -> list[bytes]:
    """Return the events of an answer with one text block."""
    draw = random.Random(7)
    return _encoded(wire, "text", [TextDelta(0, draw.choice(WORDS)) for _ in range(deltas)])


def tool_body(wire: str, deltas: int) -> list[bytes]:
    """Return the events of an answer with one tool call, whose arguments come in many pieces."""
    values = [f"item {number}" for number in range(deltas)]
    arguments = json.dumps({"items": values})
    size = -(-len(arguments) // deltas)
    pieces = [arguments[start : start + size] for start in range(0, len(arguments), size)]
    return _encoded(wire, "tool_use", [ToolInputDelta(0, piece) for piece in pieces])


def _encoded(wire: str, block_type: str, deltas: Sequence[StreamEvent]) -> list[bytes]:
    content = {"tool_use_id": "toolu_1", "tool_name": "list"} if block_type == "tool_use" else None
    stop = "tool_use" if block_type == "tool_use" else "end_turn"
    usage = Usage(input_tokens=10, output_tokens=len(deltas))
    events: list[StreamEvent] = [
        MessageStart("msg_1", "model"),
        ContentBlockStart(0, block_type, content),  # type: ignore[arg-type]
        *deltas,
        ContentBlockStop(0),
        MessageStop(stop),  # type: ignore[arg-type]
        Metadata(usage),
    ]
    encoder = WIRES[wire].encoder(model="model", message_id="msg_1")
    frames = [encoder.feed((event,)) for event in events]
    return [frame for frame in (*frames, encoder.close()) if frame]


def recorded_bodies(wire: str) -> list[bytes]:
    """Return the recordings of a wire, if TURNSTREAM_CORPUS names a folder with an index of them."""
    root = os.environ.get(CORPUS_VARIABLE)
    if not root:
        return []
    entries = json.loads((Path(root) / "index.json").read_text(encoding="utf-8"))
    names = [e["file"] for e in entries if e["wire"] == wire and ".sse" in e["file"] and not e.get("error")]
    files = [(name, (Path(root) / name).read_bytes()) for name in sorted(names)]
    return [gzip.decompress(data) if name.endswith(".gz") else data for name, data in files]
