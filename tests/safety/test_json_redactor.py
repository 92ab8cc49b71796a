"""Redaction of JSON text in pieces."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnstream.safety.json_redactor import JsonRedactor, redact_value
from turnstream.safety.rules import BUILT_IN_RULES, RedactionFilter, RedactionRule

BUILT_IN = RedactionFilter(tuple(BUILT_IN_RULES.values()))
SMALL = RedactionFilter((RedactionRule("hidden", "1a?2"), RedactionRule("quoted", '"b{1,3}"')))

STRINGS = st.text('12a"\\b\n é😀/', max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-200, 3000) | STRINGS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(STRINGS, inner, max_size=3),
    max_leaves=8,
)


def redacted(text: str, redaction: RedactionFilter, sizes: list[int]) -> str:
    """Return JSON text that was redacted in pieces of `sizes`, which repeat."""
    redactor, shown, place, turn = JsonRedactor(redaction), "", 0, 0
    while place < len(text):
        size = sizes[turn % len(sizes)]
        shown += redactor.feed(text[place : place + size])
        place, turn = place + size, turn + 1
    return shown + redactor.close()


@given(value=VALUES, is_ascii=st.booleans(), sizes=st.lists(st.integers(1, 5), min_size=1, max_size=5))
def test_any_pieces_of_json_give_the_redacted_value(value: Any, is_ascii: bool, sizes: list[int]) -> None:
    text = json.dumps(value, ensure_ascii=is_ascii)
    assert json.loads(redacted(text, SMALL, sizes)) == redact_value(value, SMALL)


@given(text=st.text('{}[]",:\\u12ab0de.-tfn ', max_size=30), sizes=st.lists(st.integers(1, 5), min_size=1))
def test_text_that_is_not_json_gives_the_same_in_any_pieces(text: str, sizes: list[int]) -> None:
    assert redacted(text, SMALL, sizes) == redacted(text, SMALL, [len(text) or 1])


@pytest.mark.parametrize("size", [1, 2, 3, 5, 1000])
def test_escapes_do_not_hide_a_match(size: int) -> None:
    text = r'{"to": "bob\u0040example.org", "card": 4111111111111111, "note": "\ud83d\ude00 a\/b"}'
    assert json.loads(redacted(text, BUILT_IN, [size])) == {
        "to": "[email]",
        "card": "[card]",
        "note": "😀 a/b",
    }
