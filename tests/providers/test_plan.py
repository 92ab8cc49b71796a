"""Which model a plan calls next, and when: retries, fallbacks, bounds."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.providers.planned import REQUEST, SHOWN, Planned, overloaded
from turnstream.core.blocks import Block
from turnstream.errors import (
    AuthenticationFailed,
    ConnectionFailed,
    ContentFiltered,
    ContextLengthExceeded,
    InvalidModelRequest,
    InvalidRequest,
    ModelNotFound,
    Overloaded,
    ProviderError,
    ProviderFailed,
    ProviderTimeout,
    RateLimited,
    StreamIncomplete,
)
from turnstream.providers.circuit import CircuitPolicy
from turnstream.providers.plan import ShownBlocks


@pytest.mark.requirement("J1")
async def test_a_failing_model_is_tried_three_times_and_then_the_next() -> None:
    planned = Planned(overloaded(), overloaded(1))
    await planned.answer()
    assert planned.made == "00011"
    assert planned.time.slept == [1.0, 2.0, 1.0]
    assert planned.told == ["attempt_failed", "attempt_failed", "fallback", "attempt_failed"]
    assert planned.plan.called.name == "p1/m"


@pytest.mark.requirement("J1")
async def test_the_error_of_the_last_model_is_told_where_nothing_helps() -> None:
    planned = Planned(overloaded(), [RateLimited("-") for _ in range(9)])
    assert await planned.fails() == "rate_limit_error"
    assert planned.made == "000111"


@pytest.mark.requirement("J1", "J2")
@pytest.mark.parametrize(
    ("error", "made"),
    [
        (ConnectionFailed("refused"), "01"),
        (AuthenticationFailed("-"), "01"),
        (ModelNotFound("-"), "01"),
        (RateLimited("no quota", retryable=False), "01"),
        (ContextLengthExceeded("-"), "01"),
        (ProviderTimeout("-", code="first_token_timeout"), "00"),
        (ConnectionFailed("reset", retryable=True), "00"),
        (InvalidModelRequest("-"), "0"),
        (ContentFiltered("-"), "0"),
    ],
    ids=lambda value: value.code if isinstance(value, ProviderError) else value,
)
async def test_where_each_failure_leads(error: ProviderError, made: str) -> None:
    planned = Planned([error], [])
    if made == "0":
        assert await planned.fails() == error.code
    else:
        await planned.answer()
    assert planned.made == made


@pytest.mark.requirement("J1")
async def test_retry_after_is_honoured_within_bounds() -> None:
    planned = Planned([RateLimited("-", retry_after=7.0)], [])
    await planned.answer()
    assert (planned.made, planned.time.slept) == ("00", [7.0])
    too_long = Planned([RateLimited("-", retry_after=31.0)], [])
    await too_long.answer()
    assert (too_long.made, too_long.time.slept) == ("01", [])
    alone = Planned([RateLimited("-", retry_after=31.0)])
    await alone.answer()
    assert (alone.made, alone.time.slept) == ("00", [31.0])
    beyond = Planned([RateLimited("-", retry_after=3600.0)])
    assert await beyond.fails() == "rate_limit_error"
    assert (beyond.made, beyond.time.slept) == ("0", [])


@pytest.mark.requirement("J1")
async def test_time_that_was_lost_ends_retries_but_no_fallback() -> None:
    planned = Planned(overloaded(), overloaded(), [], seconds=119.5)
    await planned.answer()
    assert planned.made == "012"


@pytest.mark.requirement("J1")
async def test_a_context_overflow_goes_to_a_larger_model_only() -> None:
    planned = Planned([ContextLengthExceeded("-")], [], [], contexts=(1000, 900, 2000))
    await planned.answer()
    assert planned.made == "02"
    none = Planned([ContextLengthExceeded("-")], [], contexts=(1000, 1000))
    assert await none.fails() == "context_length_exceeded"
    assert none.made == "0"
    then = Planned([ContextLengthExceeded("-")], overloaded(), [], contexts=(1000, 2000, 500))
    assert await then.fails() == "overloaded_error"
    assert then.made == "0111", "what comes after must read as much too"
    unknown = Planned([ContextLengthExceeded("-")], [])
    await unknown.answer()
    assert unknown.made == "01"


@pytest.mark.requirement("J3")
async def test_a_stream_that_is_refused_becomes_a_plain_call() -> None:
    planned = Planned([InvalidModelRequest("-", provider_status=405)])
    await planned.answer()
    assert [request.stream for request in planned.calls.requests] == [True, False]
    await planned.answer()
    assert [request.stream for request in planned.calls.requests] == [True, False, False]
    refused = Planned(
        [InvalidModelRequest("-", provider_status=405), InvalidModelRequest("-", provider_status=405)]
    )
    assert await refused.fails() == "invalid_request_error"
    assert refused.made == "00"


@pytest.mark.requirement("J4")
async def test_to_go_on_is_preferred_to_beginning_anew() -> None:
    planned = Planned([StreamIncomplete("-")], [], [], prefills=(False, False, True))
    await planned.answer(SHOWN)
    assert (planned.made, planned.told) == ("02", ["continued"])
    last = planned.calls.requests[-1].messages[-1]
    assert (last.role, last.blocks[0].text_content) == ("assistant", "Once upon a time")
    anew = Planned([StreamIncomplete("-")], [])
    await anew.answer(SHOWN)
    assert (anew.made, anew.told) == ("00", ["restarted"])
    assert anew.calls.requests[-1].messages == REQUEST.messages


@pytest.mark.requirement("J4")
async def test_a_model_that_refuses_its_own_words_begins_anew() -> None:
    planned = Planned([StreamIncomplete("-")], [InvalidModelRequest("no prefill")], prefills=(False, True))
    await planned.answer(SHOWN)
    assert (planned.made, planned.told) == ("011", ["continued", "restarted"])
    assert planned.calls.requests[-1].messages == REQUEST.messages


@pytest.mark.requirement("G5")
async def test_a_step_whose_tool_was_started_is_neither_begun_anew_nor_gone_on_with() -> None:
    blocks = (*SHOWN.blocks, Block(1, "tool_use", None, {"tool_use_id": "1", "tool_name": "look"}))
    for prefills in (False, True):
        planned = Planned([StreamIncomplete("-")], [], prefills=(prefills, prefills))
        shown = ShownBlocks(blocks, final=True)
        assert await planned.fails(shown) == "stream_incomplete"
        assert planned.made == "0"


@pytest.mark.requirement("J1")
async def test_later_steps_begin_with_the_model_that_answered() -> None:
    planned = Planned(overloaded(), overloaded(1))
    await planned.answer()
    await planned.answer()
    assert planned.made == "000111"


@pytest.mark.requirement("J1")
async def test_a_model_that_cannot_be_asked_is_passed_over() -> None:
    """Some APIs have no field for a forced tool. No call is made, and the model's health is unchanged."""
    unsaid: list[Any] = [InvalidRequest("no words for that")]
    planned = Planned([*unsaid], overloaded(), [*unsaid], [])
    await planned.answer()
    assert planned.made == "011123"
    assert planned.told[0] == "fallback"
    planned = Planned(overloaded(), [*unsaid])
    assert await planned.fails() == "overloaded_error", "which was asked, and failed"
    for planned in (Planned([*unsaid]), Planned([*unsaid], [*unsaid])):
        with pytest.raises(InvalidRequest, match="no words"):
            await planned.answer()


@pytest.mark.requirement("J1")
async def test_a_probe_that_cannot_be_asked_leaves_its_place() -> None:
    unsaid: list[Any] = [InvalidRequest("no words for that")]
    planned = Planned(unsaid, circuit=CircuitPolicy(failures=1, seconds=50.0))
    planned.planner.circuits.failed("p0/m")
    planned.time.now += 50
    with pytest.raises(InvalidRequest):
        await planned.answer()
    assert planned.planner.circuits.is_open("p0/m")
    assert planned.planner.circuits.closed_for("p0/m") == 0.0


@pytest.mark.requirement("J1")
@pytest.mark.parametrize("probes", [False, True])
async def test_only_a_probe_that_is_given_up_before_its_answer_lets_the_next_call_be_one(
    probes: bool,
) -> None:
    """Turns that are cancelled while a model is down, or answers them, say nothing of it."""
    planned = Planned([], circuit=CircuitPolicy(failures=1, seconds=50.0))
    circuits = planned.planner.circuits
    if probes:
        circuits.failed("p0/m")
        planned.time.now += 50
    planned.plan.admit(0)
    if not probes:
        circuits.failed("p0/m")  # another call
    assert circuits.closed_for("p0/m") == 50.0
    planned.plan.close()
    assert circuits.closed_for("p0/m") == (0.0 if probes else 50.0)
    if probes:
        await planned.plan.begin(REQUEST).__aenter__()
        circuits.failed("p0/m")
        planned.plan.close()
        assert circuits.closed_for("p0/m") == 50.0


@pytest.mark.requirement("J1")
async def test_an_open_circuit_costs_no_attempt() -> None:
    planned = Planned(overloaded(), [], circuit=CircuitPolicy(failures=2, seconds=50.0))
    await planned.answer()
    assert planned.made == "001"
    assert planned.told == ["attempt_failed", "fallback"]
    again = planned.planner.plan(planned.plan._models)
    planned.plan = again
    await planned.answer()
    assert planned.made == "0011"


ERRORS: list[type[ProviderError]] = [
    Overloaded,
    RateLimited,
    ProviderFailed,
    ConnectionFailed,
    StreamIncomplete,
    ModelNotFound,
    ContextLengthExceeded,
    InvalidModelRequest,
    ContentFiltered,
]


@pytest.mark.requirement("J1")
@given(
    st.lists(st.lists(st.sampled_from(ERRORS), max_size=8), min_size=1, max_size=4),
    st.lists(st.booleans(), min_size=4, max_size=4),
    st.floats(0, 30),
    st.booleans(),
    st.integers(1, 6),
)
async def test_whatever_fails_attempts_are_bounded_and_spaced(
    failing: list[list[type[ProviderError]]],
    prefills: list[bool],
    seconds: float,
    shows: bool,
    attempts: int,
) -> None:
    planned = Planned(
        *[[error("-") for error in errors] for errors in failing],
        seconds=seconds,
        prefills=prefills,
        policy={"attempts": attempts},
    )
    try:
        await planned.answer(SHOWN if shows else None)
    except ProviderError:
        pass
    calls = Counter(name for name, _ in planned.calls.made)
    assert all(count <= attempts for count in calls.values())
    for name in calls:
        times = [at for called, at in planned.calls.made if called == name]
        assert all(third - first >= 1.5 - 1e-6 for first, third in zip(times, times[2:], strict=False))
    codes = [error for errors in failing for error in errors]
    if InvalidModelRequest not in codes and ContentFiltered not in codes and len(planned.told) < len(failing):
        assert planned.calls.made
