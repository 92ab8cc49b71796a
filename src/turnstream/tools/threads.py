"""Blocking functions in threads.

There is no pool: a function that never returns would occupy a pool thread for ever, and the interpreter
waits for pools when it exits. Each call gets its own daemon thread, and there are at most `MAX_THREADS`.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
from collections.abc import Callable
from typing import TypeVar

from turnstream.forking import renew_after_fork

Value = TypeVar("Value")

MAX_THREADS = 64


class _Slots:
    """Counts the free threads."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._free = threading.BoundedSemaphore(most)
        renew_after_fork(self)

    def renew_in_child(self) -> None:
        """Free all slots. See `Renewable`. The parent's threads do not run in the child."""
        self._free = threading.BoundedSemaphore(self._most)

    def acquire(self) -> bool:
        """Take a slot. Return False if all slots are taken."""
        return self._free.acquire(blocking=False)

    def release(self) -> None:
        self._free.release()


_slots = _Slots(MAX_THREADS)


class NoThread(Exception):
    """All threads are in use by functions that have not returned."""


def in_thread(function: Callable[[], Value], name: str) -> asyncio.Future[Value]:
    """Start `function` in a copy of the current context, and return a future for its result.

    Cancelling the future does not stop the function. Raises NoThread if all threads are in use.
    """
    if not _slots.acquire():
        raise NoThread
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Value] = loop.create_future()

    def settle(value: Value | None, error: BaseException | None) -> None:
        if future.done():
            if inspect.iscoroutine(value):
                value.close()  # no caller will await it
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(value)  # type: ignore[arg-type]

    def work() -> None:
        value: Value | None = None
        failure: BaseException | None = None
        try:
            value = function()
        except StopIteration as error:  # a future cannot hold it
            failure = RuntimeError(f"the function raised {error!r}")
        except Exception as error:  # noqa: BLE001 - any exception is the result of the call
            failure = error
        except BaseException as error:  # noqa: BLE001 - in a task it would end the event loop
            failure = RuntimeError(f"the function tried to end the process: {error!r}")
        finally:
            _slots.release()
        try:
            loop.call_soon_threadsafe(settle, value, failure)
        except RuntimeError:
            return  # the loop has ended, and the caller with it

    try:
        threading.Thread(target=contextvars.copy_context().run, args=(work,), name=name, daemon=True).start()
    except BaseException:
        _slots.release()
        raise
    return future
