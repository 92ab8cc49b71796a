"""Letting go of a turn's source: in time, and by force where it does not let go."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable

from turnstream.model_loop.sources import Stream

logger = logging.getLogger(__name__)


async def leave_stream(stream: Stream, error: BaseException | None, turn_id: str, seconds: float) -> None:
    """Leave a stream. What goes wrong with that does not change why it was left."""
    details = (None, None, None) if error is None else (type(error), error, error.__traceback__)
    await close_in_time(stream.__aexit__(*details), turn_id, seconds, known=error)


async def close_in_time(
    closing: Awaitable[object], turn_id: str, seconds: float, *, known: BaseException | None = None
) -> None:
    """Await what closes a source, and log what goes wrong with that, unless it is the `known` error.

    Raises CancelledError only if the task itself is cancelled from outside.
    """
    try:
        async with asyncio.timeout(seconds):
            await closing
    except asyncio.CancelledError as failure:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        if failure is not known:
            logger.warning("turn %s: its source was cancelled while it closed", turn_id)
    except (KeyboardInterrupt, SystemExit, GeneratorExit, PutDown):
        raise
    except BaseException as failure:  # noqa: BLE001 - a source may raise anything
        if failure is not known:
            logger.warning("turn %s: its source did not close: %r", turn_id, failure)


class PutDown(BaseException):
    """Raised in a source that swallows its cancellation, where it waits. It is no Exception: nothing there catches it
    by chance."""


def put_down(task: asyncio.Task[None], turn_id: str) -> None:
    """End a task whose source swallows cancellation: raise PutDown in its coroutine, where it waits.

    The source's `finally` clauses run, up to the first that waits.
    """
    coroutine = task.get_coro()
    try:
        coroutine.throw(PutDown())
        coroutine.close()
    except (PutDown, StopIteration):
        pass
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as failure:  # noqa: BLE001 - a source may raise anything
        logger.error("turn %s: its source cannot be ended, and goes on unseen: %r", turn_id, failure)
    task.add_done_callback(_look_at)
    task.cancel()  # what the coroutine waited for is let go of, and the task finds its coroutine at its end


def _look_at(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        task.exception()
