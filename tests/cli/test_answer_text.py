"""Events as text, for a terminal and for a pipe."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnstream.cli.answer_text import AnswerText
from turnstream.cli.terminal import DIM, RESET, Piece, Screen

START = ("turn_start", {"turn_id": "t", "chat_id": "c"})


def start(index: int, kind: str = "text", **content: Any) -> tuple[str, dict[str, Any]]:
    return "block_start", {"block_index": index, "block_type": kind, "content": content or None}


def delta(index: int, text: str, kind: str = "text") -> tuple[str, dict[str, Any]]:
    field = "partial_json" if kind == "tool_use" else "text"
    return "block_delta", {"block_index": index, "block_type": kind, "delta": {field: text}}


def stop(index: int, kind: str = "text") -> tuple[str, dict[str, Any]]:
    return "block_stop", {"block_index": index, "block_type": kind}


def catchup(
    index: int, text: str, kind: str = "text", *, complete: bool = False
) -> tuple[str, dict[str, Any]]:
    data = {"block_index": index, "block_type": kind, "complete": complete, "accumulated_text": text}
    return "block_catchup", data


def written(events: Sequence[tuple[str, dict[str, Any]]]) -> tuple[str, str]:
    """Return the screen's text, and the text of the answer alone."""
    answer = AnswerText()
    pieces = [piece for name, data in events for piece in answer.feed(name, data)]
    pieces += answer.close()
    return "".join(piece.text for piece in pieces), "".join(piece.text for piece in pieces if not piece.aside)


THINKING_THEN_TEXT = [
    START,
    start(0, "thinking"),
    delta(0, "Hm", "thinking"),
    ("block_delta", {"block_index": 0, "block_type": "thinking", "delta": {"signature": "xyz"}}),
    stop(0, "thinking"),
    start(1),
    delta(1, "Hello "),
    delta(1, "there"),
    stop(1),
    ("turn_complete", {"stop_reason": "end_turn"}),
]


def test_thinking_stands_apart_and_is_no_part_of_the_answer():
    assert written(THINKING_THEN_TEXT) == ("Hm\n\nHello there\n", "Hello there\n")


def test_two_texts_have_a_blank_line_between_them():
    events = [
        START,
        start(0),
        delta(0, "one"),
        stop(0),
        start(1),
        delta(1, "two\n"),
        stop(1),
        start(2),
        delta(2, "3"),
    ]
    assert written(events)[1] == "one\n\ntwo\n\n3\n"


def test_a_tool_call_is_told_beside_the_answer():
    events = [
        START,
        start(0),
        delta(0, "Let me see."),
        stop(0),
        start(1, "tool_use", tool_use_id="i", tool_name="find"),
        delta(1, '{"a":', "tool_use"),
        delta(1, "1}", "tool_use"),
        stop(1, "tool_use"),
        start(2, "tool_result", tool_use_id="i", content="found it", is_error=False),
        stop(2, "tool_result"),
        start(3),
        delta(3, "Done."),
        stop(3),
    ]
    assert written(events) == (
        'Let me see.\n\n→ find {"a":1}\n← found it\n\n\nDone.\n',
        "Let me see.\n\nDone.\n",
    )


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (("notice", {"code": "draining", "message": "the server stops"}), "[the server stops]"),
        (("source", {"source_id": "1", "url": "http://x", "title": "X"}), "[source: X http://x]"),
        (("turn_complete", {"stop_reason": "max_tokens"}), "[ended early: max_tokens]"),
    ],
)
def test_asides_stand_on_lines_of_their_own_and_leave_the_answer_alone(
    event: tuple[str, dict[str, Any]], line: str
):
    events = [START, start(0), delta(0, "Hel"), event]
    screen, answer = written(events)
    assert screen == f"Hel\n{line}\n\n"
    assert answer == "Hel\n"


@pytest.mark.requirement("C3")
@given(
    text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30),
    cut=st.integers(min_value=0, max_value=30),
    lost=st.integers(min_value=0, max_value=5),
)
def test_a_resumed_stream_adds_only_what_is_missing(text: str, cut: int, lost: int):
    """A catch-up repeats text. The answer has it once."""
    shown, rest = text[:cut], text[cut:]
    events = [START, start(0), delta(0, shown), ("notice", {"code": "connection_lost", "message": "lost"})]
    events += [START, catchup(0, shown + rest[:lost]), delta(0, rest[lost:]), stop(0)]
    events += [catchup(0, text, complete=True)]
    assert written(events)[1].removesuffix("\n") == text.removesuffix("\n")


def test_a_block_that_was_shown_whole_is_not_shown_again():
    events = [*THINKING_THEN_TEXT[:-1], START, catchup(0, "Hm", "thinking", complete=True)]
    events += [catchup(1, "Hello there", complete=True)]
    assert written(events) == written(THINKING_THEN_TEXT)


def test_what_is_taken_back_is_said_to_be():
    events = [
        START,
        start(0),
        delta(0, "First try"),
        ("block_reset", {"block_index": 0}),
        start(0),
        delta(0, "Second"),
    ]
    screen, answer = written(events)
    assert screen.startswith("First try\n[the model starts again")
    assert answer == "First try\n\nSecond\n"


def test_a_catchup_that_says_something_else_replaces():
    screen, answer = written([START, start(0), delta(0, "abc"), catchup(0, "xyz")])
    assert screen == "abc\n[what follows replaces the text above]\n\n\nxyz\n"
    assert answer == "abc\n\nxyz\n"


@pytest.mark.requirement("C3")
def test_a_truncated_block_goes_on_from_what_was_kept():
    truncated = ("notice", {"code": "truncated", "message": "gone", "block_index": 0})
    screen, _ = written([START, start(0), delta(0, "abcdef"), truncated, catchup(0, "abc", complete=True)])
    assert screen.startswith("abcdef\n[gone]\n")


def test_many_deltas_cost_the_same_each():
    answer = AnswerText()
    answer.feed(*start(0))
    for _ in range(200_000):
        answer.feed(*delta(0, "word "))
    assert answer.feed(*catchup(0, "word " * 200_001)) == [Piece("word ", markdown=True)]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_pipe_gets_the_text_as_it_is():
    answers, asides = io.StringIO(), io.StringIO()
    Screen(answers, asides).write([Piece("a\x1b[2Jb"), Piece("thought", aside=True)])
    assert (answers.getvalue(), asides.getvalue()) == ("a\x1b[2Jb", "thought")


def test_a_terminal_is_dimmed_beside_the_answer_and_obeys_no_model():
    answers, asides = Terminal(), Terminal()
    Screen(answers, asides).write([Piece("a\x1b[2J\r\n\tb\x9b"), Piece("thought", aside=True)])
    assert answers.getvalue() == "a␛[2J\n\tb\ufffd"
    assert asides.getvalue() == f"{DIM}thought{RESET}"
