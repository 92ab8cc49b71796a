"""Usage and cost of a turn, measured or estimated (requirements I1 to I3)."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import msgspec
import pytest

from turnstream.config import PriceSettings
from turnstream.core.blocks import Block, Message
from turnstream.core.message_facts import MessageFacts
from turnstream.core.turn_events import UsageReport
from turnstream.core.usage import StepUsage, Usage
from turnstream.model_loop.accounts import CalledModel, Summary, TurnAccount
from turnstream.model_loop.estimates import estimated_input_tokens, output_bytes_of
from turnstream.model_loop.model_call import ModelCall
from turnstream.providers.pricing import Pricing
from turnstream.store.base import TurnRecord
from turnstream.turns.ending import is_unpriced
from turnstream.wires.base import ModelRequest, ToolDefinition

MODEL = CalledModel("acme", "one", "anthropic")
UNKNOWN = CalledModel("nobody", "demo", "anthropic")
PRICES = {
    "acme/*": PriceSettings(input_per_million=Decimal(3), output_per_million=Decimal(15)),
}


def account() -> TurnAccount:
    return TurnAccount(Pricing(PRICES))


def text(content: str, sequence: int = 0) -> Block:
    return Block(sequence, "text", content)


def begin(
    turn: TurnAccount, step: int, model: CalledModel | None = None, estimate: Callable[[], int] | None = None
) -> None:
    """A call that the provider begins to answer."""
    turn.begin(step, model, estimate)
    turn.answering()


def facts(usage: Usage) -> MessageFacts:
    """Return the facts of an answer with this usage."""
    found = MessageFacts()
    found.usage = usage
    return found


def never() -> int:
    raise AssertionError("nobody wants an estimate")


@pytest.mark.requirement("I1", "I2")
def test_a_later_report_replaces_the_one_before() -> None:
    turn = account()
    begin(turn, 0, MODEL, never)
    assert turn.report(Usage(45, 1)) == UsageReport(Usage(45, 1), "0.000150")
    assert turn.report(Usage(45, 12)) == UsageReport(Usage(45, 12), "0.000315")
    step = StepUsage(0, "acme/one", Usage(45, 12), "0.000315")
    summary = turn.end(Usage(45, 12), complete=True)
    assert msgspec.structs.replace(summary, attempts=()) == Summary(
        usage=Usage(45, 12), cost="0.000315", steps=(step,)
    )
    (attempt,) = summary.attempts
    assert (attempt.number, attempt.outcome, attempt.usage) == (1, "complete", Usage(45, 12))


@pytest.mark.requirement("I2")
def test_steps_add_up_exactly() -> None:
    turn = account()
    begin(turn, 0, MODEL, never)
    turn.report(Usage(1, 0))
    turn.close(facts(Usage(1, 0)))
    begin(turn, 1, MODEL, never)
    assert turn.report(Usage(0, 1)).cost == "0.000018"
    turn.close(facts(Usage(0, 1)))
    summary = turn.end(Usage(), complete=True)
    assert (summary.usage, summary.cost) == (Usage(1, 1), "0.000018")
    assert [step.cost for step in summary.steps] == ["0.000003", "0.000015"]


@pytest.mark.requirement("I2")
async def test_an_unknown_model_is_flagged_and_spoils_the_sum() -> None:
    pricing = Pricing(PRICES)
    pricing.prepare("nobody", "demo")
    await pricing.ready()
    turn = TurnAccount(pricing)
    begin(turn, 0, MODEL, never)
    turn.report(Usage(1, 1))
    begin(turn, 1, UNKNOWN, never)
    assert turn.report(Usage(2, 2)) == UsageReport(Usage(3, 3), unpriced=True)
    summary = turn.end(Usage(2, 2), complete=True)
    assert summary.cost is None
    assert not summary.cost_estimated
    assert [step.cost for step in summary.steps] == ["0.000018", None]
    row = TurnRecord(
        id="t",
        chat_id="c",
        owner="o",
        prev_turn_id=None,
        role="assistant",
        status="complete",
        model="nobody/demo",
        created_at=1,
        generation=1,
        steps=summary.steps,
    )
    assert is_unpriced(row)
    assert not is_unpriced(msgspec.structs.replace(row, cost="1.000000"))
    assert not is_unpriced(msgspec.structs.replace(row, steps=()))


@pytest.mark.requirement("I3")
def test_a_turn_that_broke_off_before_its_usage_is_estimated_and_says_so() -> None:
    turn = account()
    begin(turn, 0, MODEL, lambda: 100)
    turn.count_block(text("x" * 41))
    summary = turn.end(Usage(), cut=[text("ü" * 10, 1)], complete=False)
    # 41 bytes and 20 bytes: 61 / 4, rounded up; 100 × 3 + 16 × 15 per million.
    assert summary.usage == Usage(100, 16)
    assert (summary.cost, summary.cost_estimated) == ("0.000540", True)
    assert summary.steps == (StepUsage(0, "acme/one", Usage(100, 16), "0.000540", estimated=True),)


@pytest.mark.requirement("I3")
def test_what_was_said_at_the_beginning_holds_for_the_input_and_not_for_the_output() -> None:
    turn = account()
    begin(turn, 0, MODEL, never)
    summary = turn.end(Usage(45, 1, 10), cut=[text("y" * 400)], complete=False)
    assert (summary.usage, summary.cost_estimated) == (Usage(45, 100, 10), True)


@pytest.mark.requirement("I3")
def test_what_was_measured_stays_measured_though_the_turn_broke_off() -> None:
    turn = account()
    begin(turn, 0, MODEL, never)
    summary = turn.end(Usage(45, 12), cut=[text("short")], complete=False)
    assert (summary.usage, summary.cost, summary.cost_estimated) == (Usage(45, 12), "0.000315", False)


@pytest.mark.requirement("I3")
def test_an_estimate_is_of_the_last_step_only() -> None:
    turn = account()
    begin(turn, 0, MODEL, never)
    turn.count_block(text("a" * 4000))
    turn.report(Usage(10, 1000))
    begin(turn, 1, MODEL, lambda: 20)
    summary = turn.end(Usage(), cut=[text("b" * 8, 1)], complete=False)
    assert summary.usage == Usage(30, 1002)
    assert [step.estimated for step in summary.steps] == [False, True]
    assert summary.cost_estimated


@pytest.mark.requirement("I3")
def test_an_interrupt_between_two_steps_leaves_what_was_measured() -> None:
    turn = account()
    begin(turn, 0, MODEL, never)
    turn.count_block(text("a" * 4000))
    turn.close(facts(Usage(45, 12)))
    turn.count_block(Block(1, "tool_result", None, {"content": "b" * 4000}))
    summary = turn.end(Usage(), cut=[Block(2, "tool_result", None, {"content": "c"})], complete=False)
    assert (summary.usage, summary.cost, summary.cost_estimated) == (Usage(45, 12), "0.000315", False)


@pytest.mark.requirement("I2", "I3")
def test_what_no_report_has_said_is_left_to_be_told_before_the_end() -> None:
    turn = account()
    begin(turn, 0, MODEL, lambda: 100)
    turn.report(Usage(45, 12))
    assert turn.pending_report(turn.end(Usage(45, 12), complete=True)) is None
    broken = account()
    begin(broken, 0, MODEL, lambda: 100)
    summary = broken.end(Usage(), cut=[text("1234")], complete=False)
    assert broken.pending_report(summary) == UsageReport(Usage(100, 1), "0.000315", estimated=True)
    silent = account()
    assert silent.pending_report(silent.end(Usage(), complete=False)) is None


@pytest.mark.requirement("I3")
def test_a_call_that_was_never_answered_has_used_nothing() -> None:
    assert account().end(Usage(), complete=False) == Summary()


def test_a_foreign_source_is_neither_priced_nor_estimated() -> None:
    turn = account()
    begin(turn, 0)
    assert turn.report(Usage(5, 6)) == UsageReport(Usage(5, 6))
    turn.count_block(text("z" * 100))
    summary = turn.end(Usage(5, 6), complete=False)
    assert summary == Summary(usage=Usage(5, 6), steps=(StepUsage(0, None, Usage(5, 6)),))


def test_without_prices_usage_is_counted_all_the_same() -> None:
    turn = TurnAccount()
    begin(turn, 0, MODEL, lambda: 3)
    assert turn.end(Usage(), cut=[text("1234")], complete=False).usage == Usage(3, 1)


@pytest.mark.requirement("I3")
async def test_steps_that_ended_before_prices_were_read_are_priced_at_the_end() -> None:
    turn = TurnAccount(Pricing())
    begin(turn, 0, CalledModel("anthropic", "claude-sonnet-4-5", "anthropic"), never)
    early = turn.report(Usage(45, 12))
    assert early.cost in {None, "0.000315"}  # the price list may be in memory already
    begin(turn, 1, CalledModel("anthropic", "claude-sonnet-4-5", "anthropic"), never)
    await turn.ready()
    assert turn.end(Usage(45, 234), complete=True).cost == "0.003960"


def test_the_size_of_a_request_and_of_an_answer() -> None:
    call = Block(2, "tool_use", None, {"tool_name": "sums", "input_json": '{"a": 1}', "input": {"a": 1}})
    result = Block(3, "tool_result", None, {"content": "12345678", "is_error": False})
    image = Block(4, "image", None, {"media_type": "image/png", "data": "A" * 100_000})
    messages = (
        Message("user", (text("1234"), image)),
        Message("assistant", (call,)),
        Message("user", (result,)),
    )
    request = ModelRequest("m", messages, system="12345678")
    assert estimated_input_tokens(request) == (8 + 4 + 12 + 8) // 4 + 1000
    tool = ToolDefinition("sums", "adds", {"type": "object"})
    with_tools = msgspec.structs.replace(request, tools=(tool,))
    assert estimated_input_tokens(with_tools) > estimated_input_tokens(request)
    documents = (Block(0, "document", None, {"url": "u"}), Block(1, "document", None, {"text": "12345678"}))
    assert estimated_input_tokens(ModelRequest("m", (Message("user", documents),))) == 3000 + 8 // 4
    assert [output_bytes_of(block) for block in (text("é"), call, result, image)] == [2, 12, 0, 0]
    assert output_bytes_of(Block(0, "thinking", "hmm")) == 3
    odd = Block(0, "tool_result", None, {"content": [{"type": "text", "text": "\N{SNOWMAN}"}]})
    assert estimated_input_tokens(ModelRequest("m", (Message("user", (odd,)),))) == 8


@pytest.mark.requirement("I3")
def test_calls_that_a_source_books_replace_those_of_the_same_stream() -> None:
    turn = account()
    turn.begin(0)
    running = ModelCall(0, 0, MODEL, Usage(10), estimated=True, answered=True)
    turn.book("a", [running])
    turn.book("b", [running])
    assert [step.usage for step in turn.so_far().steps] == [Usage(10), Usage(10)]
    assert turn.so_far().cost_estimated
    turn.book("a", [ModelCall(0, 0, MODEL, Usage(9, 4), answered=True, outcome="complete")])
    turn.begin(1)
    turn.book("c", [ModelCall(0, 0, MODEL, outcome="rate_limit_error")])
    turn.book("b", [])
    summary = turn.end(Usage(), complete=False)
    assert summary.steps == (StepUsage(0, "acme/one", Usage(9, 4), "0.000087"),)
    made = [(call.step, call.number, call.outcome) for call in summary.attempts]
    assert made == [(0, 1, "complete"), (1, 1, "rate_limit_error")]
    assert not summary.cost_estimated
