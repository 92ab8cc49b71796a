"""Bodies of event streams, from the server's own encoder."""

from __future__ import annotations

from collections.abc import Sequence

from turnstream.core.turn_events import (
    BlockDelta,
    BlockStart,
    BlockStop,
    TurnComplete,
    TurnEvent,
    TurnStart,
)
from turnstream.core.usage import Usage
from turnstream.dialects.native import NativeEncoder

TURN_ID = "t"
START = TurnStart("c", "assistant", "sim/demo", "2026-11-21T00:00:00Z")
COMPLETE = TurnComplete("end_turn", 1, 2, 1, usage=Usage(1, 2))


def told(events: Sequence[TurnEvent], *, first: int = 1, generation: int = 7) -> bytes:
    """Return the frames of `events`, with seqs from `first`."""
    encoder = NativeEncoder(TURN_ID, generation)
    return b"".join(encoder.frame(first + place, event) for place, event in enumerate(events))


def answer(*texts: str) -> list[TurnEvent]:
    """Return a whole turn of one text block."""
    return [
        START,
        BlockStart(0, "text"),
        *(BlockDelta(0, "text", "text", text) for text in texts),
        BlockStop(0, "text"),
        COMPLETE,
    ]


def started(turn_id: str = TURN_ID, chat_id: str = "c") -> dict[str, object]:
    """Return the body of the answer to a POST of a turn."""
    turn = {
        "id": turn_id,
        "chat_id": chat_id,
        "prev_turn_id": None,
        "role": "assistant",
        "status": "streaming",
        "model": "sim/demo",
        "created_at": "2026-11-21T00:00:00.000Z",
    }
    return {"user_turn": None, "assistant_turn": turn, "stream_url": f"/api/turns/{turn_id}/stream"}


CHAT = {"id": "c", "title": None, "metadata": {}, "created_at": "", "updated_at": ""}
