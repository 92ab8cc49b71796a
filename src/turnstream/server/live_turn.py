"""Turns for a host application: turns that it started, and event streams for its own endpoints."""

from __future__ import annotations

from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import Response

from turnstream.core.cursor import Cursor
from turnstream.core.turn_events import TurnEvent
from turnstream.errors import RequestError
from turnstream.server.auth import Principal
from turnstream.server.context import ServerContext, request_block, request_cursor
from turnstream.server.error_answers import error_response
from turnstream.server.streams import EventStreamResponse
from turnstream.tools.asking import ApprovalAnswer
from turnstream.turnlog.subscription import Subscription
from turnstream.turns.commands import StartedTurn
from turnstream.turns.new_turns import TurnState


class LiveTurn:
    """A turn that the host application started. It can watch the turn, wait for it or stop it."""

    def __init__(self, context: ServerContext, owner: str, started: StartedTurn) -> None:
        self.id = started.assistant_turn.id
        self.chat_id = started.assistant_turn.chat_id
        self.started = started
        self._context = context
        self._owner = owner

    @property
    def beginning(self) -> Cursor:
        """Cursor before the first event. A watcher that begins here gets every event still in memory."""
        return Cursor(self.started.assistant_turn.generation, 0)

    async def response(self, request: Request) -> Response:
        """Return the turn's event stream, from the request's cursor or, without one, from the beginning."""
        return await turn_response(
            self._context, request, self.id, principal=Principal(self._owner), beginning=self.beginning
        )

    async def subscribe(self, *, after: Cursor | None = None, from_block: int = 0) -> Subscription:
        """Return a subscription to the turn's frames, without HTTP."""
        return await self._context.watching.subscribe(
            self._owner, self.id, after=after, from_block=from_block
        )

    def __aiter__(self) -> AsyncIterator[TurnEvent]:
        """Return an iterator over the turn's events; see `events`."""
        return self.events()

    async def events(self) -> AsyncIterator[TurnEvent]:
        """Yield the turn's events, from its beginning to its end. Old events come as a catch-up.

        Raises StoreError.
        """
        subscription = await self.subscribe(after=self.beginning)
        try:
            while (data := await subscription.next()) is not None:
                for _, event in subscription.log.encoder.events(bytes(data)):
                    yield event
        finally:
            subscription.close()

    async def interrupt(self) -> TurnState:
        """Stop the turn, and return its state after that. Output that has arrived is kept."""
        return await self._context.commands.interrupt(self._owner, self.id)

    async def approve(self, approval_id: str, *, approved: bool, reason: str | None = None) -> None:
        """Answer an approval of the turn. Raises NotFound, and Conflict if it cannot be answered any more."""
        answer = ApprovalAnswer(approved, reason)
        await self._context.commands.approvals.answer(self._owner, self.id, approval_id, answer)

    async def wait(self) -> TurnState:
        """Wait until the turn has ended or waits for approvals, and return its state."""
        await self._context.commands.ended(self.id)
        return await self._context.commands.state(self._owner, self.id)


async def turn_response(
    context: ServerContext,
    request: Request,
    turn_id: str,
    *,
    principal: Principal | None = None,
    beginning: Cursor | None = None,
) -> Response:
    """Return the event stream of a turn.

    Args:
        principal: The caller. None: call the engine's `authenticate` hook.
        beginning: The cursor for a request without one. None: such a request starts with a catch-up.

    A bad cursor, an unknown turn or an unknown caller gets the same JSON error as from the routes. Raises
    StoreError.
    """
    try:
        principal = principal or await context.principal(request)
        subscription = await context.watching.subscribe(
            principal.owner,
            turn_id,
            after=request_cursor(request) or beginning,
            from_block=request_block(request),
        )
    except RequestError as error:
        return error_response(error)
    return stream_response(context, subscription)


def stream_response(context: ServerContext, subscription: Subscription) -> Response:
    """Return the event stream of a subscription, or status 204 if the subscription is at the turn's end."""
    if subscription.at_end:
        return Response(status_code=204)
    return EventStreamResponse(subscription, context.keep_alive)
