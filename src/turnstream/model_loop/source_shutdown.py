"""Closing a source within a deadline, and by force if it does not stop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable

from turnstream.errors import TurnstreamError
from turnstream.model_loop.sources import Stream

logger = logging.getLogger(__name__)

SOURCE_CLOSE_TIMEOUT = 5.0
"""Seconds that a source may take to close."""


async def close_stream(stream: Stream, error: BaseException | None, label: str) -> None:
    """Close a stream after `error`, or after its normal end if `error` is None.

    A failure to close is only logged.
    """
    details = (None, None, None) if error is None else (type(error), error, error.__traceback__)
    await close_in_time(stream.__aexit__(*details), label, known=error)


async def close_in_time(
    closing: Awaitable[object], label: str, *, known: BaseException | None = None
) -> None:
    """Await the closing of a source, for at most SOURCE_CLOSE_TIMEOUT. If the closing fails, log that.

    Raises CancelledError only if the task itself is cancelled from outside.

    Args:
        closing: The awaitable that closes the source.
        label: Name of the turn or stream in log lines.
        known: An error that is not logged again, because the caller handles it.
    """
    try:
        async with asyncio.timeout(SOURCE_CLOSE_TIMEOUT):
            await closing
    except asyncio.CancelledError as failure:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        if failure is not known:
            logger.warning("%s: its source was cancelled while it closed", label)
    except (KeyboardInterrupt, SystemExit, GeneratorExit, SourceKilled):
        raise
    except BaseException as failure:  # noqa: BLE001 - a source may raise anything
        if failure is not known:
            logger.warning("%s: its source did not close: %r", label, failure)


def raise_if_source_cancelled(task: asyncio.Task[None] | None) -> None:
    """Raise TurnstreamError if a cancellation that reached `task` came from within its source."""
    if task is not None and not task.cancelling():
        raise TurnstreamError("the source of this turn was cancelled from within", code="source_error")


class SourceKilled(BaseException):
    """Raised at the await of a source that swallows its cancellation.

    It is not an Exception, so that the source does not catch it by chance.
    """


def kill_source(task: asyncio.Task[None], label: str) -> None:
    """End a task whose source swallows cancellation: raise SourceKilled in its coroutine, at its await.

    The source's `finally` clauses run, up to the first await.
    """
    coroutine = task.get_coro()
    try:
        coroutine.throw(SourceKilled())
        coroutine.close()
    except (SourceKilled, StopIteration):
        pass
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as failure:  # noqa: BLE001 - a source may raise anything
        logger.error("%s: its source cannot be ended, and continues without watchers: %r", label, failure)
    task.add_done_callback(_retrieve_exception)
    task.cancel()  # the coroutine's wait is cancelled, and the task finds its coroutine ended


def _retrieve_exception(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        task.exception()
