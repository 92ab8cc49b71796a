"""The usage of a turn whose executor was lost: what is stored, and an estimate of the rest."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from decimal import Decimal
from functools import partial
from typing import NamedTuple

import msgspec

from turnstream.core.blocks import Block, is_client_result
from turnstream.core.history import PastTurn, build_history
from turnstream.core.usage import ORPHANED, StepUsage, Usage
from turnstream.errors import InvalidRequest
from turnstream.model_loop.accounts import CalledModel, Summary, TurnAccount
from turnstream.model_loop.estimates import (
    BYTES_PER_TOKEN,
    estimated_input_tokens,
    output_bytes_of,
    tokens_of,
)
from turnstream.model_loop.model_call import ModelCall
from turnstream.providers.catalog import Catalog, parse_model
from turnstream.providers.pricing import Pricing
from turnstream.store.base import Store, TurnRecord
from turnstream.store.queries import AttemptsOfTurn
from turnstream.turns.histories import Path, read_history
from turnstream.wires.base import ModelRequest

logger = logging.getLogger(__name__)

_HISTORIES_AT_ONCE = 2
"""Histories read at a time. Few, because they may be long."""
READ_SECONDS = 120.0
"""Seconds that one read may take. It is more than for requests: no turn is lost because of a long history."""


class LostCall(NamedTuple):
    """A model call that was lost with its node.

    Attributes:
        number: Number of its step.
        before: Blocks of the turn before the step.
        shown: Blocks of the step so far.
        continues: True if the next call continues the last of them.
    """

    number: int
    before: Sequence[Block]
    shown: Sequence[Block]
    continues: bool = False


class LostUsage:
    """Estimates the usage of lost turns."""

    def __init__(self, store: Store, catalog: Catalog, pricing: Pricing | None) -> None:
        self._store = store
        self._catalog = catalog
        self._pricing = pricing
        self._histories = asyncio.Semaphore(_HISTORIES_AT_ONCE)

    async def summary(self, turn: TurnRecord, blocks: Sequence[Block]) -> Summary:
        """Return an estimate of the turn's usage. The provider's own figures were lost with the process.

        Without a readable history there is no estimate. The turn keeps its text in any case.
        """
        called = self._called(turn.model)
        if called is None or (turn.status == "pending" and not blocks):
            return _joined(await self._booked(turn, blocks), Summary())
        try:
            if self._pricing is not None:
                self._pricing.prepare(called.provider, called.model)
                await self._pricing.ready()
            async with self._histories:
                path = await read_history(self._store, turn.prev_turn_id or "", seconds=READ_SECONDS)
                past = [PastTurn(before.role, before.status, said) for before, said in path]
                attempts = await self._store.read(AttemptsOfTurn(turn_id=turn.id), seconds=READ_SECONDS)
                ended = {step.step for step in turn.steps}
                calls = [
                    ModelCall.of(attempt, called)
                    for attempt in attempts
                    if attempt.outcome == ORPHANED and attempt.step not in ended
                ]
                account = TurnAccount(self._pricing, calls)
                return await asyncio.to_thread(self._estimate, turn, called, past, blocks, account)
        except Exception:
            logger.exception("turn %s: its usage cannot be estimated", turn.id)
            return _joined(turn.steps, Summary())

    async def count_lost(self, account: TurnAccount, turn: TurnRecord, path: Path, call: LostCall) -> bool:
        """Add an estimate of a lost call to the account of its turn, which continues.

        Return False if no call is known to have begun, or if there is no estimate.
        """
        if not call.shown and (call.number or turn.status == "pending"):
            return False
        last = account.calls[-1].model if account.calls else None
        called = last or self._called(turn.model)
        if called is None:
            return False
        past = [PastTurn(each.role, each.status, blocks) for each, blocks in path if each.id != turn.id]
        try:
            await asyncio.to_thread(_count, account, called, past, turn, call)
        except Exception:
            logger.exception("turn %s: the usage of its lost call cannot be estimated", turn.id)
            return False
        return True

    def _estimate(
        self,
        turn: TurnRecord,
        called: CalledModel,
        past: Sequence[PastTurn],
        blocks: Sequence[Block],
        account: TurnAccount,
    ) -> Summary:
        """Add the calls that `blocks` show, and that the turn's row does not have, to `account`."""
        ended = {step.step for step in turn.steps}
        for number, (before, shown) in enumerate(model_calls(blocks)):
            if number not in ended:
                _count(account, called, past, turn, LostCall(number, before, shown))
        return _joined(turn.steps, account.end(Usage(), complete=False))

    async def _booked(self, turn: TurnRecord, blocks: Sequence[Block]) -> Sequence[StepUsage]:
        """Return the calls that the turn's source has booked. The output of a call that ran is estimated."""
        size = sum(output_bytes_of(block) for block in blocks if block.partial)
        steps: list[StepUsage] = []
        for step in turn.steps:
            if step.estimated and step.usage.output_tokens is None:
                usage, size = msgspec.structs.replace(step.usage, output_tokens=tokens_of(size)), 0
                cost = await self._cost(step.model, usage)
                steps.append(msgspec.structs.replace(step, usage=usage, cost=cost))
            else:
                steps.append(step)
        return steps

    async def _cost(self, name: str | None, usage: Usage) -> str | None:
        called, pricing = self._called(name), self._pricing
        if called is None or pricing is None:
            return None
        pricing.prepare(called.provider, called.model)
        await pricing.ready()
        cost = pricing.cost(called.provider, called.model, called.wire, usage)
        return None if cost is None else cost.text

    def _called(self, name: str | None) -> CalledModel | None:
        """Return the model of a name, or None if it is not in the catalog."""
        try:
            provider, model = parse_model(name or "", self._catalog.names)
        except InvalidRequest:
            return None
        return CalledModel(provider, model, self._catalog.wire_of(provider))


def _count(
    account: TurnAccount, called: CalledModel, past: Sequence[PastTurn], turn: TurnRecord, call: LostCall
) -> None:
    """Add the estimate of a lost call to an account. `past`: the turns before this one."""
    turns = [*past, PastTurn(turn.role, turn.status, call.before)] if call.before else past
    request = ModelRequest(called.model, build_history(turns), turn.system)
    same = [each for each in account.calls if each.number == call.number and each.outcome == ORPHANED]
    if turn.fences and any(seq > turn.fences[-1][1] for seq, _ in turn.resets):
        same = []  # the text of the earlier calls was retracted
    counted = BYTES_PER_TOKEN * sum(each.usage.output_tokens or 0 for each in same)
    account.begin(call.number, called, partial(estimated_input_tokens, request))
    for block in call.shown:
        account.count_block(block)
    carried = sum(map(output_bytes_of, call.shown[-1:])) if call.continues else 0
    account.lose(counted=counted, carried=carried)


def _joined(known: Sequence[StepUsage], lost: Summary) -> Summary:
    """Return one account for the steps that the lost process stored and for those that are estimated."""
    if not known:
        return lost
    usage, steps = lost.usage, (*known, *lost.steps)
    for step in known:
        usage = usage.plus(step.usage)
    costs = [Decimal(step.cost) for step in steps if step.cost is not None]
    is_known = all(step.cost is not None or step.usage == Usage() for step in steps)
    return Summary(
        usage=usage,
        cost=f"{sum(costs):.6f}" if costs and is_known else None,
        cost_estimated=any(step.estimated for step in steps),
        steps=steps,
    )


def model_calls(blocks: Sequence[Block]) -> list[tuple[Sequence[Block], Sequence[Block]]]:
    """Return a turn's model calls, as its blocks show them.

    Each call is a pair: the turn's blocks before the call, and the call's blocks with the results of its
    tools. The first call may have no blocks. A later call without blocks is not listed: it may not have been
    made.
    """
    starts = [0]
    for place, block in enumerate(blocks):
        if place and is_client_result(blocks[place - 1]) and not is_client_result(block):
            starts.append(place)
    ends = [*starts[1:], len(blocks)]
    return [(blocks[:start], blocks[start:end]) for start, end in zip(starts, ends, strict=True)]
