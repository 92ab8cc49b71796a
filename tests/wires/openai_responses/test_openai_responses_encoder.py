"""The wire openai-responses from events to bytes. The decoder gives the same events again."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wires.openai_responses.responses import decode, marked
from turnstream.core import stream_events as say
from turnstream.core.answers import fold_answer
from turnstream.core.blocks import Content
from turnstream.core.usage import Usage
from turnstream.wires.openai_responses.wire import BACKGROUND_WIRE, WIRE

# --- both ways

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
pieces = st.lists(texts, max_size=3)
values = st.text(max_size=5) | st.lists(st.integers(), min_size=1, max_size=2)


@st.composite
def canonical_events(draw: st.DrawFn, *, apart: bool = True, series: str = "a") -> list[say.StreamEvent]:
    """Events as the decoder gives them, item after item. `apart`: some are calls whose result must come
    next."""
    usage = {"input_tokens": 5, "input_tokens_details": {"cached_tokens": 1}, "output_tokens": 2}
    events: list[say.StreamEvent] = [say.MessageStart("resp_1", "model")]
    called = refused = False
    for number in range(draw(st.integers(0, 4))):
        kind = draw(st.sampled_from(sorted(BLOCKS if apart else BLOCKS.keys() - {"mcp", "code", "search"})))
        index = sum(isinstance(event, say.ContentBlockStart) for event in events)
        events += BLOCKS[kind](draw, index, f"{kind}_{series}{number}")
        called = called or kind in ("function", "custom")
        refused = refused or kind == "refusal"
    events.append(say.Metadata(Usage(5, 2, 1), usage))
    reason = "refusal" if refused else "tool_use" if called else "end_turn"
    ends = [say.MessageStop(reason, "completed"), say.MessageStop("max_tokens", "max_output_tokens")]
    return [*events, draw(st.sampled_from(ends))]


def _text(draw: st.DrawFn, index: int, identity: str) -> list[say.StreamEvent]:
    said = [say.TextDelta(index, text) for text in draw(pieces)]
    cited = [
        say.ContentDelta(index, {"citations": [{"type": "url_citation", "url": url}]}) for url in draw(pieces)
    ]
    begin = say.ContentBlockStart(index, "text", marked("message", id=identity))
    return [begin, *said, *cited, say.ContentBlockStop(index)]


def _refusal(draw: st.DrawFn, index: int, identity: str) -> list[say.StreamEvent]:
    metadata = {"refusal": True, **marked("message", id=identity)["provider_metadata"]}
    said = [say.TextDelta(index, text) for text in draw(pieces)]
    return [
        say.ContentBlockStart(index, "text", {"provider_metadata": metadata}),
        *said,
        say.ContentBlockStop(index),
    ]


def _thinking(draw: st.DrawFn, index: int, identity: str) -> list[say.StreamEvent]:
    full = draw(st.booleans())
    parts = [draw(st.lists(texts, min_size=1, max_size=3)) for _ in range(draw(st.integers(1, 2)))]
    mark = {"part": "reasoning_text"} if full else {}
    events: list[say.StreamEvent] = []
    for number, part in enumerate(parts):
        place = index + number
        events.append(say.ContentBlockStart(place, "thinking", marked("reasoning", id=identity)))
        if full:
            events.append(say.ContentDelta(place, marked("reasoning", id=identity, **mark)))
        events += [say.ThinkingDelta(place, text) for text in part]
        if number == len(parts) - 1 and draw(st.booleans()):
            kept = marked("reasoning", id=identity, encrypted_content="secret", **mark)
            events.append(say.ContentDelta(place, kept))
        events.append(say.ContentBlockStop(place))
    return events


def _silent(draw: st.DrawFn, index: int, identity: str) -> list[say.StreamEvent]:
    begin = say.ContentBlockStart(index, "thinking", marked("reasoning", id=identity))
    kept = say.ContentDelta(index, marked("reasoning", id=identity, encrypted_content="secret"))
    return [begin, kept, say.ContentBlockStop(index)]


def _call(draw: st.DrawFn, index: int, content: Content) -> list[say.StreamEvent]:
    said = [say.ToolInputDelta(index, text) for text in draw(pieces)]
    return [say.ContentBlockStart(index, "tool_use", content), *said, say.ContentBlockStop(index)]


def _function(draw: st.DrawFn, index: int, identity: str) -> list[say.StreamEvent]:
    content = {"tool_use_id": identity, "tool_name": "f", **marked("function_call", id=f"fc_{identity}")}
    return _call(draw, index, content)


def _custom(draw: st.DrawFn, index: int, identity: str) -> list[say.StreamEvent]:
    kept = marked("custom_tool_call", id=f"ctc_{identity}")
    return _call(draw, index, {"tool_use_id": identity, "tool_name": "f", "free_text": "input", **kept})


def _mcp(draw: st.DrawFn, index: int, identity: str) -> list[say.StreamEvent]:
    kept = marked("mcp_call", id=identity, server_label="s")
    content = {"tool_use_id": identity, "tool_name": "f", "provider_executed": True, **kept}
    failed = draw(st.booleans())
    result = draw(values.filter(bool)) if failed else draw(values)
    return [*_call(draw, index, content), *_result(index + 1, "mcp_call", identity, result, failed)]


def _code(draw: st.DrawFn, index: int, identity: str) -> list[say.StreamEvent]:
    kept = marked("code_interpreter_call", id=identity, container_id="c")
    content = {"tool_use_id": identity, "tool_name": "code_interpreter", "free_text": "code"}
    call = _call(draw, index, {**content, "provider_executed": True, **kept})
    outputs = [{"type": "logs", "logs": text} for text in draw(pieces)]
    return [*call, *_result(index + 1, "code_interpreter_call", identity, outputs, False)]


def _result(index: int, kind: str, identity: str, value: Any, failed: bool) -> list[say.StreamEvent]:
    content = {
        "tool_use_id": identity,
        "content": value,
        "is_error": failed,
        "provider_executed": True,
        **marked(kind, id=identity),
    }
    return [say.ContentBlockStart(index, "tool_result", content), say.ContentBlockStop(index)]


def _search(draw: st.DrawFn, index: int, identity: str) -> list[say.StreamEvent]:
    kept = marked("file_search_call", id=identity)
    use = {
        "tool_use_id": identity,
        "tool_name": "file_search",
        "provider_executed": True,
        "input": {"queries": draw(pieces)},
        **kept,
    }
    begin = [say.ContentBlockStart(index, "tool_use", use), say.ContentBlockStop(index)]
    return [*begin, *_result(index + 1, "file_search_call", identity, [{"text": "found"}], False)]


def _image(draw: st.DrawFn, index: int, identity: str) -> list[say.StreamEvent]:
    kept = marked("image_generation_call", id=identity, output_format="webp")
    content = {"media_type": "image/webp", "data": "QUJD", **kept}
    return [say.ContentBlockStart(index, "image", content), say.ContentBlockStop(index)]


def _raw(draw: st.DrawFn, index: int, identity: str) -> list[say.StreamEvent]:
    content = {"type": "web_search_call", "id": identity, "action": {"query": draw(texts)}}
    return [say.ContentBlockStart(index, "provider", content), say.ContentBlockStop(index)]


BLOCKS = {
    "text": _text,
    "refusal": _refusal,
    "thinking": _thinking,
    "silent": _silent,
    "function": _function,
    "custom": _custom,
    "mcp": _mcp,
    "code": _code,
    "search": _search,
    "image": _image,
    "raw": _raw,
}


@pytest.mark.requirement("E1", "E4")
@settings(max_examples=200, deadline=None)
@given(events=canonical_events(), size=st.integers(1, 200), batch=st.integers(1, 5))
def test_decode_of_encode_is_the_same(events, size, batch):
    encoder = WIRE.encoder(model="model", message_id="resp_1")
    body = (
        b"".join(encoder.feed(events[at : at + batch]) for at in range(0, len(events), batch))
        + encoder.close()
    )
    decoder = WIRE.decoder()
    found = [event for at in range(0, len(body), size) for event in decoder.feed(body[at : at + size])]
    assert found + decoder.close() == events


@pytest.mark.requirement("E1")
@settings(max_examples=100, deadline=None)
@given(events=canonical_events())
def test_an_answer_without_a_stream_folds_alike(events):
    whole = fold_answer(events)
    assert fold_answer(WIRE.decode_answer(WIRE.encode_answer(whole))) == whole


def test_the_numbers_of_the_events_count_from_zero():
    encoder = BACKGROUND_WIRE.encoder(model="m", message_id="resp_9")
    said = [
        say.ContentBlockStart(0, "text"),
        say.TextDelta(0, "a"),
        say.TextDelta(0, "b"),
        say.ContentBlockStop(0),
    ]
    body = encoder.feed([say.MessageStart(), *said, say.MessageStop("end_turn")]) + encoder.close()
    told = [json.loads(frame.partition(b"data: ")[2]) for frame in body.split(b"\n\n") if frame]
    assert [event["sequence_number"] for event in told] == list(range(len(told)))
    assert told[0]["response"]["background"] is True
    assert [event["type"] for event in told] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert {event["response"]["id"] for event in told if "response" in event} == {"resp_9"}


def test_what_only_another_wire_has_is_left_out():
    events: list[say.StreamEvent] = [
        say.MessageStart("i", "m"),
        say.ContentBlockStart(0, "thinking", {"redacted": "xyz"}),
        say.ContentBlockStop(0),
        say.ContentBlockStart(
            1, "tool_use", {"tool_use_id": "s", "tool_name": "x", "provider_executed": True}
        ),
        say.ToolInputDelta(1, "{}"),
        say.ContentBlockStop(1),
        say.ContentBlockStart(
            2, "tool_result", {"tool_use_id": "s", "content": 1, "provider_executed": True}
        ),
        say.TextDelta(2, "x"),
        say.ContentBlockStop(2),
        say.ContentBlockStart(3, "provider", {"type": "container_upload"}),
        say.ContentBlockStop(3),
        say.MessageStop("end_turn"),
    ]
    encoder = WIRE.encoder(model="m", message_id="i")
    found = fold_answer(decode(encoder.feed(events) + encoder.close()))
    assert [block.block_type for block in found.blocks] == ["thinking"]


@settings(max_examples=60, deadline=None)
@given(
    events=canonical_events(apart=False),
    other=canonical_events(apart=False, series="b"),
    order=st.randoms(use_true_random=False),
)
def test_interleaved_items_fold_alike(events, other, order):
    """Two series of items at once. No provider has to send them in a row."""
    begin, *first = [event for event in events if not isinstance(event, say.Metadata | say.MessageStop)]
    second = [event for event in other if hasattr(event, "index")]
    queues = [list(first), [msgspec.structs.replace(event, index=event.index + 100) for event in second]]
    mixed: list[say.StreamEvent] = [begin]
    while any(queues):
        mixed.append(order.choice([queue for queue in queues if queue]).pop(0))
    mixed.append(say.MessageStop("end_turn", "completed"))
    encoder = WIRE.encoder(model="model", message_id="resp_1")
    found = fold_answer(decode(encoder.feed(mixed) + encoder.close()))
    said = {
        block.text_content for block in fold_answer(mixed).blocks if block.block_type in ("text", "thinking")
    }
    assert {block.text_content for block in found.blocks if block.block_type in ("text", "thinking")} == said
    assert sorted(block.block_type for block in found.blocks) == sorted(
        block.block_type for block in fold_answer(mixed).blocks
    )
