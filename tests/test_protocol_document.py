"""PROTOCOL.md tells the truth: its frames are what the encoder makes, and it knows every event."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from turnstream.core.cursor import first_generation, parse_cursor
from turnstream.core.owner_events.cursor import parse_events_cursor
from turnstream.core.owner_events.events import ChatEvent
from turnstream.core.turn_events import BlockDelta, TurnEvent
from turnstream.dialects.native import NativeEncoder, chat_event_frame, event_name

DOCUMENT = (Path(__file__).parent.parent / "PROTOCOL.md").read_text(encoding="utf-8")
FRAMES = [
    f"{frame}\n\n"
    for fence in re.findall(r"```sse\n(.*?)\n```", DOCUMENT, re.DOTALL)
    for frame in fence.split("\n\n")
]


CHAT_EVENTS = {str(kind.__struct_config__.tag) for kind in get_args(ChatEvent)}


def event_of(data: dict[str, Any]) -> TurnEvent:
    """The event whose frame has this data."""
    fields = {key: value for key, value in data.items() if key != "turn_id"}
    if fields["type"] == "block_delta":
        [(fields["field"], fields["value"])] = fields.pop("delta").items()
    return msgspec.convert(fields, TurnEvent)


@pytest.mark.requirement("A5")
@pytest.mark.parametrize("frame", FRAMES)
def test_a_documented_frame_is_what_the_encoder_makes(frame: str) -> None:
    lines = dict(line.split(": ", 1) for line in frame.strip().split("\n"))
    data = json.loads(lines["data"])
    identity = lines.get("id", "")
    if parse_events_cursor(identity) is not None:
        lines["id"] = identity.rpartition(":")[2]
        frame = frame.replace(identity, lines["id"])
    if data["type"] in CHAT_EVENTS:
        event = msgspec.convert(data, ChatEvent)
        assert chat_event_frame(event, lines.get("id", "").encode()).decode() == frame
        return
    cursor = parse_cursor(lines["id"])
    assert cursor is not None
    assert cursor.generation == first_generation(data["turn_id"])
    encoder = NativeEncoder(data["turn_id"], cursor.generation)
    assert encoder.frame(cursor.seq, event_of(data)).decode() == frame


@pytest.mark.requirement("A5")
def test_every_event_is_documented_with_a_frame() -> None:
    shown = {re.search(r"^event: (.*)$", frame, re.MULTILINE)[1] for frame in FRAMES}  # type: ignore[index]
    assert shown == {str(kind.__struct_config__.tag) for kind in get_args(TurnEvent)} | CHAT_EVENTS


def test_event_names_are_tags() -> None:
    assert event_name(BlockDelta(0, "text", "text", "")) == "block_delta"
