"""Markdown is split into sections, and no text is lost."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from turnstream.terminal import sections
from turnstream.terminal.sections import SectionSplitter

LINES = st.lists(
    st.sampled_from(
        ["word " * 40 + "\n", "\n", "```python\n", "```\n", "~~~\n", "- item\n", "x = 1\n", "tail"]
    ),
    min_size=1,
    max_size=400,
)


def split(pieces: list[str]) -> list[str]:
    splitter, found = SectionSplitter(), []
    for piece in pieces:
        for growth in splitter.feed(piece):
            if growth.begins:
                found.append(growth.text)
            else:
                found[-1] += growth.text
    return found


@given(LINES, st.integers(1, 700))
def test_sections_do_not_depend_on_the_pieces(lines: list[str], size: int) -> None:
    text = "".join(lines)
    whole = split([text])
    assert split([text[start : start + size] for start in range(0, len(text), size)]) == whole
    assert max(map(len, whole)) <= sections.LONGEST_LINE + 20


@given(LINES)
def test_sections_have_the_whole_text(lines: list[str]) -> None:
    text = "".join(lines)
    without_fences = re.sub(r"(?m)^(```|~~~).*\n?", "", "".join(split([text])))
    assert without_fences.replace("\n", "") == re.sub(r"(?m)^(```|~~~).*\n?", "", text).replace("\n", "")


def test_long_code_continues_in_the_next_section() -> None:
    found = split(["```python\n" + "value = 1\n" * 2_000 + "```\nafter\n"])
    assert len(found) >= 3
    assert all(section.startswith("```python\n") for section in found)
    assert all(section.endswith("```\n") for section in found[:-1])
    assert found[-1].endswith("```\nafter\n")


def test_a_line_without_end_is_split_too() -> None:
    found = split(["x" * 50_000])
    assert "".join(found) == "x" * 50_000
    assert max(map(len, found)) == sections.LONGEST_LINE
