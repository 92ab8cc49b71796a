"""Notices that a server is not used any more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send


class UseWatch:
    """An application around another one. It counts the open requests, which include streams."""

    def __init__(self, application: ASGIApp) -> None:
        self._application = application
        self._open = 0
        self._used_at = time.monotonic()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._open += 1
        try:
            await self._application(scope, receive, send)
        finally:
            self._open -= 1
            self._used_at = time.monotonic()

    async def wait_unused(self, seconds: float, is_busy: Callable[[], bool]) -> None:
        """Return after `seconds` without a request, during which `is_busy` never returned True."""
        while True:
            if self._open or is_busy():
                self._used_at = time.monotonic()
            left = self._used_at + seconds - time.monotonic()
            if left <= 0:
                return
            await asyncio.sleep(min(left, 1.0))
