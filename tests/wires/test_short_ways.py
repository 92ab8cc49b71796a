"""Events that a wire decodes straight into structs mean what they mean as plain JSON."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import Any, NoReturn
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wires.any_events import EVENTS
from turnstream.core import stream_events as say
from turnstream.errors import ProviderError
from turnstream.wires import WIRES
from turnstream.wires.recording import frame_line

SHORT_WAYS = {
    "openai-responses": ("turnstream.wires.openai_responses.decoder.decode_delta",),
    "gemini": ("turnstream.wires.gemini.decoder.decode_plain",),
    "ollama": ("turnstream.wires.ollama.decoder.decode_typed",),
    "openai-chat": (
        "turnstream.wires.openai_chat.decoder.decode_typed",
        "turnstream.wires.openai_chat.template.decode_typed",
    ),
}
"""Functions that decode bytes straight into structs. They refuse what they do not know."""

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=4)
deltas = st.sampled_from([say.TextDelta, say.ThinkingDelta, say.ToolInputDelta])
blocks = st.tuples(deltas, st.lists(texts, min_size=1, max_size=5))
STARTS = {
    say.TextDelta: say.ContentBlockStart(0, "text"),
    say.ThinkingDelta: say.ContentBlockStart(0, "thinking"),
    say.ToolInputDelta: say.ContentBlockStart(0, "tool_use", {"tool_use_id": "c", "tool_name": "f"}),
}


def refuse(_: bytes) -> NoReturn:
    raise ValueError


def answer(wire: str, said: list[tuple[Any, list[str]]]) -> list[bytes]:
    """Return the frames of an answer with these blocks."""
    encoder = WIRES[wire].encoder(model="m", message_id="m1")
    frames = [encoder.feed((say.MessageStart("m1", "m"),))]
    for index, (delta, pieces) in enumerate(said):
        start = STARTS[delta]
        frames.append(encoder.feed((say.ContentBlockStart(index, start.block_type, start.content),)))
        frames += [encoder.feed((delta(index, piece),)) for piece in pieces]
        frames.append(encoder.feed((say.ContentBlockStop(index),)))
    return [*frames, encoder.feed((say.MessageStop("end_turn"),)), encoder.close()]


def decoded(wire: str, reads: list[bytes], *, plain: bool) -> tuple[list[say.StreamEvent], str | None]:
    """Return the events, and the code of the error that ends them."""
    with ExitStack() as patches:
        for name in SHORT_WAYS[wire] if plain else ():
            patches.enter_context(patch(name, refuse))
        decoder = WIRES[wire].decoder(on_malformed="skip")
        events: list[say.StreamEvent] = []
        try:
            for read in reads:
                events += decoder.feed(read)
            events += decoder.close()
        except ProviderError as error:
            return events, error.code
    return events, None


@pytest.mark.requirement("E4")
@pytest.mark.parametrize("wire", SHORT_WAYS)
@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_typed_events_mean_what_plain_json_means(wire: str, data: st.DataObject) -> None:
    frames = answer(wire, data.draw(st.lists(blocks, min_size=1, max_size=3)))
    for value in data.draw(st.lists(EVENTS[wire], max_size=3)):
        place = data.draw(st.integers(0, len(frames)))
        frames.insert(place, frame_line(WIRES[wire], json.dumps(value).encode()))
    assert decoded(wire, frames, plain=False) == decoded(wire, frames, plain=True)
