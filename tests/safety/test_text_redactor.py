"""Redaction of texts in pieces: any pieces give what the whole text gives, and that is what `re` finds."""

from __future__ import annotations

import re
from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from turnstream.errors import ConfigurationError
from turnstream.safety.rules import RedactionFilter, RedactionRule
from turnstream.safety.text_redactor import TextRedactor, redact_text

ALPHABET = "ab1 -"
TEXTS = st.text(ALPHABET, max_size=14)

PIECES = st.sampled_from(
    ["a", "b", "1", " ", r"\d", r"\w", r"\s", ".", "[ab]", "[^a]", r"\b", r"\B", "^", "$", r"[\w-]", "-"]
)


def repeated(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Patterns that repeat an inner one."""
    counts = st.sampled_from(["?", "{2}", "{1,3}", "{0,2}", "{,2}"])
    return st.builds(
        "(?:{}){}".format, inner.filter(lambda text: text not in (r"\b", r"\B", "^", "$")), counts
    )


PATTERNS = st.recursive(
    PIECES,
    lambda inner: (
        st.builds("{}{}".format, inner, inner) | st.builds("(?:{}|{})".format, inner, inner) | repeated(inner)
    ),
    max_leaves=6,
)


def filter_of(*patterns: str) -> RedactionFilter | None:
    """Return a filter of the patterns, or None if one matches the empty text."""
    rules = [RedactionRule(f"R{number}", pattern) for number, pattern in enumerate(patterns)]
    try:
        return RedactionFilter(tuple(rules))
    except ConfigurationError as error:
        if "empty text" not in str(error):
            raise
        return None


def matches_at(pattern: str, text: str, begin: int, end: int) -> bool:
    """Return True if the pattern matches exactly the text from `begin` to `end`, at its place."""
    rest = len(text) - end
    exact = re.compile(rf"(?:{pattern})(?=(?s:.{{{rest}}})\Z)")
    return exact.match(text, begin) is not None


def expected(text: str, patterns: tuple[str, ...]) -> str:
    """Return the redacted text by the definition: the first, the longest, the first rule."""
    shown, place = "", 0
    while place < len(text):
        found = next(
            (
                (end, number)
                for end in range(len(text), place, -1)
                for number, pattern in enumerate(patterns)
                if matches_at(pattern, text, place, end)
            ),
            None,
        )
        if found is None:
            shown += text[place]
            place += 1
        else:
            place, number = found
            shown += f"[R{number}]"
    return shown


@given(patterns=st.tuples(PATTERNS, PATTERNS), text=TEXTS)
def test_a_whole_text_is_redacted_as_regular_expressions_say(patterns: tuple[str, str], text: str) -> None:
    redaction = filter_of(*patterns)
    if redaction is not None:
        assert redact_text(text, redaction) == expected(text, patterns)


@given(patterns=st.tuples(PATTERNS, PATTERNS), text=TEXTS, data=st.data())
def test_any_pieces_give_what_the_whole_gives(
    patterns: tuple[str, str], text: str, data: st.DataObject
) -> None:
    redaction = filter_of(*patterns)
    if redaction is None:
        return
    redactor, shown, place = TextRedactor(redaction), "", 0
    while place < len(text):
        size = data.draw(st.integers(1, 4))
        shown += redactor.feed(text[place : place + size])
        place += size
    assert shown + redactor.close() == redact_text(text, redaction)


@given(pattern=PATTERNS.filter(lambda pattern: not re.search(r"\\[bB]|\^(?!a)|\$", pattern)), text=TEXTS)
def test_text_is_held_only_while_it_may_become_a_match(pattern: str, text: str) -> None:
    redaction = filter_of(pattern)
    if redaction is None:
        return
    redactor = TextRedactor(redaction)
    redactor.feed(text)
    held = redactor.held
    if not held:
        return
    begin = len(text) - len(held)
    extensions = ("".join(letters) for length in range(7) for letters in product(ALPHABET, repeat=length))
    assert any(
        matches_at(pattern, text + more, begin, end)
        for more in extensions
        for end in range(begin + 1, len(text + more) + 1)
    )
