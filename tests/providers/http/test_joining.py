"""A call replaces a broken one. For every shown text and every repetition of it, the folded blocks are
whole."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from turnstream.core.accumulator import Accumulator
from turnstream.core.blocks import Block
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    MessageStart,
    MessageStop,
    SignatureDelta,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
    ToolInputDelta,
)
from turnstream.core.turn_events import BlockReset
from turnstream.errors import StreamBroken
from turnstream.providers.joining import ContinuationJoint, Joint, RepetitionJoint, RestartJoint
from turnstream.providers.prefill import SHORTEST_REPETITION, kept_of, without_repetition


class Folded:
    """Calls of one step, folded in a row like those of a turn's executor."""

    def __init__(self) -> None:
        self.accumulator = Accumulator()
        self.stored: list[Block] = []

    @property
    def shown(self) -> list[Block]:
        block = self.accumulator.shown
        return [*self.stored, *([block.finish(partial=True)] if block is not None else ())]

    @property
    def texts(self) -> list[str]:
        return [block.text_content or "" for block in self.shown]

    def feed(self, events: Sequence[StreamEvent | BlockReset]) -> None:
        for event in events:
            if isinstance(event, BlockReset):
                self.accumulator.retract(event.block_index)
                del self.stored[event.block_index :]
                continue
            position = 0
            while True:
                position = self.accumulator.fold([event], position)
                self.accumulator.take_changes()
                if self.accumulator.finished is None:
                    break
                self.stored.append(self.accumulator.finished)
                self.accumulator.release()

    def join(self, joint: Joint, events: Sequence[StreamEvent], cuts: Sequence[int] = ()) -> None:
        """Feed another call, in batches cut at `cuts`, and end it."""
        self.accumulator.resume()
        edges = sorted({0, len(events), *(cut % (len(events) + 1) for cut in cuts)})
        for start, end in pairwise(edges):
            self.feed(joint.join(events[start:end]))
        self.accumulator.end()
        self.feed([])
        position = self.accumulator.fold([], 0)
        assert position == 0
        while self.accumulator.finished is not None:
            self.stored.append(self.accumulator.finished)
            self.accumulator.release()


def begun(index: int, kind: str, *pieces: str, whole: bool = True) -> list[StreamEvent]:
    delta = {"text": TextDelta, "thinking": ThinkingDelta, "tool_use": ToolInputDelta}[kind]
    content = {"tool_use_id": f"call {index}", "tool_name": "look"} if kind == "tool_use" else None
    start = ContentBlockStart(index, kind, content)  # type: ignore[arg-type]
    stop = [ContentBlockStop(index)] if whole else []
    return [start, *(delta(index, piece) for piece in pieces), *stop]


def answer(*blocks: list[StreamEvent]) -> list[StreamEvent]:
    return [MessageStart("m"), *(event for block in blocks for event in block), MessageStop("end_turn")]


WORDS = st.text("ab \n.é🙂", min_size=1, max_size=30)
CUTS = st.lists(st.integers(0, 50), max_size=6)


def in_pieces(text: str, cuts: Sequence[int]) -> list[str]:
    """The text cut anywhere, also within a surrogate pair, like a provider that escapes each half."""
    units = [text.encode("utf-16-le")[at : at + 2] for at in range(0, len(text.encode("utf-16-le")), 2)]
    edges = sorted({0, len(units), *(cut % (len(units) + 1) for cut in cuts)})
    pieces = [b"".join(units[start:end]) for start, end in pairwise(edges)]
    return [piece.decode("utf-16-le", "surrogatepass") for piece in pieces]


@pytest.mark.requirement("J4")
@given(st.text("ab \n.é🙂", min_size=1, max_size=120), st.integers(0, 119), CUTS, CUTS)
def test_a_text_that_goes_on_is_whole(text: str, at: int, cuts: list[int], batches: list[int]) -> None:
    """The model continues the given text, which does not end with white space."""
    shown = text[: at % len(text)]
    folded = Folded()
    folded.feed([MessageStart("m"), *begun(3, "text", shown, whole=False)])
    kept = kept_of(folded.shown)
    if kept is None:
        assert not shown.strip()
        return
    assert (kept.is_open, kept.retract_from) == (True, None)
    given_back = "".join(block.text_content or "" for block in kept.message.blocks)
    assert given_back == shown.rstrip()
    rest = text[len(given_back) :]
    # One that begins as the whole text does, at some length, is taken for a repetition: not what is meant
    # here.
    assume(len(given_back) < SHORTEST_REPETITION or not rest.startswith(given_back))
    folded.join(ContinuationJoint(kept), answer(begun(0, "text", *in_pieces(rest, cuts))), batches)
    assert folded.texts == [text]
    assert not folded.shown[0].partial


@pytest.mark.requirement("J4")
@given(st.text("abcdefg hij\n🙂", min_size=SHORTEST_REPETITION, max_size=80), WORDS, CUTS, CUTS)
def test_a_model_that_repeats_what_it_was_given_does_not_double_it(
    shown: str, more: str, cuts: list[int], batches: list[int]
) -> None:
    assume(len(shown.rstrip()) >= SHORTEST_REPETITION)
    folded = Folded()
    folded.feed([MessageStart("m"), *begun(0, "text", shown, whole=False)])
    kept = kept_of(folded.shown)
    assert kept is not None
    folded.join(ContinuationJoint(kept), answer(begun(0, "text", *in_pieces(shown + more, cuts))), batches)
    assert folded.texts == [shown + more]


@pytest.mark.parametrize(
    ("shown", "said", "is_all", "new"),
    [
        ("One. ", " Two.", False, "Two."),
        ("One. ", "Two.", False, "Two."),
        ("One.\n\n", "\nTwo.", False, "Two."),
        ("One.\n\n", "\n", False, None),
        ("One.\n\n", "\n", True, ""),
        ("One.", " Two.", False, " Two."),
        ("Too short to tell", "Too short to tell", True, "Too short to tell"),
        ("This is long enough to be told by.", "This is long", False, None),
        ("This is long enough to be told by.", "This is long", True, "This is long"),
        ("This is long enough to be told by.", "This is long enough, and another.", False, "This is long enough, and another."),
    ],
)  # fmt: skip
def test_what_is_new_in_what_a_model_says(shown: str, said: str, is_all: bool, new: str | None) -> None:
    assert without_repetition(shown, said, is_all=is_all) == new


@pytest.mark.requirement("J4")
def test_thinking_and_calls_that_broke_off_are_taken_back() -> None:
    folded = Folded()
    said = [*begun(0, "thinking", "hm", whole=True), *begun(1, "text", "Let me see. ")]
    folded.feed(
        [
            MessageStart("m"),
            *said,
            *begun(2, "tool_use", '{"a": 1}'),
            *begun(3, "tool_use", '{"b', whole=False),
        ]
    )
    kept = kept_of(folded.shown)
    assert kept is not None
    assert (kept.is_open, kept.retract_from, [b.text_content for b in kept.blocks]) == (
        False,
        2,
        ["Let me see."],
    )
    folded.join(ContinuationJoint(kept), answer(begun(0, "tool_use", '{"a": 2}')))
    assert [block.block_type for block in folded.shown] == ["thinking", "text", "tool_use"]
    assert [block.sequence for block in folded.shown] == [0, 1, 2]
    assert (folded.shown[2].content or {})["input"] == {"a": 2}


@pytest.mark.requirement("J4")
def test_nothing_is_taken_back_before_there_is_something_in_its_place() -> None:
    folded = Folded()
    folded.feed([MessageStart("m"), *begun(0, "thinking", "hm", whole=False)])
    assert kept_of(folded.shown) is None
    folded.accumulator.resume()
    joint = RestartJoint(0)
    folded.feed(joint.join([MessageStart("n")]))
    assert folded.texts == ["hm"]
    folded.feed(joint.join(begun(0, "text", "Anew", whole=False)))
    assert folded.texts == ["Anew"]
    assert [block.sequence for block in folded.shown] == [0]


def test_a_model_that_has_nothing_more_to_say_ends_the_block() -> None:
    folded = Folded()
    folded.feed([MessageStart("m"), *begun(0, "text", "All of it.", whole=False)])
    kept = kept_of(folded.shown)
    assert kept is not None
    folded.join(ContinuationJoint(kept), [MessageStart("n"), MessageStop("end_turn")])
    assert (folded.texts, folded.shown[0].partial) == (["All of it."], False)


def test_a_model_that_goes_on_with_a_call_ends_the_text_first() -> None:
    folded = Folded()
    folded.feed([MessageStart("m"), *begun(0, "text", "Let me see.", whole=False)])
    kept = kept_of(folded.shown)
    assert kept is not None
    folded.join(ContinuationJoint(kept), answer(begun(0, "tool_use", "{}"), begun(1, "text", "after")))
    assert [block.block_type for block in folded.shown] == ["text", "tool_use", "text"]
    assert folded.texts == ["Let me see.", "", "after"]


BLOCKS = st.lists(st.tuples(st.sampled_from(["text", "thinking", "tool_use"]), WORDS), min_size=1, max_size=4)


def told(blocks: Sequence[tuple[str, str]], cuts: Sequence[int] = ()) -> list[StreamEvent]:
    return answer(*(begun(index, kind, *in_pieces(text, cuts)) for index, (kind, text) in enumerate(blocks)))


@pytest.mark.requirement("J4")
@given(BLOCKS, st.integers(0, 40), CUTS, CUTS)
def test_what_is_repeated_word_for_word_is_passed_over(
    blocks: list[tuple[str, str]], at: int, cuts: list[int], batches: list[int]
) -> None:
    whole = Folded()
    whole.join(RestartJoint(0), told(blocks))
    folded = Folded()
    events = told(blocks, cuts)
    folded.feed(events[: 1 + at % (len(events) - 1)])
    shown = folded.shown
    folded.join(RepetitionJoint(shown), told(blocks, batches), cuts)
    assert folded.shown == whole.shown


@pytest.mark.requirement("J4")
@given(BLOCKS, st.integers(0, 40), st.integers(0, 200))
def test_what_is_not_repeated_word_for_word_is_an_error(
    blocks: list[tuple[str, str]], at: int, change: int
) -> None:
    folded = Folded()
    events = told(blocks)
    folded.feed(events[: 1 + at % (len(events) - 1)])
    shown = folded.shown
    place = change % max(1, len(shown))
    text = blocks[place][1]
    seen = "".join(
        str(b.text_content or (b.content or {}).get("input_json") or "") for b in shown[place : place + 1]
    )
    assume(seen)
    other = chr(ord(seen[0]) + 1) + text[1:]
    with pytest.raises(StreamBroken) as raised:
        folded.join(
            RepetitionJoint(shown), told([*blocks[:place], (blocks[place][0], other), *blocks[place + 1 :]])
        )
    assert (raised.value.code, raised.value.retryable) == ("cannot_continue", False)


@pytest.mark.parametrize(
    "other",
    [
        answer(begun(0, "text", "Shown")),
        answer(begun(0, "thinking", "Shown"), begun(1, "text", "and")),
        answer(begun(0, "text", "Shown and more"), begun(1, "text", "and")),
        answer(begun(0, "text", "Shown"), begun(1, "text", "an")),
        [MessageStart("n"), MessageStop("end_turn")],
    ],
)
def test_a_repetition_must_be_whole(other: list[StreamEvent]) -> None:
    folded = Folded()
    folded.feed([MessageStart("m"), *begun(0, "text", "Shown"), *begun(1, "text", "and", whole=False)])
    with pytest.raises(StreamBroken):
        folded.join(RepetitionJoint(folded.shown), other)


def test_signatures_of_what_is_repeated_are_passed_over() -> None:
    folded = Folded()
    thinking = [
        ContentBlockStart(0, "thinking"),
        ThinkingDelta(0, "hm"),
        SignatureDelta(0, "s1"),
        ContentBlockStop(0),
    ]
    folded.feed([MessageStart("m"), *thinking, *begun(1, "text", "So", whole=False)])
    again = [
        ContentBlockStart(0, "thinking"),
        ThinkingDelta(0, "hm"),
        SignatureDelta(0, "s2"),
        ContentBlockStop(0),
    ]
    folded.join(RepetitionJoint(folded.shown), answer(again, begun(1, "text", "So it is")))
    assert folded.texts == ["hm", "So it is"]
    assert folded.shown[0].content == {"signature": "s1"}
