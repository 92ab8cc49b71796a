"""Calls of answers that their provider stores: when they are read again, and when they are cancelled."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import NamedTuple

import pytest

from tests.providers.planned import REQUEST, Time, nothing
from turnstream.core.blocks import Block
from turnstream.core.stream_events import StreamEvent
from turnstream.errors import CANNOT_CONTINUE, ModelNotFound, ProviderError, StreamBroken, StreamIncomplete
from turnstream.providers.base import CalledModel
from turnstream.providers.decisions import RetryPolicy
from turnstream.providers.joining import RestartJoint
from turnstream.providers.plan import CallRecovery, PlanClock, PlannedModel, Planner, ShownBlocks
from turnstream.providers.planned_call import Call, PlannedCall
from turnstream.wires.base import ModelRequest, Position


class Scripted(NamedTuple):
    """The end of a call: a failure, and the id of the stored answer that the call had begun to read."""

    failure: ProviderError | None = None
    answer_id: str | None = None


def cut(answer_id: str | None = "a") -> Scripted:
    return Scripted(StreamIncomplete("-"), answer_id)


class StoringProvider:
    """Makes the calls of a script, and notes each request."""

    name = "p"
    can_resume = True

    def __init__(self, *script: Scripted) -> None:
        self.script = iter(script)
        self.noted: list[str] = []

    def stream(self, request: ModelRequest) -> StoringCall:
        return self._call("new")

    def resume(self, request: ModelRequest, answer_id: str) -> StoringCall:
        return self._call(f"read {answer_id}")

    def cancel(self, answer_id: str) -> None:
        self.noted.append(f"cancel {answer_id}")

    def _call(self, note: str) -> StoringCall:
        self.noted.append(note)
        return StoringCall(next(self.script, Scripted()))

    async def close(self) -> None:
        """Nothing is open."""


class StoringCall:
    def __init__(self, scripted: Scripted) -> None:
        self.scripted = scripted

    @property
    def position(self) -> Position | None:
        answer_id = self.scripted.answer_id
        return None if answer_id is None else Position(answer_id, 7)

    async def __aenter__(self) -> AsyncIterator[Sequence[StreamEvent]]:
        if self.scripted.failure is not None:
            raise self.scripted.failure
        return nothing()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is open."""


class World:
    """A plan over one provider. `shown` grows by a character with each call that `moves`."""

    def __init__(self, *script: Scripted, text: str = "Once", attempts: int = 3) -> None:
        self.provider = StoringProvider(*script)
        time = Time()
        planner = Planner(RetryPolicy(attempts), pace=PlanClock(time, time.sleep, lambda: 1.0))
        self.plan = planner.plan([PlannedModel(self.provider, CalledModel("p", "m", "openai-responses"))])
        self.text = text
        self.recoveries: list[CallRecovery] = []

    def shown(self, *, final: bool = False) -> ShownBlocks:
        blocks = (Block(0, "text", self.text, None, partial=True),) if self.text else ()
        return ShownBlocks(blocks, final)

    async def answer(self, *, moves: bool = True, final: bool = False) -> list[str]:
        """Run a step to its end. Return the notes of the provider. Raises the last failure."""
        call: Call = self.plan.begin(REQUEST)
        while True:
            try:
                await call.__aenter__()
            except ProviderError as failure:
                recovery = self.plan.recover(failure, self.shown(final=final))
                self.recoveries.append(recovery)
                await self.plan.pause(recovery)
                call = recovery.call
                self.text += "." if moves else ""
            else:
                self.plan.succeeded()
                return self.provider.noted


@pytest.mark.requirement("J1")
async def test_an_answer_is_read_again_as_long_as_it_moves_on() -> None:
    world = World(*[cut()] * 12)
    assert await world.answer() == ["new", *["read a"] * 12]
    assert {(each.notice.code, each.reads_again) for each in world.recoveries} == {("continued", True)}
    assert [each.repeated[0].text_content for each in world.recoveries[:2]] == ["Once", "Once."]


async def test_an_answer_that_does_not_move_on_is_given_up_after_all_attempts() -> None:
    world = World(*[cut()] * 12)
    with pytest.raises(StreamIncomplete):
        await world.answer(moves=False)
    assert world.provider.noted == ["new", "read a", "read a"]
    world.plan.give_up()
    world.plan.give_up()
    assert world.provider.noted[3:] == ["cancel a"], "once"


async def test_a_break_before_any_text_reads_the_answer_again() -> None:
    world = World(cut(), text="")
    assert await world.answer(moves=False) == ["new", "read a"]
    assert (world.recoveries[0].notice.code, world.recoveries[0].repeated) == ("attempt_failed", ())


@pytest.mark.parametrize(
    "failure", [ModelNotFound("-"), StreamBroken("-", code=CANNOT_CONTINUE)], ids=["gone", "other text"]
)
async def test_an_answer_that_cannot_be_read_again_is_made_again(failure: ProviderError) -> None:
    world = World(cut(), Scripted(failure))
    assert await world.answer(moves=False) == ["new", "read a", "cancel a", "new"]
    assert [each.notice.code for each in world.recoveries] == ["continued", "restarted"]


async def test_an_answer_that_was_made_again_still_retracts_the_first_one_when_it_is_read_again() -> None:
    gone = Scripted(ModelNotFound("-"))
    world = World(cut("a"), gone, cut("b"), attempts=4)
    assert await world.answer(moves=False) == ["new", "read a", "cancel a", "new", "read b"]
    last = world.recoveries[-1]
    assert (last.notice.code, last.repeated, last.reads_again) == ("restarted", (), True)
    assert isinstance(last.call, PlannedCall)
    assert isinstance(last.call.joint, RestartJoint)


async def test_an_answer_is_read_again_even_if_one_of_its_tools_has_started() -> None:
    world = World(cut())
    assert await world.answer(final=True) == ["new", "read a"]


async def test_a_whole_answer_is_not_cancelled() -> None:
    world = World(cut())
    await world.answer()
    world.plan.give_up()
    assert world.provider.noted == ["new", "read a"]
