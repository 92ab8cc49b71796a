"""Streams whose response begins with the first output of their turn.

A client that decides by the HTTP status needs the status of a call that failed. So the response begins with
the first output. If the turn fails before that, the response is the error. A turn without output for
`PATIENCE` seconds begins its response too, so that comments keep the connection open. After that an error is
the last event of the stream.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from turnstream.errors import StoreError, TurnstreamError
from turnstream.server.error_answers import mask_store_error
from turnstream.server.sending import serve_in_task, until_disconnect
from turnstream.server.streams import HAND_OVER_EXTENSION, EventStream, HandOver, UnsizedResponse
from turnstream.turnlog.dialect_subscription import DialectSubscription

PATIENCE = 10.0
"""Seconds that a response waits for the first output of its turn."""


class OutputStream(UnsizedResponse):
    """The response of a stream that begins with the first output of its turn.

    Args:
        stream: The stream of `subscription`.
        debug: Show the client the inner messages of errors.
    """

    def __init__(
        self,
        subscription: DialectSubscription,
        stream: EventStream,
        headers: Mapping[str, str],
        *,
        debug: bool,
    ) -> None:
        super().__init__(headers=headers)
        self._debug = debug
        self._subscription = subscription
        self._stream = stream

    def has_output(self, state: object) -> bool:
        """Return True if a part of the answer was sent. `state` is the subscription's."""
        raise NotImplementedError

    def refusal(self, state: object) -> Response | None:
        """Return the response of a turn that has failed without output. None: the stream shows the end."""
        raise NotImplementedError

    def error_response(self, error: TurnstreamError) -> Response:
        """Return the response of an error before the stream."""
        raise NotImplementedError

    def late_headers(self) -> Mapping[str, str]:
        """Return headers that are known when the response begins, and not before."""
        return {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            begun = await self._beginning(receive)
        except StoreError as error:
            shown = mask_store_error(error, debug=self._debug)
            await self.error_response(shown)(scope, receive, send)
            return
        if begun is None:
            return  # the client has disconnected
        state = self._subscription.state
        if not self.has_output(state) and (refusal := self.refusal(state)) is not None:
            self._subscription.close()
            await refusal(scope, receive, send)
            return
        self.headers.update(self.late_headers())
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        if begun:
            await send({"type": "http.response.body", "body": begun, "more_body": True})
        extensions: dict[str, Any] = scope.get("extensions") or {}
        hand_over: HandOver | None = extensions.get(HAND_OVER_EXTENSION)
        if hand_over is None or not hand_over(self._stream, scope):
            await serve_in_task(self._stream, scope, receive, send)

    async def _beginning(self, receive: Receive) -> bytes | None:
        """Return the frames up to the first output or the end. Return None if the client disconnects before.

        After `PATIENCE` seconds return the frames so far.
        """
        subscription = self._subscription
        gone = asyncio.ensure_future(until_disconnect(receive))
        gone.add_done_callback(self._leave)
        timer = asyncio.get_running_loop().call_later(PATIENCE, subscription.nudge)
        frames: list[bytes] = []
        try:
            while not (self.has_output(subscription.state) or subscription.at_end):
                data = await subscription.next()
                if not data:
                    break
                frames.append(data)
            return None if gone.done() else b"".join(frames)
        finally:
            timer.cancel()
            gone.cancel()

    def _leave(self, gone: asyncio.Future[Any]) -> None:
        if not gone.cancelled():
            self._stream.close()
