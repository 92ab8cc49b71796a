"""An event loop in its own thread, for callers without an event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from typing import Any, TypeVar

from turnstream.errors import TurnstreamError
from turnstream.forking import keep_unused, renew_after_fork

Result = TypeVar("Result")

STOP_SECONDS = 10.0
"""Seconds to wait for the last work, and for the thread to end, on `close`."""
ABANDON_SECONDS = 1.0
"""Seconds to wait for the thread to end on `abandon`."""


class LoopThread:
    """Runs coroutines for other threads until it is closed.

    The thread starts with the first coroutine, and does not keep the process alive. A forked process starts
    its own thread. `owner` names, in errors, the object that uses the thread.
    """

    def __init__(self, name: str, owner: str = "client") -> None:
        self._name = name
        self._owner = owner
        self._lock = threading.RLock()  # a garbage collector may call `call_soon` while the lock is held
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closed = False
        self.forks = 0
        """Number of forks between the process that made this object and this process."""
        renew_after_fork(self)

    def renew_in_child(self) -> None:
        """Replace the lock, and forget the thread, which does not exist in the child. See `Renewable`."""
        keep_unused(self._loop)
        self._lock = threading.RLock()  # another thread of the parent may have held the old one
        self._loop = self._thread = None
        self.forks += 1

    def run(self, work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        """Run the coroutine that `work` makes, and return its result.

        An exception here, such as Ctrl-C, cancels it.

        Raises the coroutine's exception, TurnstreamError if the object is closed before or meanwhile, or
        RuntimeError if called in the object's own thread, which would wait for itself.
        """
        if threading.current_thread() is self._thread:
            raise RuntimeError(
                f"a blocking call in the event loop of {self._owner} would wait for itself: await instead"
            )
        with self._lock:
            loop = self._started()
            future = asyncio.run_coroutine_threadsafe(_made_there(work), loop)
        try:
            return future.result()
        except CancelledError:
            if not self._closed:
                raise
            raise self._closed_error() from None
        except BaseException:
            future.cancel()
            raise

    def close(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Cancel all running work, run `work` last, and end the thread. A second call does nothing."""
        loop, thread = self._closing()
        if loop is None or thread is None:
            return
        try:
            asyncio.run_coroutine_threadsafe(_last(work), loop).result(STOP_SECONDS)
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(STOP_SECONDS)

    def abandon(self) -> None:
        """End the thread at once, without last work. A finalizer may call this in any thread."""
        loop, thread = self._closing()
        if loop is None or thread is None:
            return
        loop.call_soon_threadsafe(loop.stop)
        if thread is not threading.current_thread():
            thread.join(ABANDON_SECONDS)

    def call_soon(self, what: Callable[[], None]) -> None:
        """Call `what` in the thread, before any work that is submitted later.

        Does not wait, so a garbage collector may call it in any thread at any moment. Does nothing before the
        first `run` or after `close`.
        """
        with self._lock:
            if self._loop is not None and not self._closed:
                self._loop.call_soon_threadsafe(what)

    @property
    def closed(self) -> bool:
        """True after `close` or `abandon`."""
        return self._closed

    def _closing(self) -> tuple[asyncio.AbstractEventLoop | None, threading.Thread | None]:
        """Note that it is closed. Return what has to end: nothing if it was closed before."""
        with self._lock:
            running = (None, None) if self._closed else (self._loop, self._thread)
            self._closed = True
        return running

    def _closed_error(self) -> TurnstreamError:
        return TurnstreamError(
            f"the {self._owner} was closed: make another one", code=f"{self._owner}_closed"
        )

    def _started(self) -> asyncio.AbstractEventLoop:
        if self._closed:
            raise self._closed_error()
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=_serve, args=(self._loop,), name=self._name, daemon=True)
            self._thread.start()
        return self._loop


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        loop.run_until_complete(_cancel_others())
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        asyncio.set_event_loop(None)
        loop.close()


async def _made_there(work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    return await work()


async def _last(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    await _cancel_others()
    await work()


async def _cancel_others() -> None:
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    if others:
        await asyncio.wait(others, timeout=STOP_SECONDS / 2)
