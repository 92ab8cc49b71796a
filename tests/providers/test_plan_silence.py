"""Which model a plan calls after a silence, and shares of the budget."""

from __future__ import annotations

import pytest

from tests.providers.planned import REQUEST, SHOWN, Planned, overloaded
from turnstream.core.blocks import Block
from turnstream.errors import (
    ConnectionFailed,
    ModelNotFound,
    Overloaded,
    ProviderError,
    ProviderFailed,
    ProviderTimeout,
    RateLimited,
    StreamIncomplete,
)
from turnstream.providers.plan import ShownBlocks


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
    """The first is silent, the second breaks off: the third is healthy, though the first alone could
    continue."""
    broken = [StreamIncomplete("-") for _ in range(9)]
    policy, prefills = {"attempts": 2}, (True, False, False)
    planned = Planned([silent(code="idle_timeout")], broken, [], policy=policy, prefills=prefills)
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
