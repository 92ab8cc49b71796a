"""A conversation with a model, which keeps its messages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, cast

import msgspec

from turnstream.core.admission import plain_request_json
from turnstream.core.blocks import Message
from turnstream.errors import Conflict, InvalidRequest
from turnstream.llm.call_options import CallOptions
from turnstream.llm.message_stream import MessageStream
from turnstream.llm.model_calls import ModelCalls
from turnstream.llm.model_message import ModelMessage
from turnstream.llm.prompts import MessageLike, Prompt, past_turns
from turnstream.loop_thread import LoopThread
from turnstream.tracebacks import short_tracebacks

OpensModel: TypeAlias = Callable[[Prompt | None, "type[Any] | None", CallOptions], MessageStream[Any]]
"""Function that opens a stream of a model: prompt, type of the answer, options."""


class SavedConversation(msgspec.Struct, omit_defaults=True):
    """The JSON of a conversation."""

    messages: list[Message]
    system: str | None = None
    params: dict[str, Any] = {}


@short_tracebacks
class Conversation(ModelCalls):
    """A conversation with a model, which keeps its messages. Made by `LLM.conversation`.

        chat = llm.conversation(system="Answer briefly.")
        print(chat.collect_sync("Why is the sky blue?").text)
        print(chat.collect_sync("And at night?").text)

    A question and its answer are added to `messages` together, once the answer is complete and was read to
    its end. If the answer fails, is cancelled or is left before its end, neither is added: the next call
    continues from the messages before it. `add` keeps such an answer all the same. If the provider redacts
    the question, its replacement is added in its place.

    A conversation gives one answer at a time.
    """

    def __init__(self, open_model: OpensModel, thread: LoopThread, options: CallOptions) -> None:
        super().__init__(thread)
        given = dict(options)
        self.messages: list[Message] = _messages(
            cast("Sequence[MessageLike]", given.pop("messages", ()) or ())
        )
        """Messages so far. The caller may change the list between two answers."""
        self.options: CallOptions = cast("CallOptions", given)
        """Options of every call: `system`, `tools`, `params` and the others of `CallOptions`."""
        self._open_model = open_model
        self._last: MessageStream[Any] | None = None

    def __repr__(self) -> str:
        return f"<Conversation, {len(self.messages)} messages>"

    def _repr_markdown_(self) -> str | None:
        """Return the messages, for a notebook to render. None without messages."""
        return "\n\n".join(f"**{message.role}:** {message.text}" for message in self.messages) or None

    def _open(
        self, prompt: Prompt | None, output: type[Any] | None, options: CallOptions
    ) -> MessageStream[Any]:
        if "messages" in options:
            raise InvalidRequest("a conversation has its own messages: set chat.messages")
        if self._last is not None and self._last.running:
            raise Conflict(
                "an answer of this conversation is still running: wait until it has ended", code="turn_active"
            )
        asked: CallOptions = {**self.options, **options, "messages": tuple(self.messages)}
        stream = self._last = self._open_model(prompt, output, asked)
        question = _messages((), prompt)

        def keep(answer: ModelMessage[Any]) -> None:
            asked = question if answer.user_replacement is None else _messages((), answer.user_replacement)
            self.messages.extend((*asked, *_messages((answer,))))

        stream.when_read(keep)
        return stream

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
        raise InvalidRequest(
            f"this is not the JSON of a conversation ({error}): give what `to_json` returned"
        ) from error
    return {"messages": found.messages, "system": found.system, "params": found.params, **options}


def _messages(messages: Sequence[MessageLike], prompt: Prompt | None = None) -> list[Message]:
    if not messages and prompt is None:
        return []
    return [
        Message("user" if turn.role == "user" else "assistant", tuple(turn.blocks))
        for turn in plain_request_json(past_turns(messages, prompt), "the messages")
    ]
