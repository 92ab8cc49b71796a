"""The hook of a host application that runs before a turn's first model call."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import msgspec

from turnstream.core.blocks import Message
from turnstream.errors import TurnstreamError
from turnstream.providers.plan import CallPlan, Planner
from turnstream.providers.routing import Routing
from turnstream.store.base import TurnRecord
from turnstream.wires.base import ModelRequest

PREPARE_SECONDS = 30.0
"""Seconds that the hook has."""


class TurnPreparation:
    """A turn before its first model call. The hook changes `system`, `params` and `context`.

    Attributes:
        turn_id, chat_id: Ids of the turn and of its chat.
        model: The model that will be called, as the request names it.
        metadata: The turn's metadata. It includes that of the principal.
        messages: The conversation up to the question. It cannot be changed.
        system: System prompt, or None.
        params: Parameters of the turn's model calls.
        context: Messages that precede the conversation in each model call of the turn. They are not stored.
    """

    def __init__(self, turn: TurnRecord, request: ModelRequest) -> None:
        self.turn_id = turn.id
        self.chat_id = turn.chat_id
        self.owner = turn.owner
        self.model = turn.asked_model or turn.model
        self.metadata = turn.metadata
        self.messages: Sequence[Message] = request.messages
        self.system = request.system
        self.params: dict[str, Any] = dict(request.params)
        self.context: list[Message] = []


PrepareHook: TypeAlias = Callable[[TurnPreparation], object]
"""A function, or a coroutine function. Its result is not used."""


class CallPreparer:
    """Runs the hook before the first model call of a turn."""

    def __init__(self, hook: PrepareHook, planner: Planner, routing: Routing) -> None:
        self._hook = hook
        self._planner = planner
        self._routing = routing

    async def prepare(
        self, turn: TurnRecord, call: ModelRequest
    ) -> tuple[CallPlan, ModelRequest, tuple[Message, ...]]:
        """Return the plan, the first call, and the messages that precede those of each later call too.

        Raises the hook's own error, and TurnstreamError (`prepare_timeout`) if it takes over PREPARE_SECONDS.
        """
        preparation = TurnPreparation(turn, call)
        try:
            async with asyncio.timeout(PREPARE_SECONDS):
                await call_hook(self._hook, preparation)
        except TimeoutError as error:
            raise TurnstreamError("the turn could not be prepared in time", code="prepare_timeout") from error
        context = tuple(preparation.context)
        messages = (*context, *call.messages)
        system, params = preparation.system, preparation.params
        call = msgspec.structs.replace(call, messages=messages, system=system, params=params)
        models = self._routing.models(turn.asked_model or turn.model or "", turn.fallbacks, call)
        return self._planner.plan(models, owner=turn.owner), call, context


async def call_hook(hook: Callable[..., object], *given: object) -> None:
    """Call a host application's function. One that is not a coroutine function runs in a thread."""
    if inspect.iscoroutinefunction(hook):
        result = hook(*given)
    else:
        result = await asyncio.to_thread(hook, *given)
    if inspect.isawaitable(result):
        await result
