"""The ways to ask a model, which a model and a conversation share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, TypeVar, Unpack, overload

from turnstream.llm.blocking import SyncMessageStream
from turnstream.llm.call_options import CallOptions
from turnstream.llm.message_stream import MessageStream
from turnstream.llm.model_message import ModelMessage
from turnstream.llm.prompts import Prompt
from turnstream.loop_thread import LoopThread
from turnstream.tracebacks import short_tracebacks

Output = TypeVar("Output")


@short_tracebacks
class ModelCalls(ABC):
    """The methods that ask a model, with and without asyncio.

    Args:
        thread: Runs the streams of callers without asyncio, with their tools and callbacks.
    """

    def __init__(self, thread: LoopThread) -> None:
        self._thread = thread

    @abstractmethod
    def _open(
        self, prompt: Prompt | None, output: type[Any] | None, options: CallOptions
    ) -> MessageStream[Any]:
        """Return the stream of a new call, which begins when the caller enters it."""

    @overload
    def stream(
        self, prompt: Prompt | None = None, *, output: type[Output], **options: Unpack[CallOptions]
    ) -> MessageStream[Output]: ...
    @overload
    def stream(
        self, prompt: Prompt | None = None, *, output: None = None, **options: Unpack[CallOptions]
    ) -> MessageStream[None]: ...
    def stream(
        self,
        prompt: Prompt | None = None,
        *,
        output: type[Any] | None = None,
        **options: Unpack[CallOptions],
    ) -> MessageStream[Any]:
        """Call the model, and read the answer as it comes: `async with llm.stream("Why?") as stream`.

        Entering the `async with` block calls the model. Raises InvalidRequest, ConfigurationError for a tool
        or a type that cannot be described to a model, and Conflict while another answer of the same
        conversation is running.

        Args:
            prompt: The user's message, after the messages so far. None: the model answers those.
            output: Type of the answer, for `stream.final_output()`.
            **options: See `CallOptions`. In a conversation they replace its own, for this call only.
        """
        return self._open(prompt, output, options)

    @overload
    def stream_sync(
        self, prompt: Prompt | None = None, *, output: type[Output], **options: Unpack[CallOptions]
    ) -> SyncMessageStream[Output]: ...
    @overload
    def stream_sync(
        self, prompt: Prompt | None = None, *, output: None = None, **options: Unpack[CallOptions]
    ) -> SyncMessageStream[None]: ...
    def stream_sync(
        self,
        prompt: Prompt | None = None,
        *,
        output: type[Any] | None = None,
        **options: Unpack[CallOptions],
    ) -> SyncMessageStream[Any]:
        """`stream` for code without asyncio: `with llm.stream_sync("Why?") as stream`.

        Tools and callbacks run in a separate thread, which all such streams of one LLM share.
        """
        return SyncMessageStream(self._open(prompt, output, options), self._thread)

    @overload
    async def collect(
        self, prompt: Prompt | None = None, *, output: type[Output], **options: Unpack[CallOptions]
    ) -> ModelMessage[Output]: ...
    @overload
    async def collect(
        self, prompt: Prompt | None = None, *, output: None = None, **options: Unpack[CallOptions]
    ) -> ModelMessage[None]: ...
    async def collect(
        self,
        prompt: Prompt | None = None,
        *,
        output: type[Any] | None = None,
        **options: Unpack[CallOptions],
    ) -> ModelMessage[Any]:
        """Call the model, and return the complete message. Raises as reading a stream does.

        With `output`, the value is in `message.output`.
        """
        async with self._open(prompt, output, options) as stream:
            return await stream.final_message()

    @overload
    def collect_sync(
        self, prompt: Prompt | None = None, *, output: type[Output], **options: Unpack[CallOptions]
    ) -> ModelMessage[Output]: ...
    @overload
    def collect_sync(
        self, prompt: Prompt | None = None, *, output: None = None, **options: Unpack[CallOptions]
    ) -> ModelMessage[None]: ...
    def collect_sync(
        self,
        prompt: Prompt | None = None,
        *,
        output: type[Any] | None = None,
        **options: Unpack[CallOptions],
    ) -> ModelMessage[Any]:
        """`collect` for code without asyncio."""
        with SyncMessageStream(self._open(prompt, output, options), self._thread) as stream:
            return stream.final_message()
