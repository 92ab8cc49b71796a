"""Answers in the shape of a provider's protocol: a stream that begins with the first output, or one body.

A provider reports a failed call as an HTTP status, and its clients decide by the status if they retry. So
the response begins with the first output of the turn (`first_output.py`).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from turnstream.core.answers import Answer
from turnstream.core.identifiers import new_id
from turnstream.core.lifecycle import TERMINAL_STATUSES
from turnstream.core.stream_events import StreamError
from turnstream.dialects.provider_shaped.encoder import answer_state
from turnstream.dialects.provider_shaped.failures import as_provider_error, error_of_end
from turnstream.dialects.provider_shaped.projection import Projection
from turnstream.errors import Conflict, ProviderError, StoreError, TurnstreamError
from turnstream.server.context import ServerContext
from turnstream.server.error_answers import mask_store_error
from turnstream.server.protocols.conversing import stop_on_disconnect
from turnstream.server.protocols.first_output import OutputStream
from turnstream.server.sending import until_disconnect
from turnstream.server.streams import EventStream, StreamFormat
from turnstream.turnlog.dialect_subscription import DialectSubscription
from turnstream.turns.ending import terminal_event
from turnstream.turns.executor import Executor
from turnstream.wires.base import Wire
from turnstream.wires.shared.error_engine import rate_limits


class ProviderShape(NamedTuple):
    """A protocol with the shape of a provider's.

    Attributes:
        protocol: Name of the protocol in the settings.
        wire: Wire whose serving half encodes answers and errors.
        form: Form of its streams.
        id_header: Header with the id of the request, in lower case.
        encode_refusal: Returns the status and the body of an error, which names the id of the request. None:
            the wire's own, which does not name it.
        encode_answer: Returns the body of an answer. None: the wire's own.
    """

    protocol: str
    wire: Wire
    form: StreamFormat
    id_header: str
    encode_refusal: Callable[[TurnstreamError, str], tuple[int, bytes]] | None = None
    encode_answer: Callable[[Answer], bytes] | None = None

    def error_response(self, error: TurnstreamError, request_id: str | None = None) -> Response:
        """Return the response for an error, as the provider would answer.

        `request_id`: None for a request without a turn, which gets a new id.
        """
        request_id = request_id or new_id()
        status, body = (self.encode_refusal or self._encode_refusal)(error, request_id)
        limits: Mapping[str, str] = error.rate_limits if isinstance(error, ProviderError) else {}
        headers = {**limits, self.id_header: request_id}
        if (wait := _wait_for(error)) is not None:
            headers["retry-after"] = str(math.ceil(wait))
        return Response(body, status, headers, media_type="application/json")

    def answer_body(self, answer: Answer) -> bytes:
        """Return the body of a whole answer."""
        return (self.encode_answer or self.wire.encode_answer)(answer)

    def _encode_refusal(self, error: TurnstreamError, _request_id: str) -> tuple[int, bytes]:
        status, body = self.wire.encode_error(as_provider_error(error))
        return (status if isinstance(error, ProviderError) else error.status), body


def _wait_for(error: TurnstreamError) -> float | None:
    given = error.retry_after if isinstance(error, ProviderError) else None
    return 1.0 if given is None and error.status == 503 else given


class AnsweredTurn(NamedTuple):
    """The turn of a response.

    Attributes:
        executor: Its executor, or None if it has ended.
        on_disconnect: Stops the turn if its client disconnects, or None.
        debug: True to show the client the inner messages of errors.
    """

    turn_id: str
    executor: Executor | None
    on_disconnect: Callable[[], None] | None
    debug: bool = False

    @property
    def rate_limits(self) -> Mapping[str, str]:
        """Rate limit headers of the provider's last answer."""
        return {} if self.executor is None else rate_limits(self.executor.answer_headers)


def turn_of(context: ServerContext, shape: ProviderShape, turn_id: str) -> AnsweredTurn:
    """Return the turn of a response. Call it as soon as the turn has started."""
    executor = context.commands.registry.executor(turn_id)
    on_disconnect = stop_on_disconnect(context, shape.protocol, turn_id)
    return AnsweredTurn(turn_id, executor, on_disconnect, context.debug)


class StreamedAnswer(OutputStream):
    """The stream of an answer.

    Args:
        subscription: The client's subscription, in a dialect with a `ProviderShapedEncoder`.
    """

    def __init__(
        self,
        context: ServerContext,
        shape: ProviderShape,
        turn: AnsweredTurn,
        subscription: DialectSubscription,
    ) -> None:
        stream = EventStream(subscription, context.keep_alive, shape.form)
        stream.on_disconnect = turn.on_disconnect
        headers = {**shape.form.headers, shape.id_header: turn.turn_id}
        super().__init__(subscription, stream, headers, debug=turn.debug)
        self._shape = shape
        self._turn = turn

    def has_output(self, state: object) -> bool:
        return answer_state(state).has_output

    def refusal(self, state: object) -> Response | None:
        failure = answer_state(state).failure
        return None if failure is None else _failure_response(self._shape, self._turn, failure)

    def error_response(self, error: TurnstreamError) -> Response:
        return self._shape.error_response(error)

    def late_headers(self) -> Mapping[str, str]:
        return self._turn.rate_limits


def _failure_response(shape: ProviderShape, turn: AnsweredTurn, failure: StreamError) -> Response:
    """Return the response of a turn that failed without output."""
    error = error_of_end(failure, None if turn.executor is None else turn.executor.failure)
    return shape.error_response(error, turn.turn_id)


async def whole_answer(
    context: ServerContext, owner: str, turn_id: str, projection: Projection, *, answer_id: str
) -> Answer:
    """Wait until a turn has ended, and return its answer as its client sees it. Raises NotFound, StoreError.

    Args:
        answer_id: Id of the answer for clients.
    """
    await context.commands.ended(turn_id)
    turn, rows, *_ = await context.commands.state(owner, turn_id)
    if turn.status not in TERMINAL_STATUSES:
        raise Conflict("the turn waits for an approval, which this protocol cannot give")
    blocks = tuple(row.block for row in rows)
    whole = Answer(answer_id, turn.asked_model or turn.model, blocks, created=turn.created_at // 1_000_000)
    completed = sum(not block.partial for block in blocks)
    end = terminal_event(turn, total_blocks=len(blocks), blocks_completed=completed)
    return projection.answer(whole, end)


class WholeAnswer(Response):
    """An answer in one JSON body.

    Args:
        answer: Waits for the turn's end and returns its answer, or the body.
    """

    def __init__(
        self, shape: ProviderShape, turn: AnsweredTurn, answer: Callable[[], Awaitable[Answer | bytes]]
    ) -> None:
        super().__init__(headers={shape.id_header: turn.turn_id})
        self._shape = shape
        self._turn = turn
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gone = asyncio.ensure_future(until_disconnect(receive))
        waiting = asyncio.ensure_future(self._answer())
        try:
            await asyncio.wait((gone, waiting), return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                if self._turn.on_disconnect is not None:
                    self._turn.on_disconnect()
                return
            answer = waiting.result()
        except TurnstreamError as error:
            shown = error
            if isinstance(error, StoreError):
                shown = mask_store_error(error, debug=self._turn.debug)
            await self._shape.error_response(shown)(scope, receive, send)
            return
        finally:
            gone.cancel()
            waiting.cancel()
        if isinstance(answer, Answer) and answer.error is not None:
            await _failure_response(self._shape, self._turn, answer.error)(scope, receive, send)
            return
        body = self._shape.answer_body(answer) if isinstance(answer, Answer) else answer
        headers = {**self._turn.rate_limits, self._shape.id_header: self._turn.turn_id}
        await Response(body, headers=headers, media_type="application/json")(scope, receive, send)
