"""Messages put together by hand, and the accumulator for several threads."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

import turnstream as ts
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    MessageStart,
    MessageStop,
    Metadata,
    StreamError,
    StreamEvent,
    TextDelta,
    ToolInputDelta,
)
from turnstream.wires import WIRES

pytestmark = pytest.mark.requirement("F2")

EVENTS: list[StreamEvent] = [
    MessageStart("msg_1", "some-model"),
    ContentBlockStart(0, "text"),
    TextDelta(0, "Let me "),
    TextDelta(0, "look."),
    ContentBlockStop(0),
    ContentBlockStart(1, "tool_use", {"tool_use_id": "t1", "tool_name": "look"}),
    ToolInputDelta(1, '{"what":'),
    ToolInputDelta(1, '"sky"}'),
    ContentBlockStop(1),
    Metadata(ts.Usage(5, 7)),
    MessageStop("tool_use"),
]


def test_a_message_grows_event_by_event() -> None:
    assembler = ts.MessageAssembler()
    seen: list[tuple[bool, str, object]] = []
    for event in EVENTS:
        assembler.feed(event)
        call = assembler.last_tool_call
        seen.append((assembler.is_complete, assembler.current_message.text, call and call.arguments))
    assert [text for _, text, _ in seen[:5]] == ["", "", "Let me ", "Let me look.", "Let me look."]
    assert [call for _, _, call in seen] == [None] * 8 + [{"what": "sky"}] * 3
    assert [complete for complete, _, _ in seen] == [False] * 10 + [True]
    message = assembler.current_message
    assert (message.model, message.stop_reason, message.complete) == ("some-model", "tool_use", True)
    assert message.usage == assembler.usage == ts.Usage(5, 7)
    assert message.steps[0].message_id == "msg_1"
    assert assembler.close() == []


@pytest.mark.parametrize("wire", list(WIRES))
@given(cuts=st.lists(st.integers(0, 2000), max_size=6))
def test_bytes_of_any_wire_cut_anywhere_give_the_same_message(wire: str, cuts: list[int]) -> None:
    encoder = WIRES[wire].encoder(model="some-model", message_id="msg_1")
    body = encoder.feed(EVENTS) + encoder.close()
    places = [0, *sorted(cut for cut in cuts if cut < len(body)), len(body)]
    assembler = ts.MessageAssembler(wire=wire)
    for start, end in zip(places, places[1:], strict=False):  # noqa: RUF007
        assembler.feed_bytes(body[start:end])
    assembler.close()
    assert assembler.is_complete
    assert assembler.current_message.text == "Let me look."
    call = assembler.last_tool_call
    assert call is not None
    assert (call.name, call.arguments) == ("look", {"what": "sky"})


def test_an_answer_that_breaks_off_is_kept_and_never_complete() -> None:
    assembler = ts.MessageAssembler()
    assembler.feed(*EVENTS[:7])
    events = assembler.close()
    assert isinstance(events[-1], ts.BlockStop)
    assert events[-1].partial
    message = assembler.current_message
    assert not message.complete
    assert message.text == "Let me look."
    call = assembler.last_tool_call
    assert call is not None
    assert (call.arguments, call.error) == (None, "the call was cut off")


def test_bytes_that_break_off_are_kept_too() -> None:
    encoder = WIRES["anthropic"].encoder(model="m", message_id="i")
    assembler = ts.MessageAssembler(wire="anthropic")
    assembler.feed_bytes(encoder.feed(EVENTS[:4]))
    with pytest.raises(ts.StreamIncomplete):
        assembler.close()
    assert assembler.current_message.text == "Let me look."
    assert assembler.current_message.blocks[0].partial


def test_what_the_provider_reports_is_raised_with_the_message_so_far() -> None:
    assembler = ts.MessageAssembler()
    assembler.feed(*EVENTS[:4])
    with pytest.raises(ts.Overloaded) as raised:
        assembler.feed(StreamError("service_unavailable", "overloaded_error", "too many"))
    assert raised.value.retryable
    assert raised.value.partial is not None
    assert raised.value.partial.text == "Let me look."
    assert not assembler.is_complete


def test_mistakes_are_told() -> None:
    with pytest.raises(ts.ConfigurationError, match="no wire 'fax'"):
        ts.MessageAssembler(wire="fax")
    with pytest.raises(TypeError, match="the wire of these bytes"):
        ts.MessageAssembler().feed_bytes(b"")


@pytest.mark.requirement("B6")
def test_several_threads_may_feed_and_ask() -> None:
    assembler = ts.MessageAssembler()
    threads, pieces = 4, 500
    together = threading.Barrier(threads + 1)

    def feed(index: int) -> None:
        together.wait(10)
        assembler.feed(ContentBlockStart(index, "text"))
        for _ in range(pieces):
            assembler.feed(TextDelta(index, "x"))
        assembler.feed(ContentBlockStop(index))

    running = [threading.Thread(target=feed, args=(index,)) for index in range(threads)]
    for thread in running:
        thread.start()
    together.wait(10)
    while any(thread.is_alive() for thread in running):
        message = assembler.current_message
        assert set(message.text) <= {"x"}
        assert assembler.statistics.length >= len(message.text)
    for thread in running:
        thread.join(10)
    assembler.feed(MessageStop("end_turn"))
    assembler.close()
    message = assembler.current_message
    assert len(message.text) == threads * pieces
    statistics = assembler.statistics
    assert (statistics.chunks, statistics.length, statistics.complete) == (
        threads * pieces,
        threads * pieces,
        True,
    )
    assert statistics.duration >= 0
    assert statistics.started_at is not None
    assert statistics.updated_at is not None


@pytest.mark.requirement("B6")
def test_the_accumulator_for_threads_is_at_hand() -> None:
    accumulator = ts.SharedAccumulator()
    changes, blocks = accumulator.feed(EVENTS, now=1.0)
    assert len(blocks) == 2
    assert isinstance(changes[-1], ts.BlockStop)
    assert accumulator.statistics.chunks == 4
