"""Clients of Responses that have text of a lost node. The turn's log does not have this text."""

from __future__ import annotations

import pytest

from tests.dialects.response_fold import ResponseFold
from tests.turnlog.scripted import turn_row
from turnstream.core.blocks import Block
from turnstream.core.cursor import ResetRecord
from turnstream.core.turn_events import (
    BlockDelta,
    BlockReset,
    BlockStart,
    BlockStop,
    Notice,
    TurnComplete,
    TurnEvent,
    TurnStart,
)
from turnstream.dialects.openai_responses.encoder import encoder_of, repeating

BEGIN: tuple[TurnEvent, ...] = (
    TurnStart("chat", "assistant", "model", "2026-01-01T00:00:00Z"),
    BlockStart(0, "text"),
)
END: tuple[TurnEvent, ...] = (BlockStop(0, "text"), TurnComplete("end_turn", 1, 1, 1))


def said(text: str) -> BlockDelta:
    return BlockDelta(0, "text", "text", text)


def read(fold: ResponseFold, events: tuple[TurnEvent, ...]) -> None:
    """Resume after the client's last event in a log of these events."""
    encoder = encoder_of(turn_row(), starting_after=fold.last)
    seqs = [seq for seq, event in enumerate(events, 1) if isinstance(event, BlockReset)]
    dialect, now = repeating(encoder), 0

    def resets() -> list[ResetRecord]:
        return [ResetRecord(seq, 0) for seq in seqs if seq <= now]

    encoder.resets = resets
    state = dialect.begin()
    for now, event in enumerate(events, 1):
        data, state = dialect.encode(state, now, event)
        fold.receive(data)
        if dialect.is_over(state):
            return


@pytest.mark.requirement("P2", "N5", "Q3")
@pytest.mark.parametrize("survived", ["", "a", "abcd"])
def test_a_client_with_lost_text_gets_an_error_and_no_text_twice(survived: str) -> None:
    fold = ResponseFold()
    read(fold, (*BEGIN, said("abcd"), said("efgh")))
    reset = BlockReset(0, shown=(Block(0, "text", survived, partial=True),))
    rest = (reset, BlockStart(0, "text"), said("abcdefghij"), *END)
    read(fold, (*BEGIN, *([said(survived)] if survived else []), *rest))
    assert fold.end == "error"
    assert fold.error is not None
    assert fold.error["code"] == "retracted"
    assert list(fold.texts.values()) == ["abcdefgh"]


@pytest.mark.requirement("P2", "N5", "Q3")
def test_a_client_whose_text_survived_gets_the_rest_once_it_was_repeated() -> None:
    fold = ResponseFold()
    read(fold, (*BEGIN, said("abcd"), said("efgh")))
    reset = BlockReset(0, shown=(Block(0, "text", "abcdefgh", partial=True),))
    again = (*BEGIN, said("abcdefgh"), reset, BlockStart(0, "text"), said("abcdefghij"))
    read(fold, again)
    read(fold, (*again, *END))
    assert fold.end == "response.completed"
    assert list(fold.texts.values()) == ["abcdefghij"]


@pytest.mark.requirement("P2", "N5", "Q3")
@pytest.mark.parametrize(
    ("received", "whole"), [("ab", True), ("abcd", True), ("abcde", False), ("abcdefgh", False)]
)
def test_an_answer_that_a_model_continues_is_never_joined_to_lost_text(received: str, whole: bool) -> None:
    fold = ResponseFold()
    read(fold, (*BEGIN, *map(said, received)))
    continued = (BlockReset(1), Notice("recovered", "the answer continues"), said("UVWXYZ"))
    read(fold, (*BEGIN, said("abcd"), *continued, *END))
    if whole:
        assert fold.end == "response.completed"
        assert list(fold.texts.values()) == ["abcdUVWXYZ"]
    else:
        assert fold.end == "error"
        assert fold.error is not None
        assert fold.error["code"] == "retracted"
        assert list(fold.texts.values()) == [received]
