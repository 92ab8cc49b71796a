"""Markdown is styled as it streams, and any split of the text gives the same output."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnstream.cli.styling.markdown import MarkdownStyle

BOLD, ITALIC, CODE, DIM, OFF = "\x1b[1m", "\x1b[3m", "\x1b[36m", "\x1b[2m", "\x1b[0m"


def styled(*pieces: str) -> str:
    style = MarkdownStyle()
    return "".join(style.feed(piece) for piece in pieces) + style.close()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("# Title\n", f"{BOLD}Title{OFF}\n"),
        ("a **b** c\n", f"a {BOLD}b{OFF} c\n"),
        ("a *b* _c_\n", f"a {ITALIC}b{OFF} {ITALIC}c{OFF}\n"),
        ("`x * y` z\n", f"{CODE}x * y{OFF} z\n"),
        ("2 * 3, 2*3*4 and snake_case_name\n", "2 * 3, 2*3*4 and snake_case_name\n"),
        ("- one\n  * two\n", "• one\n  • two\n"),
        ("-not a list\n", "-not a list\n"),
        ("> said\n", f"{DIM}│ said{OFF}\n"),
        ("```py\nx = 1\n# no title\n```\nend\n", f"{CODE}x = 1{OFF}\n{CODE}# no title{OFF}\nend\n"),
        ("---\n", "─" * 40 + "\n"),
        ("**never closed\nnext\n", f"{BOLD}never closed{OFF}\nnext\n"),
        (r"\*plain\*", "*plain*"),
        ("1. first\n", "1. first\n"),
        ("", ""),
    ],
)
def test_markdown_is_styled(text: str, shown: str) -> None:
    assert styled(text) == shown


@given(st.text("ab *_`#->~+\n\\.1", max_size=60), st.lists(st.integers(0, 60), max_size=8))
def test_any_split_gives_the_same(text: str, cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(text)]
    pieces = [text[begin:end] for begin, end in itertools.pairwise(places)]
    whole = styled(text)
    assert styled(*pieces) == whole
    assert "\x1b" not in re.sub(r"\x1b\[[0-9;]*m", "", whole)
    assert not whole.count("\x1b[") or whole.rindex(OFF) == whole.rindex("\x1b["), "styles end"


def test_words_are_not_held_back() -> None:
    style = MarkdownStyle()
    assert style.feed("Hello wor") == "Hello wor"
    assert style.feed("ld") == "ld"
    assert style.feed("\n" + "-" * 1000) == "\n" + "-" * 1000, "a long line is text"
