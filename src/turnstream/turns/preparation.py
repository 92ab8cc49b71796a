"""The hook of a host application that runs before a turn's first model call."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import msgspec

from turnstream.core.blocks import Message
from turnstream.core.turn_events import Notice
from turnstream.errors import TurnstreamError
from turnstream.model_loop.prepared_calls import PreparedCalls
from turnstream.providers.plan import Planner
from turnstream.providers.routing import Routing
from turnstream.store.base import TurnRecord
from turnstream.wires.base import ModelRequest

PREPARE_SECONDS = 30.0
"""Seconds that the hook has."""


class TurnPreparation:
    """A turn before its first model call. The hook changes the fields from `model` on.

    Attributes:
        turn_id, chat_id: Ids of the turn and of its chat.
        metadata: The turn's metadata. It includes that of the principal.
        messages: The conversation up to the question. It cannot be changed.
        model: The model to call, as a request names it.
        keys: API keys by provider, for the calls of this turn only. They replace those of the environment.
            They are not stored, and masked in logs and errors.
        system: System prompt, or None.
        params: Parameters of the turn's model calls.
        context: Messages that precede the conversation in each model call of the turn. They are not stored.
    """

    def __init__(self, turn: TurnRecord, request: ModelRequest) -> None:
        self.turn_id = turn.id
        self.chat_id = turn.chat_id
        self.owner = turn.owner
        self.metadata = turn.metadata
        self.messages: Sequence[Message] = request.messages
        self.model = turn.asked_model or turn.model or ""
        self.keys: dict[str, str] = {}
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

    async def prepare(self, turn: TurnRecord, call: ModelRequest) -> PreparedCalls:
        """Return the turn's calls as the hook wants them.

        Raises the hook's own error, TurnstreamError (`prepare_timeout`) if it takes over PREPARE_SECONDS, and
        InvalidRequest, AuthenticationFailed or ConfigurationError if its model or its keys cannot be used.
        """
        preparation = TurnPreparation(turn, call)
        asked = preparation.model
        try:
            async with asyncio.timeout(PREPARE_SECONDS):
                await call_hook(self._hook, preparation)
        except TimeoutError as error:
            raise TurnstreamError(
                "the turn could not be prepared in time: try again", code="prepare_timeout"
            ) from error
        context = tuple(preparation.context)
        model = preparation.model
        call = msgspec.structs.replace(
            call,
            model=model,
            messages=(*context, *call.messages),
            system=preparation.system,
            params=preparation.params,
        )
        models = self._routing.models(model, turn.fallbacks, call, keys=preparation.keys)
        notice: Notice | None = None
        if model != asked:
            name = models[0].called.name
            notice = Notice("model_selected", f"the application chose the model {name}", model=name)
        return PreparedCalls(self._planner.plan(models, owner=turn.owner), call, context, notice)


async def call_hook(hook: Callable[..., object], *given: object) -> None:
    """Call a host application's function. One that is not a coroutine function runs in a thread."""
    if inspect.iscoroutinefunction(hook):
        result = hook(*given)
    else:
        result = await asyncio.to_thread(hook, *given)
    if inspect.isawaitable(result):
        await result
