"""Nothing that a model says reaches the terminal as a command."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from turnstream.terminal.printable import printable, printable_line

UNSAFE = {"Cc", "Cs"}
ATTACKS = "\x1b]52;c;aGk=\x07\x1b[2J\x9b31m\u202e\u2066\U000e0041\u200f\x00\x7f\r"


@given(st.text() | st.text(alphabet=ATTACKS))
def test_no_control_character_remains(text: str) -> None:
    shown = printable(text)
    assert not [each for each in shown if unicodedata.category(each) in UNSAFE and each not in "\n\t"]
    assert not [
        each
        for each in shown
        if unicodedata.bidirectional(each) in {"RLO", "LRO", "RLI", "LRI", "FSI", "PDI", "RLE", "LRE", "PDF"}
    ]


@given(st.text(), st.text())
def test_the_result_does_not_depend_on_the_split(first: str, second: str) -> None:
    assert printable(first) + printable(second) == printable(first + second)


@given(st.text(max_size=2_000), st.integers(2, 300))
def test_a_line_is_one_line_within_its_limit(text: str, limit: int) -> None:
    line = printable_line(text, limit)
    assert len(line) <= limit
    assert len(line.splitlines()) <= 1


def test_plain_text_of_all_scripts_stays_as_it_is() -> None:
    text = "Grüße 👩‍👩‍👧‍👦 🇪🇺 नमस्ते 你好 שלום\n\tcode"
    assert printable(text) == text
