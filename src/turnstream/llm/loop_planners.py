"""Providers for each event loop, because connections belong to the loop that opened them.

Closing an LLM is optional. A loop's connections are closed when the LLM is closed, when the LLM is freed, or
when the loop shuts down as in `asyncio.run`, whichever is first.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import AsyncGenerator, Callable
from typing import NamedTuple

from turnstream.forking import keep_unused, renew_after_fork
from turnstream.llm.call_planner import CallPlanner

_FOR_EVER = 10.0 * 365 * 24 * 3600


class _LoopEntry(NamedTuple):
    """The planner of one loop, and the generator and timer that close it with the loop."""

    calling: CallPlanner
    keeper: AsyncGenerator[None, None]
    hold: asyncio.TimerHandle


class LoopPlanners:
    """The call planners of one LLM, one for each event loop. Several threads may use it, each with its loop.

    Args:
        make: Makes a CallPlanner without connections.
    """

    def __init__(self, make: Callable[[], CallPlanner]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._kept: dict[int, tuple[weakref.ref[asyncio.AbstractEventLoop], _LoopEntry]] = {}
        weakref.finalize(self, _close_all, self._kept).atexit = False
        renew_after_fork(self)

    def renew_in_child(self) -> None:
        """Start without planners.

        The connections of the parent's loops belong to the parent. See `Renewable`.
        """
        keep_unused(*self._kept.values())
        self._lock = threading.Lock()
        self._kept.clear()

    async def get(self) -> CallPlanner:
        """Return the running loop's planner."""
        loop = asyncio.get_running_loop()
        with self._lock:
            found = self._kept.get(id(loop))
            if found is not None and found[0]() is loop:
                return found[1].calling
            calling = self._make()
            # The loop closes its asynchronous generators when it shuts down. It references them weakly. So a
            # timer holds this one.
            keeper = _keep(calling, self._kept, id(loop))
            kept = _LoopEntry(calling, keeper, loop.call_later(_FOR_EVER, _hold, keeper))
            self._kept[id(loop)] = (weakref.ref(loop), kept)
        await anext(keeper)
        return calling

    async def close(self) -> None:
        """Close the running loop's connections. The next `get` makes a new planner."""
        with self._lock:
            found = self._kept.get(id(asyncio.get_running_loop()))
        if found is not None:
            await _end(found[1])


async def _keep(
    calling: CallPlanner, kept: dict[int, tuple[weakref.ref[asyncio.AbstractEventLoop], _LoopEntry]], key: int
) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        if (found := kept.get(key)) is not None and found[1].calling is calling:
            del kept[key]
        await calling.close()


async def _end(kept: _LoopEntry) -> None:
    await kept.keeper.aclose()
    kept.hold.cancel()


def _close_all(kept: dict[int, tuple[weakref.ref[asyncio.AbstractEventLoop], _LoopEntry]]) -> None:
    """Close the connections of each loop after the LLM was freed: now, or when the loop shuts down."""
    for reference, one in list(kept.values()):
        loop = reference()
        if loop is not None and not loop.is_closed():
            try:
                loop.call_soon_threadsafe(_start_end, loop, one)
            except RuntimeError:
                pass  # the loop was closed meanwhile, with its connections


def _start_end(loop: asyncio.AbstractEventLoop, kept: _LoopEntry) -> None:
    kept_task = loop.create_task(_end(kept), name="turnstream closes connections")
    kept_task.add_done_callback(_ended)


def _ended(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        task.exception()


def _hold(_keeper: AsyncGenerator[None, None]) -> None:
    """Do nothing: the timer needs a function to call."""
