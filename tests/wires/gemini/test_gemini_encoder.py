"""Gemini's stream from events to bytes. The decoder gives the same events again."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wires.gemini.streams import PNG, START, call, chunk, decode, end, json_leaves, sse
from turnstream.core.answers import fold_answer
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    ContentDelta,
    MessageStart,
    MessageStop,
    Metadata,
    SignatureDelta,
    StreamError,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
    ToolInputDelta,
)
from turnstream.core.usage import Usage
from turnstream.errors import MalformedEvent, StreamIncomplete
from turnstream.wires.gemini.wire import ARRAY_WIRE, WIRE

ANSWERS = WIRE

# --- encoding -----------------------------------------------------------------------------------------------

words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
base64s = st.binary(min_size=1, max_size=6).map(lambda data: b64encode(data).decode())


@st.composite
def canonical_messages(draw: st.DrawFn) -> list[StreamEvent]:
    """Any events that the decoder can give."""
    usage = {"promptTokenCount": draw(st.integers(0, 9)), "candidatesTokenCount": 5, "totalTokenCount": 9}
    events: list[StreamEvent] = [MessageStart(draw(words), draw(words))]
    said = False
    called = False
    kind = ""
    for index in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from([k for k in ("text", "thinking", "call", "image", "raw") if k != kind]))
        body: list[StreamEvent] = []
        content: Any = None
        match kind:
            case "text":
                texts = draw(st.lists(words, min_size=1, max_size=4))
                body = [TextDelta(index, text) for text in texts]
                if draw(st.booleans()):
                    place = len("".join(texts))
                    signed = {"thoughtSignature": draw(base64s), "signed": [place, place]}
                    body.append(ContentDelta(index, {"provider_metadata": signed}))
            case "thinking":
                body = [ThinkingDelta(index, text) for text in draw(st.lists(words, min_size=1, max_size=3))]
                if draw(st.booleans()):
                    body.append(SignatureDelta(index, draw(base64s)))
                    body.append(ContentDelta(index, {"provider_metadata": {"part": "thought"}}))
            case "call":
                called = True
                content = {"tool_use_id": f"id{index}", "tool_name": draw(words)}
                if draw(st.booleans()):
                    content["provider_metadata"] = {"thoughtSignature": draw(base64s)}
                if draw(st.booleans()):
                    args = draw(st.dictionaries(words, json_leaves, max_size=3))
                    text = json.dumps(args, ensure_ascii=False, separators=(",", ":"))
                    body = [ToolInputDelta(index, text)]
            case "image":
                content = {"media_type": "image/png", "data": PNG}
            case _:
                content = {"inlineData": {"mimeType": "audio/wav", "data": draw(base64s)}}
        block_type: Any = {"call": "tool_use", "raw": "provider"}.get(kind, kind)
        start = ContentBlockStart(index, block_type, content)
        block = [start, *body, ContentBlockStop(index)]
        if not said:
            said = True
            reported = Metadata(Usage(usage["promptTokenCount"], 5), usage)
            place = 2 if block_type in ("text", "thinking") else len(block)
            block.insert(place, reported)
        events += block
    reason, raw = draw(
        st.sampled_from([("end_turn", "STOP"), ("max_tokens", "MAX_TOKENS"), ("unknown", "NEW")])
    )
    if raw == "NEW" and all(
        isinstance(event, ContentBlockStart) is False or event.block_type == "thinking" for event in events
    ):
        reason, raw = "max_tokens", "MAX_TOKENS"  # an answer without content does not end so
    events.append(MessageStop("tool_use" if called and raw == "STOP" else reason, raw))  # type: ignore[arg-type]
    return events


def as_sent(events: list[StreamEvent]) -> list[StreamEvent]:
    """Events for an encoder. The usage comes before the first block."""
    usage = next(event for event in events if isinstance(event, Metadata))
    rest = [event for event in events if event is not usage]
    return [rest[0], usage, *rest[1:]]


@settings(max_examples=120, deadline=None)
@given(events=canonical_messages(), wire=st.sampled_from([WIRE, ARRAY_WIRE]))
@pytest.mark.requirement("E1", "E2")
def test_what_is_encoded_decodes_to_itself(events: list[StreamEvent], wire: Any) -> None:
    sent = as_sent(events)
    encoder = wire.encoder(model="another", message_id="another")
    body = encoder.feed(sent) + encoder.close()
    decoded = decode(body)
    assert as_sent(decoded) == sent
    encoder = wire.encoder(model="another", message_id="another")
    assert b"".join([*(encoder.feed([event]) for event in sent), encoder.close()]) == body
    answer = fold_answer(sent)
    again = fold_answer(ANSWERS.decode_answer(wire.encode_answer(answer)))
    assert (again.id, again.model, again.stop, again.usage) == (
        answer.id,
        answer.model,
        answer.stop,
        answer.usage,
    )
    assert [without_places(block) for block in again.blocks] == [
        without_places(block) for block in answer.blocks
    ]


def without_places(block: Any) -> tuple[Any, ...]:
    content = dict(block.content or {})
    return block.block_type, block.text_content, {k: v for k, v in content.items() if k != "input_json"}


@pytest.mark.requirement("D4", "P5")
def test_an_error_and_a_missing_end_are_encoded_as_such() -> None:
    failed = StreamError("throttling", "rate_limit_error", "slow down", 429)
    for wire in (WIRE, ARRAY_WIRE):
        encoder = wire.encoder(model="m", message_id="r1")
        body = encoder.feed([START, TextDelta(0, "a"), failed]) + encoder.close()
        assert decode(body)[-1] == failed
        encoder = wire.encoder(model="m", message_id="r1")
        body = encoder.feed([START, TextDelta(0, "a")]) + encoder.close()
        with pytest.raises(StreamIncomplete):
            decode(body)


@pytest.mark.requirement("E1")
def test_an_array_is_json() -> None:
    encoder = ARRAY_WIRE.encoder(model="m", message_id="r1")
    body = encoder.feed([START, TextDelta(0, "a"), MessageStop("end_turn")]) + encoder.close()
    assert [c["candidates"][0]["content"]["parts"] for c in json.loads(body)] == [
        [{"text": "a"}],
        [{"text": ""}],
    ]
    assert json.loads(ARRAY_WIRE.encoder(model="m", message_id="i").close()) == []


@pytest.mark.requirement("E1")
def test_an_answer_that_is_no_stream() -> None:
    body = end(
        {"text": "hm", "thought": True},
        {"text": "a"},
        call("f", {"x": 1}),
        usageMetadata={"promptTokenCount": 2},
    )
    whole = json.dumps(body).encode()
    assert ANSWERS.decode_answer(whole) == decode(sse(body))
    assert ANSWERS.decode_answer(json.dumps(chunk({"text": "a"})).encode())[-1] == MessageStop()
    for other in (b"", b"nonsense", b"[]", b"{}", whole[:-1], b'{"choices":[]}', b"[1]"):
        with pytest.raises(MalformedEvent):
            ANSWERS.decode_answer(other)
