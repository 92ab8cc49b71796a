"""aiohttp's connections, which also say when something has come: so a read that waits needs no task to be woken.

Nothing else of aiohttp is touched. A session of a host application has connections of its own
kind: there a read waits as aiohttp has it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Self

import aiohttp
from aiohttp.client_proto import ResponseHandler


class ArrivalConnector(aiohttp.TCPConnector):
    """Makes connections that are `ArrivalHandler`s."""

    @classmethod
    def unlimited(cls, *, keepalive_timeout: float) -> Self:
        """One that opens as many connections as are needed at a time."""
        connector = cls(limit=0, keepalive_timeout=keepalive_timeout)
        connector._factory = partial(ArrivalHandler, loop=asyncio.get_running_loop())
        return connector


class ArrivalHandler(ResponseHandler):
    """One connection. `arrived` is called after each read of the socket, with all of it in the response's buffer, and
    when the connection is lost. It must not raise."""

    arrived: Callable[[], None] | None = None

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if data and self.arrived is not None:
            self.arrived()

    def connection_lost(self, exc: BaseException | None) -> None:
        """After chunks that cannot be parsed aiohttp closes the connection, and tells nobody who reads the body."""
        body = self._payload
        super().connection_lost(exc)
        if body is not None and not body.is_eof() and body.exception() is None:
            body.set_exception(aiohttp.ClientPayloadError("the body's chunks cannot be read"))
        if self.arrived is not None:
            self.arrived()

    def resume_reading(self, resume_parser: bool = True) -> None:  # noqa: FBT001, FBT002 - aiohttp's
        """aiohttp resumes after every read of the buffer: that is worth something only after a pause."""
        if self._reading_paused:
            super().resume_reading(resume_parser)
