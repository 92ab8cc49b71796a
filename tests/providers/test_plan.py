"""Which model a plan calls next, and when: over providers that fail as they are told, in time that the test makes."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from types import TracebackType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnstream.core.blocks import Block, Message
from turnstream.core.stream_events import StreamEvent
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
from turnstream.providers.base import CalledModel
from turnstream.providers.circuit import CircuitPolicy, Circuits
from turnstream.providers.decisions import RetryPolicy
from turnstream.providers.plan import CallPlan, CallRecovery, PlanClock, PlannedModel, Planner, ShownBlocks
from turnstream.wires.base import ModelRequest

REQUEST = ModelRequest("", (Message("user", (Block(0, "text", "Hi"),)),))
SHOWN = ShownBlocks((Block(0, "text", "Once upon a time ", None, partial=True),))


class Time:
    """A clock that only sleeping and calling move."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


class Calls:
    """What was called, by all providers of a test."""

    def __init__(self, time: Time) -> None:
        self.time = time
        self.made: list[tuple[str, float]] = []
        self.requests: list[ModelRequest] = []


class FailingProvider:
    """Each call fails with the next error, after `seconds`; once there is none, it is answered."""

    def __init__(self, name: str, calls: Calls, errors: Iterator[ProviderError], seconds: float) -> None:
        self.name = name
        self.calls = calls
        self.errors = errors
        self.seconds = seconds

    def stream(self, request: ModelRequest) -> FailingCall:
        return FailingCall(self, request)

    async def close(self) -> None:
        """Nothing is open."""


class FailingCall:
    def __init__(self, provider: FailingProvider, request: ModelRequest) -> None:
        self.provider = provider
        self.request = request

    async def __aenter__(self) -> AsyncIterator[Sequence[StreamEvent]]:
        provider = self.provider
        provider.calls.made.append((provider.name, provider.calls.time.now))
        provider.calls.requests.append(self.request)
        provider.calls.time.now += provider.seconds
        error = next(provider.errors, None)
        if error is not None:
            raise error
        return _nothing()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is open."""


async def _nothing() -> AsyncIterator[Sequence[StreamEvent]]:
    return
    yield


class Planned:
    """A plan over failing providers: `failing` gives each model's errors, in the order of the models."""

    def __init__(self, *failing: list[ProviderError], seconds: float = 0.1, **options: Any) -> None:
        self.time = Time()
        self.calls = Calls(self.time)
        policy = RetryPolicy(**options.pop("policy", {}))
        circuits = Circuits(options.pop("circuit", CircuitPolicy(failures=100)), self.time)
        self.planner = Planner(policy, circuits, PlanClock(self.time, self.time.sleep, lambda: 1.0))
        prefills = options.pop("prefills", (False,) * len(failing))
        contexts = options.pop("contexts", (None,) * len(failing))
        models = [
            PlannedModel(
                FailingProvider(f"p{place}", self.calls, iter(errors), seconds),
                CalledModel(f"p{place}", "m", "anthropic"),
                prefills[place],
                contexts[place],
            )
            for place, errors in enumerate(failing)
        ]
        self.plan: CallPlan = self.planner.plan(models, **options)
        self.told: list[str] = []

    @property
    def made(self) -> str:
        """The numbers of the models that were called."""
        return "".join(name[1:] for name, _ in self.calls.made)

    async def answer(self, shown: ShownBlocks | None = None) -> None:
        """One step; each failed call is taken to have shown `shown`. Raises what cannot be recovered."""
        call = self.plan.begin(REQUEST)
        while True:
            try:
                await call.__aenter__()
            except ProviderError as failure:
                recovery: CallRecovery = self.plan.recover(failure, shown or ShownBlocks())
                self.told.append(recovery.notice.code)
                await self.plan.pause(recovery)
                call = recovery.call
            else:
                self.plan.succeeded()
                return

    async def fails(self, shown: ShownBlocks | None = None) -> str:
        with pytest.raises(ProviderError) as raised:
            await self.answer(shown)
        return raised.value.code


def overloaded(times: int = 9) -> list[ProviderError]:
    return [Overloaded("-") for _ in range(times)]


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


def silent(seconds: float = 30.0, code: str = "first_token_timeout") -> ProviderError:
    error = ProviderTimeout("-", code=code)
    error.silence = seconds
    return error


@pytest.mark.fault(33)
async def test_after_a_silence_every_other_model_comes_before_the_silent_one() -> None:
    planned = Planned([silent() for _ in range(9)], [ModelNotFound("-")], overloaded(), seconds=30.0)
    assert await planned.fails() == "overloaded_error"
    assert planned.made == "0120202", "no model twice in a row, as each was silent for 30 s"
    answered = Planned([silent()], [], seconds=30.0)
    await answered.answer()
    assert (answered.made, answered.told, answered.time.slept) == ("01", ["fallback"], [])


@pytest.mark.fault(33)
@pytest.mark.parametrize(
    "error",
    [
        ProviderTimeout("-", code="idle_timeout"),
        ProviderFailed("a gateway's own time-out", provider_status=504),
        ConnectionFailed("reset", retryable=True),
        StreamIncomplete("-"),
    ],
    ids=lambda error: error.code,
)
async def test_any_failure_after_a_long_wait_is_a_silence(error: ProviderError) -> None:
    quick = Planned([error], [], seconds=9.9)
    await quick.answer()
    assert quick.made == "00"
    slow = Planned([error], [], seconds=10.0)
    await slow.answer()
    assert slow.made == "01"
    alone = Planned([error], seconds=10.0)
    await alone.answer()
    assert alone.made == "00", "where no other model is left, it is called again"


@pytest.mark.fault(33)
async def test_a_model_that_fell_silent_in_mid_answer_comes_last_even_if_it_alone_can_continue() -> None:
    planned = Planned([silent(code="idle_timeout")], [], prefills=(True, False))
    await planned.answer(SHOWN)
    assert (planned.made, planned.told) == ("01", ["restarted"])
    continuing = Planned([silent(code="idle_timeout")], [], [], prefills=(True, False, True))
    await continuing.answer(SHOWN)
    assert (continuing.made, continuing.told) == ("02", ["continued"])


@pytest.mark.fault(33)
async def test_a_silent_model_that_can_continue_does_not_come_before_a_healthy_one() -> None:
    """The first is silent, the second breaks off: the third is healthy, though the first alone could continue."""
    broken = [StreamIncomplete("-") for _ in range(9)]
    planned = Planned([silent(code="idle_timeout")], broken, [], prefills=(True, False, False))
    planned.planner.policy = planned.planner.policy._replace(attempts=2)
    call = planned.plan.begin(REQUEST)
    with pytest.raises(ProviderTimeout) as raised:
        await call.__aenter__()
    call = planned.plan.recover(raised.value, SHOWN).call
    for text in ("Once more ", "And once "):
        with pytest.raises(StreamIncomplete) as again:
            await call.__aenter__()
        shown = ShownBlocks((Block(0, "text", text, None, partial=True),))
        call = planned.plan.recover(again.value, shown).call
    await call.__aenter__()
    assert planned.made == "0112"


@pytest.mark.fault(33)
async def test_how_long_a_silence_is_can_be_set() -> None:
    planned = Planned([silent(5.0)], [], policy={"silence": 5.0})
    await planned.answer()
    assert planned.made == "01"


@pytest.mark.fault(34)
async def test_each_model_has_its_own_share_of_the_budget() -> None:
    """The first takes it all in silence. The second is tried as often as if it were the only one."""
    planned = Planned([silent(119.0)], overloaded(2), seconds=1.0)
    first = planned.plan.begin(REQUEST)
    with pytest.raises(ProviderTimeout):
        await first.__aenter__()
    planned.time.now += 119.0
    call = planned.plan.recover(silent(119.0), ShownBlocks()).call
    for _ in range(2):
        with pytest.raises(Overloaded) as raised:
            await call.__aenter__()
        recovery = planned.plan.recover(raised.value, ShownBlocks())
        await planned.plan.pause(recovery)
        call = recovery.call
    await call.__aenter__()
    assert planned.made == "0111"


@pytest.mark.fault(34)
async def test_pauses_for_one_model_are_not_taken_from_another() -> None:
    asks = [RateLimited("-", retry_after=30.0) for _ in range(9)]
    planned = Planned([*asks], [RateLimited("-", retry_after=30.0)], policy={"budget": 60.5, "attempts": 6})
    await planned.answer()
    assert planned.made == "00011"
    assert planned.time.slept == [30.0, 30.0, 30.0]


@pytest.mark.fault(34)
async def test_a_model_whose_share_is_used_up_is_not_called_again_by_the_others() -> None:
    planned = Planned([silent()], [silent() for _ in range(9)], seconds=121.0)
    assert await planned.fails() == "first_token_timeout"
    assert planned.made == "01"


@pytest.mark.requirement("J4")
async def test_time_in_which_an_answer_came_is_not_lost() -> None:
    planned = Planned([StreamIncomplete("-"), StreamIncomplete("-")], seconds=500.0, prefills=(True,))
    call = planned.plan.begin(REQUEST)
    for text in ("Once", "Once upon"):
        with pytest.raises(StreamIncomplete) as raised:
            await call.__aenter__()
        recovery = planned.plan.recover(
            raised.value, ShownBlocks((Block(0, "text", text, None, partial=True),))
        )
        assert recovery.notice.code == "continued"
        call = recovery.call
    await call.__aenter__()
    last = planned.calls.requests[-1].messages[-1]
    assert (last.role, last.blocks[0].text_content) == ("assistant", "Once upon")


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
    """A forced tool, for one: not every API has words for it. No call is made, and nothing is said of its health."""
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
