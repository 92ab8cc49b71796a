"""Extra fields in every delta of some vendors make no blocks, and are bounded."""

from __future__ import annotations

import itertools
import json
import tracemalloc
from typing import Any

import pytest

from tests.wires.openai_chat.chunks import FINISH, blocks, body, call, calls, chunk, decode, frame, text
from tests.wires.openai_chat.extra_fields import EXTRAS, decode_all
from tests.wires.openai_chat.test_openai_chat_decoder import WIRE
from turnstream.core.stream_events import ContentBlockStart, Metadata, StreamEvent, StreamNotice, TextDelta
from turnstream.errors import EventTooLarge
from turnstream.wires.recording import decode_pieces
from turnstream.wires.shared.kept_fields import MOST_FIELDS

pytestmark = pytest.mark.fault(20)


def metadata_of(events: list[StreamEvent]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for event in events:
        if isinstance(event, Metadata):
            found |= event.provider_metadata or {}
    return found


@pytest.mark.parametrize("name", EXTRAS)
@pytest.mark.parametrize("field", ["content", "reasoning_content"])
def test_extras_are_no_blocks_and_do_not_grow(name: str, field: str) -> None:
    events = [chunk({field: "x", **EXTRAS[name](n)}) for n in range(300)]
    kind = "text" if field == "content" else "thinking"
    assert blocks(*events, FINISH) == [(kind, "x" * 300)]
    short, long = (metadata_of(decode(*events[:count], FINISH)) for count in (3, 300))
    assert len(json.dumps(long)) <= len(json.dumps(short))
    assert len([event for event in decode(*events, FINISH) if isinstance(event, Metadata)]) <= 1


@pytest.mark.parametrize("name", EXTRAS)
def test_extras_of_a_call_s_deltas_tear_nothing(name: str) -> None:
    parts = ['{"x":"', *["y"] * 50, '"}']
    events = [
        chunk({"tool_calls": [call(0, "a" if n == 0 else None, "f" if n == 0 else None, part)], **EXTRAS[name](n)})
        for n, part in enumerate(parts)
    ]  # fmt: skip
    assert blocks(*events, chunk(finish="tool_calls")) == [("f", "a", "".join(parts))]


def test_what_is_kept_is_the_first_value_of_each_field() -> None:
    events = decode(
        chunk({"content": "a", "tier": "gold", "provider_metadata": {"x": 1}}),
        chunk({"content": "b", "tier": "gold", "provider_metadata": {"x": 2}}),
        chunk({"provider_metadata": {"gateway": {"cost": "0.0001"}}}, "stop"),
    )
    assert metadata_of(events) == {
        "tier": "gold",
        "provider_metadata": {"x": 1, "gateway": {"cost": "0.0001"}},
    }
    assert not any(isinstance(event, StreamNotice) for event in events)


def test_extras_without_anything_else_are_an_answer_of_nothing() -> None:
    assert [
        event for event in decode(chunk({"index": 0}), FINISH) if isinstance(event, ContentBlockStart)
    ] == []


def test_fields_have_a_bound() -> None:
    events = decode(*[chunk({"content": "x", f"field{n}": f"{n}"}) for n in range(1000)], FINISH)
    assert len(metadata_of(events)) == MOST_FIELDS
    assert sum(isinstance(event, StreamNotice) for event in events) <= MOST_FIELDS
    inner = decode(*[chunk({"content": "x", "provider_metadata": {f"f{n}": n}}) for n in range(1000)], FINISH)
    assert len(metadata_of(inner)["provider_metadata"]) == MOST_FIELDS
    decoder = WIRE.decoder(event_limit=1000)
    large = b"".join(frame(chunk({f"field{n}": "x" * 300})) for n in range(9))
    decoder.feed(large)
    with pytest.raises(EventTooLarge):
        decoder.close()


def test_extras_of_a_call_are_kept_once() -> None:
    fragments = [{**call(0, "a", "f", part), "note": n} for n, part in enumerate(["{", " ", " ", "}"])]
    events = decode(*map(calls, fragments), chunk(finish="tool_calls"))
    told = [event for event in events if type(event).__name__ == "ContentDelta"]
    assert [event.content for event in told] == [{"provider_metadata": {"note": 0}}]  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("name", ["a string that changes", "provider_metadata", "token_ids"])
def test_a_decoder_does_not_grow_with_extras(name: str) -> None:
    decoder = WIRE.decoder()

    def feed(numbers: range) -> int:
        for n in numbers:
            decoder.feed(frame(chunk({"content": "x", **EXTRAS[name](n)})))
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before, after = feed(range(200)), feed(range(200, 5000))
    finally:
        tracemalloc.stop()
    assert after - before < 20_000


def test_texts_come_one_by_one_as_without_extras() -> None:
    decoder = WIRE.decoder()
    decoder.feed(frame(text("begin")))
    for n in itertools.islice(itertools.count(), 30):
        events = decoder.feed(frame(chunk({"content": f"t{n}", "token_ids": [n]})))
        assert [event.text for event in events if isinstance(event, TextDelta)] == [f"t{n}"]


def test_a_body_without_any_text_but_extras_is_read_whole() -> None:
    assert decode_pieces(WIRE, [body(chunk({"index": 0, "created": 1}), FINISH)])["blocks"] == []


def test_thinking_that_each_delta_repeats_beside_its_text_is_no_extra() -> None:
    repeated = chunk({"content": "a", "provider_specific_fields": {"reasoning_content": "h"}})
    events = [text("begin"), *[repeated] * 12]
    assert decode_all(events, short_cut=True) == decode_all(events, short_cut=False)
