"""The fast paths of the wires decode the same events as the general paths."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, NoReturn
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wires.any_events import EVENTS
from tests.wires.any_json import json_values
from turnstream.core import stream_events as say
from turnstream.errors import ProviderError
from turnstream.wires import WIRES
from turnstream.wires.gemini.framing import JsonElements
from turnstream.wires.ollama.decoder import OllamaDecoder
from turnstream.wires.recording import frame_line
from turnstream.wires.shared import lenient_json

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=4)
deltas = st.sampled_from([say.TextDelta, say.ThinkingDelta, say.ToolInputDelta])
blocks = st.tuples(deltas, st.lists(texts, min_size=1, max_size=5))
STARTS = {
    say.TextDelta: say.ContentBlockStart(0, "text"),
    say.ThinkingDelta: say.ContentBlockStart(0, "thinking"),
    say.ToolInputDelta: say.ContentBlockStart(0, "tool_use", {"tool_use_id": "c", "tool_name": "f"}),
}


def refuse(*_: object) -> NoReturn:
    raise ValueError


SHORT_WAYS: dict[str, dict[str, Callable[..., Any]]] = {
    "openai-responses": {"openai_responses.decoder.decode_delta": refuse},
    "gemini": {"gemini.decoder.decode_plain": refuse},
    "ollama": {"ollama.decoder.decode_typed": refuse, "ollama.decoder.decoder_with": lambda _: refuse},
    "openai-chat": {"openai_chat.decoder.decode_typed": refuse, "openai_chat.template.decode_typed": refuse},
}
"""Functions that decode bytes straight into structs, and what stands in their place: it refuses
everything."""


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
        for name, instead in SHORT_WAYS[wire].items() if plain else ():
            patches.enter_context(patch(f"turnstream.wires.{name}", instead))
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


@pytest.mark.requirement("E4")
@settings(deadline=None, max_examples=100)
@given(st.lists(blocks, min_size=1, max_size=3), st.lists(EVENTS["ollama"], max_size=3), st.integers(0, 20))
def test_lines_of_an_open_message_mean_what_first_lines_mean(
    said: list[tuple[Any, list[str]]], odd: list[Any], place: int
) -> None:
    frames = answer("ollama", said)
    frames[place:place] = [frame_line(WIRES["ollama"], json.dumps(value).encode()) for value in odd]
    never = property(lambda _: False, lambda _self, _value: None)
    with patch.object(OllamaDecoder, "_is_usual", never, create=True):
        expected = decoded("ollama", frames, plain=False)
    assert decoded("ollama", frames, plain=False) == expected


@pytest.mark.requirement("E4")
@given(st.lists(json_values, max_size=6), st.sampled_from([None, 1, 2]), st.integers(1, 60))
def test_an_indented_array_is_cut_like_any_other(values: list[Any], indent: int | None, size: int) -> None:
    body = json.dumps([{"value": value} for value in values], indent=indent).encode()
    body = body.replace(b"\n" + b" " * (indent or 0) + b"}", b"\n}")
    reads = [body[at : at + size] for at in range(0, len(body), size)]
    short, plain = JsonElements(event_limit=10_000), JsonElements(event_limit=10_000)
    plain._indented = False
    assert [short.feed(read) for read in reads] == [plain.feed(read) for read in reads]


@pytest.mark.requirement("E4")
@given(st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
))  # fmt: skip
def test_json_is_read_alike_where_half_a_surrogate_pair_may_be_in_it(value: Any) -> None:
    try:
        data = json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        data = json.dumps(value).encode()
    with patch.object(lenient_json, "decode_strictly", refuse):
        plain = lenient_json.decode_json(data)
    assert repr(lenient_json.decode_json(data)) == repr(plain)
