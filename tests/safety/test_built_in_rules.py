"""Every built-in rule, in every kind of content, with every split: the result is that of the whole text."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.safety.prefixes import is_live
from turnstream.core.answers import fold_answer
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    MessageStop,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
    ToolInputDelta,
)
from turnstream.core.tool_results import ToolCallName, result_events
from turnstream.core.turn_events import Data, Source, ToolProgress
from turnstream.safety.event_redactor import EventRedactor
from turnstream.safety.redaction import Redaction
from turnstream.safety.rules import BUILT_IN_RULES, RedactionFilter
from turnstream.safety.text_redactor import TextRedactor, redact_text

ALL = RedactionFilter(tuple(BUILT_IN_RULES.values()))
SECRETS = {
    "private_key": "-----BEGIN RSA PRIVATE KEY-----\nMIIEow+/=\n-----END RSA PRIVATE KEY-----",
    "api_key": "sk-abcdefghijklmnop0123",
    "email": "bob.b+x@mail.example.org",
    "iban": "DE89 3704 0044 0532 0130 00",
    "card": "4111 1111 1111 1111",
    "phone": "+44 20 7946 0958",
}
KINDS = ["text", "thinking", "arguments", "free text", "result"]
Cut = Callable[[str], Sequence[str]]


def said(rule: str) -> str:
    return f"It is: {SECRETS[rule]} (hidden) 12 and x@y"


def answer(kind: str, text: str, cut: Cut) -> list[Any]:
    """Return an answer whose block of a kind has the text, in pieces."""
    call = {"tool_use_id": "1", "tool_name": "send"}
    match kind:
        case "text":
            start, piece = ContentBlockStart(0, "text"), TextDelta
        case "thinking":
            start, piece = ContentBlockStart(0, "thinking"), ThinkingDelta
        case "arguments":
            start, piece, text = (
                ContentBlockStart(0, "tool_use", call),
                ToolInputDelta,
                json.dumps({"to": text}),
            )
        case "free text":
            start, piece = ContentBlockStart(0, "tool_use", {**call, "free_text": "text"}), ToolInputDelta
        case _:
            return [
                *result_events(0, ToolCallName("1", "find"), text, is_error=False),
                MessageStop("end_turn"),
            ]
    pieces = (piece(0, part) for part in cut(text))
    return [start, *pieces, ContentBlockStop(0), MessageStop("tool_use")]


def shown(events: Sequence[Any], filter_: RedactionFilter) -> list[Any]:
    """Return the blocks of events that were redacted one by one."""
    redactor = EventRedactor(filter_)
    redacted: list[StreamEvent] = []
    for event in events:
        redacted += redactor.feed([event])  # type: ignore[arg-type]
    return [(block.block_type, block.text_content, block.content) for block in fold_answer(redacted).blocks]


@pytest.mark.requirement("K1")
@pytest.mark.parametrize("rule", BUILT_IN_RULES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_split_gives_what_the_whole_gives(rule: str, kind: str) -> None:
    filter_ = Redaction([rule]).shown
    assert filter_ is not None
    text = said(rule)
    whole = shown(answer(kind, text, lambda given: [given]), filter_)
    told = json.dumps(whole)
    assert f"[{rule}]" in told
    assert not any(part in told for part in (SECRETS[rule], SECRETS[rule][-8:]))
    for place in range(1, len(text)):

        def halves(given: str, place: int = place) -> list[str]:
            return [given[:place], given[place:]]

        assert shown(answer(kind, text, halves), filter_) == whole, place
    assert shown(answer(kind, text, list), filter_) == whole, "one character at a time"


@pytest.mark.requirement("K1")
@pytest.mark.parametrize("rule", BUILT_IN_RULES)
def test_titles_data_and_progress_are_redacted(rule: str) -> None:
    filter_ = Redaction([rule]).shown
    assert filter_ is not None
    text = said(rule)
    events = [Data("row", {"a": [text]}), Source("1", "https://x", text), ToolProgress("1", text)]
    told = repr(EventRedactor(filter_).feed(events))
    assert told.count(f"[{rule}]") == 3
    assert SECRETS[rule][-8:] not in told


FRAGMENTS = [
    *(piece for secret in SECRETS.values() for piece in re.findall(r".{1,7}", secret)),
    *(" ", "\n", ".", "@", "-", "+", "-----BEGIN ", "eyJ", "é", "a1"),
]


@pytest.mark.requirement("K1")
@settings(deadline=None)
@given(fragments=st.lists(st.sampled_from(FRAGMENTS), max_size=12), data=st.data())
def test_held_text_is_always_a_live_partial_match(fragments: list[str], data: st.DataObject) -> None:
    text = "".join(fragments)
    redactor, place, out = TextRedactor(ALL), 0, ""
    while place < len(text):
        size = data.draw(st.integers(1, 6))
        out += redactor.feed(text[place : place + size])
        place = min(place + size, len(text))
        held = redactor.held
        assert text[:place].endswith(held)
        if held:
            begin = place - len(held)
            assert any(is_live(rule.pattern, text[:place], begin) for rule in ALL.rules), held
    assert out + redactor.close() == redact_text(text, ALL)


def test_the_definition_of_a_live_match_is_not_empty() -> None:
    assert is_live("ab{2,3}c", "xab", 1)
    assert is_live("ab{2,3}c", "xabbc", 1)
    assert not is_live("ab{2,3}c", "xabbbb", 1)
    assert not is_live("ab{2,3}c", "xab", 0)
    assert is_live(r"\bab\b", "x ab", 2)
    assert not is_live(r"\bab\b", "xab", 1)
