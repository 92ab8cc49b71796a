"""Ollama's protocol from events to bytes. The decoder gives the same events again."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wires.ollama.lines import PNG, START, decode
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    MessageStop,
    Metadata,
    StreamError,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
    ToolInputDelta,
)
from turnstream.core.usage import Usage
from turnstream.errors import (
    EventTooLarge,
)
from turnstream.wires.ollama.lines import LineDecoder
from turnstream.wires.ollama.wire import WIRE
from turnstream.wires.recording import decode_pieces

# --- both ways ----------------------------------------------------------------------------------------------

LINE_ENDS = "\x85\u2028\u2029"
any_text = st.text(min_size=1, max_size=10)
json_objects = st.dictionaries(
    st.text(max_size=4), st.none() | st.integers(-9, 9) | st.text(max_size=5) | st.lists(st.booleans(), max_size=2),
    max_size=3,
)  # fmt: skip


def arguments_on_one_line(value: dict[str, Any]) -> str:
    """Arguments as this wire carries them. Characters that end a line for some readers are escaped. The
    decoder keeps the text."""
    written = json.dumps(value, ensure_ascii=False)
    for character in LINE_ENDS:
        written = written.replace(character, f"\\u{ord(character):04x}")
    return written


@st.composite
def canonical_messages(draw: st.DrawFn) -> list[StreamEvent]:
    """Events of an answer as the decoder gives them: texts and thinking that alternate, calls and images
    anywhere."""
    events: list[StreamEvent] = [START]
    kinds = draw(st.lists(st.sampled_from(["text", "thinking", "tool_use", "image"]), max_size=6))
    kinds = [kind for kind, _ in itertools.groupby(kinds)]
    for index, kind in enumerate(kinds):
        if kind in ("text", "thinking"):
            delta = TextDelta if kind == "text" else ThinkingDelta
            events.append(ContentBlockStart(index, kind))
            events.extend(delta(index, piece) for piece in draw(st.lists(any_text, min_size=1, max_size=3)))
        elif kind == "image":
            events.append(ContentBlockStart(index, "image", {"media_type": "image/png", "data": PNG}))
        else:
            content = {"tool_use_id": f"c{index}", "tool_name": draw(st.text(max_size=5))}
            arguments = draw(json_objects.map(arguments_on_one_line) | st.just('{ "a":  1.50}'))
            events += [ContentBlockStart(index, "tool_use", content), ToolInputDelta(index, arguments)]
        events.append(ContentBlockStop(index))
    if draw(st.booleans()):
        counts = {"eval_count": draw(st.integers(0, 99)), "total_duration": draw(st.integers(0, 10**12))}
        usage = Usage(output_tokens=counts["eval_count"])
        events.append(Metadata(usage, counts, latency_ms=counts["total_duration"] / 1_000_000))
    if "tool_use" in kinds:
        return [*events, MessageStop("tool_use", "stop")]
    return [
        *events,
        draw(st.sampled_from([MessageStop("end_turn", "stop"), MessageStop("max_tokens", "length")])),
    ]


@pytest.mark.requirement("E1")
@settings(max_examples=150, deadline=None)
@given(canonical_messages(), st.integers(1, 30))
def test_what_is_encoded_decodes_to_itself(events: list[StreamEvent], size: int) -> None:
    encoder = WIRE.encoder(model="other", message_id="i")
    body = b"".join([encoder.feed([event]) for event in events]) + encoder.close()
    assert decode(body) == events
    decoder = WIRE.decoder()
    pieces = [decoder.feed(body[at : at + size]) for at in range(0, len(body), size)]
    assert [event for piece in pieces for event in piece] + decoder.close() == events
    for item in body.decode().splitlines():
        json.loads(item)


pieces_of_lines = st.sampled_from(
    [
        b"{}\n",
        b"a\n",
        b" b \r\n",
        b"\n",
        b" \r\n",
        b"c",
        b"d\ne\n",
        b"f\ng",
        b"\xef\xbb\xbf",
        b"h" * 20 + b"\n",
    ]
)


@pytest.mark.requirement("E4")
@given(st.lists(pieces_of_lines, max_size=12), st.sampled_from([12, 1000]))
def test_lines_do_not_depend_on_the_reads(reads: list[bytes], limit: int) -> None:
    body = b"".join(reads)
    expected = [line.strip(b" \t\r") for line in body.removeprefix(b"\xef\xbb\xbf").split(b"\n")]
    too_long = [len(line) > limit for line in body.split(b"\n")]
    if True in too_long:
        expected = expected[: too_long.index(True)]
    found: list[bytes] = []
    decoder = LineDecoder(limit=limit)
    try:
        for read in reads:
            found.extend(decoder.feed(read))
        found.append(decoder.close())
    except EventTooLarge:
        assert True in too_long
    else:
        assert True not in too_long
    assert [line for line in found if line] == [line for line in expected if line]


@pytest.mark.requirement("E1", "E4")
@pytest.mark.parametrize("character", LINE_ENDS)
def test_no_line_is_broken_by_what_some_readers_take_for_its_end(character: str) -> None:
    said = f"a{character}b"
    encoder = WIRE.encoder(model=said, message_id="i")
    events: list[StreamEvent] = [
        *(ContentBlockStart(0, "text"), TextDelta(0, said), ContentBlockStop(0)),
        ContentBlockStart(1, "tool_use", {"tool_use_id": said, "tool_name": said}),
        *(ToolInputDelta(1, json.dumps({said: said}, ensure_ascii=False)), ContentBlockStop(1)),
        MessageStop("tool_use", "stop"),
    ]
    body = encoder.feed(events) + encoder.close()
    assert [json.loads(line)["model"] for line in body.decode().splitlines()] == [said] * 3
    decoded = decode_pieces(WIRE, [body])["blocks"]
    assert decoded[0]["text_content"] == said
    assert decoded[1]["content"]["input"] == {said: said}
    assert decoded[1]["content"]["tool_name"] == said


@pytest.mark.requirement("D4")
@pytest.mark.parametrize(
    "code", ["rate_limit_error", "overloaded_error", "api_error", "authentication_error"]
)
def test_an_error_is_encoded_as_a_line(code: str) -> None:
    encoder = WIRE.encoder(model="m", message_id="i")
    body = encoder.feed([START, ContentBlockStart(0, "text"), TextDelta(0, "a")])
    body += encoder.feed([StreamError("internal_server", code, "no more")])
    assert encoder.close() == b""
    last = decode(body)[-1]
    assert isinstance(last, StreamError)
    assert (last.code, last.message) == (code, "no more")


@pytest.mark.requirement("P5")
def test_without_a_stop_no_line_is_done() -> None:
    encoder = WIRE.encoder(model="m", message_id="i")
    body = encoder.feed([START, TextDelta(0, "a"), ContentBlockStart(1, "tool_use", {"tool_name": "f"})])
    assert b'"done":true' not in body + encoder.close()
    assert b"tool_calls" not in body
