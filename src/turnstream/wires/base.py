"""Wires: provider protocols, both ways. A wire knows no network and no store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

import msgspec

from turnstream.core.answers import Answer
from turnstream.core.blocks import Message
from turnstream.core.stream_events import StreamEvent
from turnstream.errors import ProviderError, StreamIncomplete

DEFAULT_EVENT_LIMIT = 16 * 1024 * 1024
"""Bytes that one event of a stream may have before it is refused with `event_too_large`."""


class ToolDefinition(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A tool the model may call; `input_schema` is a JSON Schema object. `strict`: the model is held to it, on wires that
    know of that; the schema must be one that the provider takes then."""

    name: str
    description: str = ""
    input_schema: dict[str, Any] = {}
    strict: bool = False


class ModelRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """One model call, in no provider's words.

    `model` is the provider's name for it, without our `provider/`. `params` may hold, in our words:

        max_tokens, temperature, top_p, top_k, stop (list), parallel_tool_calls
        thinking          `{budget_tokens}` or `{effort: low | medium | high}`, in whichever words the model takes
        tool_choice       auto, none, required or `{name}`
        response_format   `{type: json_schema, name, schema, strict?}` or `{type: json_object}`
        cache             true: hint the provider to keep the system prompt, tools and history for the next call
        extra_body        merged into the body last, as it is; our server lets clients replace no field of the turn with it

    A param that is None is as if it were not there. What a wire does not know it passes through as the provider's own;
    what it cannot carry it refuses with an InvalidRequest that names the remedy, except for hints (`cache`, and
    `parallel_tool_calls` where there is no such thing), which it leaves out. `stream` False asks for one whole answer.
    """

    model: str
    messages: tuple[Message, ...]
    system: str | None = None
    tools: tuple[ToolDefinition, ...] = ()
    params: dict[str, Any] = {}
    stream: bool = True
    reasoning_field: str | None = None
    """The field in which the model called needs its thinking back beside tool calls, on chat completions. On the wire
    anthropic it means that thinking goes back although it is not signed. It comes from what is known of the model (`providers.capabilities`)."""


class HttpRequest(msgspec.Struct, frozen=True, gc=False):
    """The HTTP request of a model call: path (with its query, if any) below the provider's base URL, headers without the key."""

    path: str
    headers: dict[str, str]
    body: bytes
    method: str = "POST"


class Position(msgspec.Struct, frozen=True, gc=False):
    """Place up to which an answer that the provider keeps has been read: `sequence_number` is that of the last event taken."""

    response_id: str
    sequence_number: int


Finish: TypeAlias = Literal["certain", "likely"]
"""Certainty that an answer has ended although its end marker has not come."""


class Decoder(Protocol):
    """Provider bytes → StreamEvents, for one response. Any split of the bytes gives the same events."""

    @property
    def finish(self) -> Finish | None:
        """Set once the provider has said why the answer ended, while only its end marker is missing. None before, and
        after the end marker."""
        ...

    def end(self) -> list[StreamEvent]:
        """The end marker does not come, though the connection is still open: return the rest of the answer. To be called
        while `finish` is set."""
        ...

    def feed(self, data: bytes) -> list[StreamEvent]:
        """Return the events that `data` completes.

        Raises MalformedEvent, unless malformed events are skipped, or EventTooLarge. If events came before it in the same
        `data`, they are returned, and the next call raises.
        """
        ...

    def close(self) -> list[StreamEvent]:
        """Return the rest of a body that has ended. Raises StreamIncomplete if its end marker never came; the error has the
        events that waited for more (`held`)."""
        ...


def rest_of(decoder: Decoder) -> tuple[list[StreamEvent], StreamIncomplete | None]:
    """Close a decoder. Return the last events, and the error if the end marker never came."""
    try:
        return decoder.close(), None
    except StreamIncomplete as error:
        return list(error.held), error


class Encoder(Protocol):
    """StreamEvents → provider bytes, for one response."""

    def feed(self, events: Iterable[StreamEvent]) -> bytes: ...

    def close(self) -> bytes:
        """Return the end of the body; empty if the last event is its end."""
        ...


class NewDecoder(Protocol):
    """Makes a decoder."""

    def __call__(
        self, *, event_limit: int = DEFAULT_EVENT_LIMIT, on_malformed: Literal["fail", "skip"] = "fail"
    ) -> Decoder:
        """Return a decoder of one streamed answer.

        Args:
            event_limit: Bytes that one event may have.
            on_malformed: `skip` drops malformed events with a notice, `fail` raises.
        """
        ...


class NewEncoder(Protocol):
    """Makes an encoder."""

    def __call__(self, *, model: str, message_id: str) -> Encoder:
        """Return an encoder of one streamed answer."""
        ...


def bearer(api_key: str) -> dict[str, str]:
    """Return the headers that carry an API key as most providers take it."""
    return {"authorization": f"Bearer {api_key}"}


@dataclass(frozen=True, slots=True)
class Wire:
    """A provider protocol: its name, and the functions of its two halves.

    The calling half writes requests and reads answers; the serving half reads requests and writes answers.
    """

    name: str
    content_type: str
    """Media type of a streamed answer."""

    encode_request: Callable[[ModelRequest], HttpRequest]
    """Raises InvalidRequest for what the API cannot be asked."""
    auth_headers: Callable[[str], Mapping[str, str]]
    """Return the headers that carry an API key."""
    decoder: NewDecoder
    decode_answer: Callable[[bytes], list[StreamEvent]]
    """Return the events that the stream of a whole answer would have had. An error that the provider reports in its place
    is the one StreamError. Raises MalformedEvent for a body that is neither."""
    decode_error: Callable[[int, Mapping[str, str], bytes], ProviderError]
    """Return the typed error of an answer that is not 2xx, from its status, headers and body."""

    decode_request: Callable[[str, bytes], ModelRequest]
    """The inverse of `encode_request`, from a path and a body; `stream` included. Raises InvalidRequest."""
    encoder: NewEncoder
    encode_answer: Callable[[Answer], bytes]
    """Return the JSON body of an answer that is not streamed."""
    encode_error: Callable[[ProviderError], tuple[int, bytes]]
    """Return the status and the JSON body with which this provider reports an error."""

    encode_resume: Callable[[Position], HttpRequest] | None = None
    """Return the request for the rest of an answer that the provider keeps; None if it keeps none."""
