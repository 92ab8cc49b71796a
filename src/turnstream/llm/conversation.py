"""A conversation with a model, which keeps its messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar, Unpack, cast, overload

import msgspec

from turnstream.core.admission import plain_request_json
from turnstream.core.blocks import Message
from turnstream.errors import Conflict, InvalidRequest
from turnstream.llm.blocking import SyncMessageStream
from turnstream.llm.call_options import CallOptions
from turnstream.llm.message_stream import MessageStream
from turnstream.llm.model_message import ModelMessage
from turnstream.llm.prompts import MessageLike, Prompt, past_turns
from turnstream.loop_thread import LoopThread
from turnstream.tracebacks import short_tracebacks

Output = TypeVar("Output")


class StreamsModel(Protocol):
    """An object with the method `LLM.stream`."""

    def __call__(
        self, prompt: Prompt | None, *, output: type[Any] | None, **options: Unpack[CallOptions]
    ) -> MessageStream[Any]: ...


class SavedConversation(msgspec.Struct, omit_defaults=True):
    """The JSON of a conversation."""

    messages: list[Message]
    system: str | None = None
    params: dict[str, Any] = {}


@short_tracebacks
class Conversation:
    """A conversation with a model, which keeps its messages. Made by `LLM.conversation`.

        chat = llm.conversation(system="Answer briefly.")
        print(chat.collect_sync("Why is the sky blue?").text)
        print(chat.collect_sync("And at night?").text)

    A question and its answer are added to `messages` together, once the answer is complete and was read to
    its end. If the answer fails, is cancelled or is left before its end, neither is added: the next call
    continues from the messages before it. `add` keeps such an answer all the same.

    A conversation gives one answer at a time.
    """

    def __init__(self, stream: StreamsModel, thread: LoopThread, options: CallOptions) -> None:
        given = dict(options)
        self.messages: list[Message] = _messages(
            cast("Sequence[MessageLike]", given.pop("messages", ()) or ())
        )
        """Messages so far. The caller may change the list between two answers."""
        self.options: CallOptions = cast("CallOptions", given)
        """Options of every call: `system`, `tools`, `params` and the others of `CallOptions`."""
        self._stream = stream
        self._thread = thread
        self._last: MessageStream[Any] | None = None

    def __repr__(self) -> str:
        return f"<Conversation, {len(self.messages)} messages>"

    def _repr_markdown_(self) -> str | None:
        """Return the messages, for a notebook to render. None without messages."""
        return "\n\n".join(f"**{message.role}:** {message.text}" for message in self.messages) or None

    # -- calls -------------------------------------------------------------------------------------------

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
        """Ask, and read the answer as it comes: `async with chat.stream("Why?") as stream`.

        Raises Conflict while another answer of this conversation is running, and as `LLM.stream` does.

        Args:
            prompt: The user's message. None: the model answers `messages` as they are.
            output: Type of the answer, for `stream.final_output()`.
            **options: Options of this call only. They replace those of the conversation.
        """
        if "messages" in options:
            raise InvalidRequest("a conversation has its own messages: change chat.messages")
        if self._last is not None and self._last.running:
            raise Conflict("an answer of this conversation is still running", code="turn_active")
        asked: CallOptions = {**self.options, **options, "messages": tuple(self.messages)}
        stream = self._last = self._stream(prompt, output=output, **asked)
        question = _messages((), prompt)
        stream.when_read(lambda answer: self.messages.extend((*question, *_messages((answer,)))))
        return stream

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
        """`stream` for code without asyncio: `with chat.stream_sync("Why?") as stream`."""
        return SyncMessageStream(self.stream(prompt, output=cast("Any", output), **options), self._thread)

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
        """Ask, and return the complete answer. Raises as reading a stream does."""
        async with self.stream(prompt, output=cast("Any", output), **options) as stream:
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
        with self.stream_sync(prompt, output=cast("Any", output), **options) as stream:
            return stream.final_message()

    # -- the messages ------------------------------------------------------------------------------------

    def add(self, prompt: Prompt, answer: Prompt | MessageLike) -> None:
        """Add a question and its answer to `messages` without a call of the model.

        Args:
            prompt: The user's message.
            answer: The answer: a message, such as the `partial` of an error, or its text.
        """
        said = {"role": "assistant", "content": answer} if isinstance(answer, str | list | tuple) else answer
        self.messages += [*_messages((), prompt), *_messages((cast("MessageLike", said),))]

    def to_json(self) -> str:
        """Return messages, system and params as JSON, for `LLM.conversation(saved=…)`.

        Raises TypeError if the params are not JSON. Tools and callbacks are not saved.
        """
        params = dict(self.options.get("params") or {})
        saved = SavedConversation(self.messages, self.options.get("system"), params)
        return msgspec.json.encode(saved).decode()


def restored(saved: str | bytes, options: CallOptions) -> CallOptions:
    """Return the options of a conversation that was saved as JSON. `options` replace them.

    Raises InvalidRequest if `saved` is not the JSON of a conversation.
    """
    try:
        found = msgspec.json.decode(saved, type=SavedConversation)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise InvalidRequest(f"this is not the JSON of a conversation: {error}") from error
    return {"messages": found.messages, "system": found.system, "params": found.params, **options}


def _messages(messages: Sequence[MessageLike], prompt: Prompt | None = None) -> list[Message]:
    if not messages and prompt is None:
        return []
    return [
        Message("user" if turn.role == "user" else "assistant", tuple(turn.blocks))
        for turn in plain_request_json(past_turns(messages, prompt), "the messages")
    ]
