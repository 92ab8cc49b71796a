"""Redaction of a source's events: any split of the content gives what the whole content gives."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from turnstream.core.accumulator import Accumulator
from turnstream.core.blocks import Block
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    ContentDelta,
    MessageStart,
    MessageStop,
    RedactContent,
    SignatureDelta,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
    ToolInputDelta,
)
from turnstream.core.tool_results import ToolCallName, result_events
from turnstream.core.turn_events import Data, Source, ToolProgress
from turnstream.safety.event_redactor import EventRedactor
from turnstream.safety.redaction import Redaction

FILTER = Redaction(["email", "card"]).shown
assert FILTER is not None
PIECES = ["bob@example.org", " 4111 1111 1111 1111", " 4111", ".", "@", "é", ' "x" \\ ', "hello ", "1111"]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=6).map("".join)


def cut(text: str, sizes: Sequence[int]) -> list[str]:
    """Return the text in pieces of `sizes`, which repeat."""
    pieces: list[str] = []
    while text:
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(text[:size])
        text = text[size:]
    return pieces


def answer(text: str, thinking: str, arguments: str, sizes: Sequence[int]) -> list[Any]:
    """Return the events of an answer with a block of each kind, in pieces."""
    return [
        MessageStart(),
        ContentBlockStart(0, "thinking"),
        *(ThinkingDelta(0, piece) for piece in cut(thinking, sizes)),
        SignatureDelta(0, "signed"),
        ContentBlockStop(0),
        ContentBlockStart(1, "text"),
        *(TextDelta(1, piece) for piece in cut(text, sizes)),
        ContentDelta(1, {"citations": [{"cited_text": "from bob@example.org", "type": "page"}]}),
        ContentBlockStop(1),
        ContentBlockStart(2, "tool_use", {"tool_use_id": "bob@example.org", "tool_name": "send"}),
        *(ToolInputDelta(2, piece) for piece in cut(json.dumps({"to": arguments}), sizes)),
        ContentBlockStop(2),
        MessageStop("tool_use"),
    ]


def folded(events: Sequence[Any]) -> list[Block]:
    """Return the blocks of events."""
    accumulator, blocks = Accumulator(), list[Block]()
    given: list[StreamEvent] = list(events)
    position = 0
    while True:
        position = accumulator.fold(given, position)
        if accumulator.finished is None:
            return blocks
        blocks.append(accumulator.finished)
        accumulator.release()


@given(text=TEXTS, thinking=TEXTS, arguments=TEXTS, sizes=st.lists(st.integers(1, 7), min_size=1, max_size=6))
def test_any_split_gives_the_same_blocks(text: str, thinking: str, arguments: str, sizes: list[int]) -> None:
    whole = EventRedactor(FILTER).feed(answer(text, thinking, arguments, [10_000]))
    redactor = EventRedactor(FILTER)
    split = [shown for event in answer(text, thinking, arguments, sizes) for shown in redactor.feed([event])]
    assert folded(split) == folded(whole)


def test_each_kind_of_content_is_redacted() -> None:
    secret = "mail bob@example.org"
    blocks = folded(EventRedactor(FILTER).feed(answer(secret, secret, secret, [3])))
    thinking, text, call = blocks
    assert (thinking.text_content, text.text_content) == ("mail [email]", "mail [email]")
    assert "signature" not in (thinking.content or {}), "the provider would refuse changed thinking"
    assert text.content == {"citations": [{"cited_text": "from [email]", "type": "page"}]}
    assert call.content is not None
    assert call.content["input"] == {"to": "mail [email]"}
    assert call.content["tool_use_id"] == "bob@example.org", "an id is not text"


def test_thinking_that_is_not_changed_keeps_its_signature() -> None:
    thinking = folded(EventRedactor(FILTER).feed(answer("", "plain thoughts", "", [2])))[0]
    assert thinking.content == {"signature": "signed"}


def test_values_that_are_whole_are_redacted() -> None:
    redactor = EventRedactor(FILTER)
    events = [
        Data("row", {"owner": ["bob@example.org"], "card": 4111111111111111}),
        Source("1", "https://example.org?u=bob@example.org", "of bob@example.org"),
        ToolProgress("1", "found bob@example.org"),
        RedactContent("user", "hidden: bob@example.org"),
        *result_events(0, ToolCallName("1", "find"), "it is bob@example.org", is_error=False),
    ]
    shown = redactor.feed(events)
    assert "bob@" not in repr(shown)
    assert shown[0] == Data("row", {"owner": ["[email]"], "card": "[card]"})


def test_free_text_of_a_call_is_plain_text() -> None:
    events = [
        ContentBlockStart(0, "tool_use", {"tool_use_id": "1", "tool_name": "x", "free_text": True}),
        ToolInputDelta(0, 'to "bob@example'),
        ToolInputDelta(0, '.org" now'),
        ContentBlockStop(0),
    ]
    shown = EventRedactor(FILTER).feed(events)
    assert "".join(event.partial_json for event in shown if isinstance(event, ToolInputDelta)) == (
        'to "[email]" now'
    )


def test_a_retraction_by_the_provider_drops_what_is_held_back() -> None:
    redactor = EventRedactor(FILTER)
    shown = redactor.feed([ContentBlockStart(0, "text"), TextDelta(0, "see bob@exam")])
    shown += redactor.feed([RedactContent("assistant", "gone"), ContentBlockStop(0)])
    assert "".join(event.text for event in shown if isinstance(event, TextDelta)) == "see "
