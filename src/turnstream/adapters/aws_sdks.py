"""Streams of the AWS SDKs: boto3, which blocks, and aioboto3."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias, cast

import msgspec

from turnstream.adapters.opening import opened
from turnstream.core.stream_events import StreamEvent
from turnstream.errors import ConnectionFailed, ProviderError, ProviderTimeout
from turnstream.wires import WIRES
from turnstream.wires.base import Wire
from turnstream.wires.recording import frame_line

BedrockAnswer: TypeAlias = Any
"""Answer of a streaming call, a function that makes the call, or an awaitable of an answer."""
_STREAMS = ("stream", "body")
"""Fields of an answer that may hold its stream: of ConverseStream, and of InvokeModelWithResponseStream."""


async def from_bedrock(answer: BedrockAnswer) -> AsyncIterator[list[StreamEvent]]:
    """Yield the events of a streaming call of Amazon Bedrock.

        from_bedrock(lambda: client.converse_stream(modelId=…, messages=…))     # boto3
        from_bedrock(client.converse_stream(modelId=…, messages=…))             # aioboto3

    A function that makes the call, and the streams of boto3, run in threads. Raises ProviderError, and
    TypeError for an answer without a stream.
    """
    wire = WIRES["bedrock"]
    decoder = wire.decoder()
    try:
        async with contextlib.aclosing(_items(answer)) as items:
            async for item in items:
                if events := decoder.feed(frame_line(wire, msgspec.json.encode(item))):
                    yield events
    except ProviderError:
        raise
    except Exception as error:
        code, message = _reported(error)
        if code.endswith("Exception") and not _status_of(error):  # the provider sent it in its stream
            yield decoder.feed(frame_line(wire, msgspec.json.encode({code: {"message": message}})))
            return
        raise _failure(wire, error) from error
    if events := decoder.close():
        yield events


async def _items(answer: BedrockAnswer) -> AsyncGenerator[Any]:
    """Yield the items of the answer's stream, and close it."""
    if callable(answer):
        answer = await _BlockingCall(answer).run()
    if inspect.isawaitable(answer):
        answer = await answer
    stream = _stream_of(answer)
    if hasattr(stream, "__aiter__"):
        with contextlib.closing(stream):
            async with opened(stream) as items:
                async for item in items:
                    yield item
    elif isinstance(stream, Iterable):
        async with contextlib.aclosing(_read_in_thread(cast("Iterable[Any]", stream))) as items:
            async for item in items:
                yield item
    else:
        raise TypeError(
            "the answer has no stream: give converse_stream(…) or invoke_model_with_response_stream(…)"
        )


def _stream_of(answer: BedrockAnswer) -> Any:
    """Return the stream of an answer, or None."""
    given = cast("Mapping[str, Any]", answer)
    return next((given[name] for name in _STREAMS if name in given), None)


class _BlockingCall:
    """A call in a thread. Its answer is closed if the caller is cancelled before it takes the answer.

    The call cannot be interrupted. Its thread ends with the call, at the latest after the SDK's own timeouts.
    That thread then closes the answer, so that no task and no event loop has to wait for it.
    """

    def __init__(self, call: Callable[[], BedrockAnswer]) -> None:
        self._call = call
        self._lock = threading.Lock()
        self._abandoned = False
        self._answer: BedrockAnswer = None

    async def run(self) -> BedrockAnswer:
        """Return the answer, or the awaitable of one. Raises what the call raises."""
        try:
            return await asyncio.to_thread(self._make)
        except asyncio.CancelledError:
            with self._lock:
                self._abandoned, answer = True, self._answer
            _close_answer(answer)
            raise

    def _make(self) -> BedrockAnswer:
        answer = self._call()
        with self._lock:
            self._answer, abandoned = answer, self._abandoned
        if abandoned:
            _close_answer(answer)
        return answer


def _close_answer(answer: BedrockAnswer) -> None:
    """Close an answer that is not read. None: the call has not returned yet."""
    if inspect.iscoroutine(answer):
        answer.close()
    elif isinstance(answer, Mapping):
        _wake(_stream_of(answer))


async def _read_in_thread(stream: Iterable[Any]) -> AsyncGenerator[Any]:
    items: Iterator[Any] = iter(stream)
    ended = object()
    try:
        while (item := await asyncio.to_thread(next, items, ended)) is not ended:
            yield item
    finally:
        _wake(stream)


def _wake(stream: Any) -> None:
    """Close a stream, and let a thread that reads it return: closing alone does not end a read."""
    raw = getattr(stream, "_raw_stream", None)
    shutdown = getattr(raw, "shutdown", None)
    if shutdown is not None:
        with contextlib.suppress(OSError, ValueError, RuntimeError):  # it may have ended by itself
            shutdown()
    close = getattr(stream, "close", None)
    if close is not None:
        close()


def _part(error: Exception, name: str) -> dict[str, Any]:
    """Return a part of the response that an error of botocore has. Empty for other errors."""
    response = cast("dict[str, dict[str, Any]] | None", getattr(error, "response", None))
    return response.get(name, {}) if isinstance(response, dict) else {}


def _reported(error: Exception) -> tuple[str, str]:
    """Return the code and the message of an error of botocore. Empty for other errors."""
    said = _part(error, "Error")
    return str(said.get("Code") or ""), str(said.get("Message") or "")


def _status_of(error: Exception) -> int | None:
    """Return the HTTP status of a call that was refused, or None."""
    status = _part(error, "ResponseMetadata").get("HTTPStatusCode")
    return status if isinstance(status, int) and status >= 400 else None


def _failure(wire: Wire, error: Exception) -> Exception:
    """Return the typed error for an exception of botocore, or the exception itself if there is none."""
    status, (code, message) = _status_of(error), _reported(error)
    if status is not None:
        headers: dict[str, str] = _part(error, "ResponseMetadata").get("HTTPHeaders") or {}
        return wire.decode_error(
            status, {**headers, "x-amzn-errortype": code}, msgspec.json.encode({"message": message})
        )
    names = {kind.__name__ for kind in type(error).__mro__}
    if names & {"ReadTimeoutError", "ConnectTimeoutError", "TimeoutError"}:
        return ProviderTimeout("the provider did not answer in time", code="idle_timeout", detail=str(error))
    if names & {"HTTPClientError", "ConnectionError", "HTTPError", "ClientError"}:
        return ConnectionFailed("the provider could not be reached", retryable=True, detail=str(error))
    return error
