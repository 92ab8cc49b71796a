"""The point at which a lost turn continues, found from the rows of its executor."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.store.samples import make_chat, make_turn
from turnstream.core.blocks import Block
from turnstream.core.turn_events import Notice
from turnstream.core.usage import StepUsage, Usage
from turnstream.store.base import ApprovalRecord, BlockRecord
from turnstream.store.ledger.queries import ToolRun
from turnstream.turns.takeover.positions import LostPosition, LostTurn, lost_position

NOTICE = Notice("recovered", "")
TURN = make_turn(make_chat(), "assistant")


def text(sequence: int, *, partial: bool = False) -> Block:
    return Block(sequence, "text", f"text {sequence}", partial=partial)


def call(sequence: int, name: str = "mend", **more: Any) -> Block:
    return Block(sequence, "tool_use", None, {"tool_use_id": f"id{sequence}", "tool_name": name, **more})


def result(sequence: int, of: int) -> Block:
    return Block(sequence, "tool_result", None, {"tool_use_id": f"id{of}", "content": "done"})


def run(sequence: int, name: str = "mend") -> ToolRun:
    """Return the ledger's row of the call in block `sequence`."""
    return ToolRun(TURN.id, 10 * sequence, "one", f"id{sequence}", name, TURN.generation, 0)


def position(
    stored: list[Block],
    cut: tuple[Block, ...] = (),
    *,
    steps: int = 0,
    runs: tuple[ToolRun, ...] = (),
    approvals: tuple[ApprovalRecord, ...] = (),
) -> LostPosition:
    """Return the position of a turn with `steps` booked steps. The tool `peek` is idempotent."""
    booked = tuple(StepUsage(step, "sim/tools", Usage(1, 1)) for step in range(steps))
    rows = [BlockRecord(str(b.sequence), TURN.id, b, 10 * b.sequence, 10 * b.sequence + 9, 0) for b in stored]
    turn = msgspec.structs.replace(TURN, steps=booked)
    left = [BlockRecord(str(b.sequence), TURN.id, b, 10 * b.sequence, 99, 0) for b in cut]
    return lost_position(LostTurn(turn, rows, left, 99), runs, approvals, {"peek"})


def calls_of(at: LostPosition) -> list[int] | None:
    return None if at.step.calls is None else [block.sequence for block, _ in at.step.calls]


@pytest.mark.requirement("Q3")
def test_a_first_answer_begins_again():
    at = position([text(0)], (text(1, partial=True),))
    assert (at.step.number, calls_of(at), at.kept) == (0, None, [])
    driver = at.for_driver(NOTICE)
    assert (driver.first, driver.sequence, driver.step_shown, driver.answered) == (0, 2, True, False)


@pytest.mark.requirement("Q3")
def test_nothing_is_shown_of_a_turn_without_blocks():
    driver = position([]).for_driver(NOTICE)
    assert (driver.first, driver.sequence, driver.step_shown) == (0, 0, False)


@pytest.mark.requirement("Q3", "Q4")
def test_calls_of_an_answer_that_was_not_complete_are_made_again():
    at = position([text(0), call(1, "peek")], (text(2, partial=True),), runs=(run(1, "peek"),))
    assert (at.step.number, calls_of(at), at.kept) == (0, None, [])


@pytest.mark.requirement("Q3", "Q4")
def test_an_answer_is_complete_once_its_step_is_booked():
    at = position([text(0), call(1), call(2)], steps=1)
    assert (at.step.number, calls_of(at), at.retracted) == (0, [1, 2], [])


@pytest.mark.requirement("Q4")
def test_a_call_in_the_ledger_is_never_retracted():
    """Even if the account of its step could not be stored."""
    at = position([text(0), call(1), call(2)], runs=(run(1),))
    assert (at.step.number, calls_of(at)) == (0, [1, 2])


@pytest.mark.requirement("Q3", "Q4")
def test_results_that_are_stored_stay():
    begun = result(4, of=2)
    at = position(
        [text(0), call(1), call(2), result(3, of=1)], (msgspec.structs.replace(begun, partial=True),), steps=1
    )
    assert (calls_of(at), len(at.kept), len(at.retracted)) == ([2], 4, 1)
    driver = at.for_driver(NOTICE)
    assert driver.answered
    assert driver.restart is not None
    assert (driver.sequence, driver.restart[0].block_index) == (5, 4)


@pytest.mark.requirement("Q3")
def test_a_turn_between_two_steps_has_no_calls_left():
    at = position([call(0), result(1, of=0)], steps=1)
    assert (at.step.number, calls_of(at)) == (0, [])
    at = position([call(0), result(1, of=0)])
    assert (at.step.number, calls_of(at)) == (0, []), "its account could not be stored"


@pytest.mark.requirement("Q3")
def test_a_later_step_begins_again():
    before = [text(0), call(1), result(2, of=1)]
    at = position([*before, text(3)], (call(4),), steps=1)
    assert (at.step.number, calls_of(at), at.kept) == (1, None, before)
    assert [block.sequence for block in at.retracted] == [3, 4]
    at = position(before, (text(3, partial=True),), steps=1)
    assert (at.step.number, calls_of(at), at.kept) == (1, None, before)


@pytest.mark.requirement("Q3")
def test_a_model_may_continue_text_only():
    assert position([text(0)], (text(1, partial=True),)).is_text
    assert not position([text(0)]).is_text, "no block is open"
    thought = Block(0, "thinking", "hm", partial=True)
    assert not position([], (thought,)).is_text
    assert not position([text(0)], (msgspec.structs.replace(call(1), partial=True),)).is_text
    assert not position([text(0), call(1)], (text(2, partial=True),)).is_text
    assert not position([call(0)], steps=1).is_text


@pytest.mark.requirement("Q3")
def test_pauses_of_a_provider_s_tools_are_no_complete_answers():
    """A paused step has a booked call and no results. Its blocks and the next step's look like one answer."""
    paused = [call(0, provider_executed=True), text(1)]
    at = position([*paused, call(2)], steps=1)
    assert (at.step.number, calls_of(at), at.kept) == (1, None, [])
    at = position([*paused, call(2)], steps=2, runs=(run(2),))
    assert (at.step.number, calls_of(at)) == (1, [2])
