"""Wires: protocols of model providers, in both directions. A wire does no I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, Self, TypeAlias

import msgspec

from turnstream.core.answers import Answer
from turnstream.core.blocks import BlockType, Message
from turnstream.core.stream_events import StreamEvent
from turnstream.errors import ProviderError, StreamIncomplete

DEFAULT_EVENT_LIMIT = 16 * 1024 * 1024
"""Default limit of one stream event, in bytes. A larger event raises EventTooLarge."""


SHARED_PARAMS = frozenset(
    {
        "max_tokens", "temperature", "top_p", "top_k", "stop", "parallel_tool_calls", "thinking",
        "tool_choice", "response_format", "cache",
    }
)  # fmt: skip
"""Params with normalized names. Every wire converts or refuses them."""
WIRE_PARAMS = "wire_params"
"""Param with the params of single wires, by the wire's name. A model on another wire does not get them."""


class ToolDefinition(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A tool that the model may call.

    Args:
        input_schema: JSON Schema of the arguments.
        strict: True to make the provider enforce the schema, on wires that support it. The provider may
            accept only some schemas then.
    """

    name: str
    description: str = ""
    input_schema: dict[str, Any] = {}
    strict: bool = False


class ModelRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """One model call, independent of the provider.

    Args:
        model: The provider's name of the model, without the `provider/` prefix.
        messages: The conversation so far.
        system: System prompt, or None.
        tools: Tools that the model may call.
        params: Parameters under normalized names; see below.
        stream: False requests one whole answer.

    Normalized params:

        max_tokens, temperature, top_p, top_k, stop (list), parallel_tool_calls
        thinking          `{budget_tokens}` or `{effort: low | medium | high}`; converted for the model
        tool_choice       auto, none, required or `{name}`
        response_format   `{type: json_schema, name, schema, strict?}` or `{type: json_object}`
        wire_params       `{wire: {param: value}}`: params for models that are called over this wire only
        cache             true: ask the provider to cache the system prompt, tools and history
        extra_body        fields merged into the body last, unchanged. Clients of the server cannot
                          override fields of the turn with it

    A param that is None is ignored. A wire passes a param that it does not know through unchanged. It raises
    InvalidRequest, with a remedy, for a param that the API does not support. Hints are dropped instead:
    `cache`, and `parallel_tool_calls` if the API has no such field.
    """

    model: str
    messages: tuple[Message, ...]
    system: str | None = None
    tools: tuple[ToolDefinition, ...] = ()
    params: dict[str, Any] = {}
    stream: bool = True
    reasoning_field: str | None = None
    """Field in which the called model needs its thinking back along with tool calls, on Chat Completions. On
    the anthropic wire, any value means that unsigned thinking is sent back. Set from the known capabilities
    of the model (`providers.capabilities`)."""


class HttpRequest(msgspec.Struct, frozen=True, gc=False):
    """The HTTP request of a model call.

    Args:
        path: Path below the provider's base URL, with the query if there is one.
        headers: Headers without the API key.
        body: Encoded body.
        method: HTTP method.
    """

    path: str
    headers: dict[str, str]
    body: bytes
    method: str = "POST"


class Position(msgspec.Struct, frozen=True, gc=False):
    """Read position in an answer that the provider stores. `sequence_number` belongs to the last event that
    was read."""

    response_id: str
    sequence_number: int


class StoredAnswer(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A running answer that the provider stores, so that another process can read it.

    Args:
        step: Number of the turn's step that the answer belongs to.
        model: Name of the model, with its provider.
        response_id: Id of the answer at the provider.
    """

    step: int
    model: str
    response_id: str


Finish: TypeAlias = Literal["certain", "likely"]
"""Certainty that an answer has ended although its end marker has not arrived."""


class Decoder(Protocol):
    """Decodes provider bytes into StreamEvents, for one response. The events do not depend on how the bytes
    are split."""

    @property
    def finish(self) -> Finish | None:
        """Certainty that the answer has ended, after the provider's finish reason and before its end marker.
        None at any other time."""
        ...

    def end(self) -> list[StreamEvent]:
        """Return the rest of the answer if the end marker does not arrive on an open connection. Call only
        while `finish` is set."""
        ...

    def feed(self, data: bytes) -> list[StreamEvent]:
        """Return the events that `data` completes.

        Raises MalformedEvent, unless malformed events are skipped, and EventTooLarge. If earlier events are
        complete in the same `data`, they are returned, and the next call raises.
        """
        ...

    def close(self) -> list[StreamEvent]:
        """Return the last events when the body has ended.

        Raises StreamIncomplete if the end marker never arrived. `held` of the error has the events that
        waited for more bytes.
        """
        ...


def rest_of(decoder: Decoder) -> tuple[list[StreamEvent], StreamIncomplete | None]:
    """Close a decoder. Return the last events, and the error if the end marker never arrived."""
    try:
        return decoder.close(), None
    except StreamIncomplete as error:
        return list(error.held), error


class Encoder(Protocol):
    """Encodes StreamEvents into provider bytes, for one response."""

    def feed(self, events: Iterable[StreamEvent]) -> bytes: ...

    def close(self) -> bytes:
        """Return the end of the body. Empty if the last event ends it."""
        ...


class DeltaFrame(NamedTuple):
    """The bytes around the text of a block's plain deltas, valid until another event comes.

    The text stands between them as a JSON string.
    """

    head: bytes
    tail: bytes


class ForkingEncoder(Encoder, Protocol):
    """An encoder whose state can be kept: a dialect keeps one encoder per position, and feeds its forks."""

    def fork(self) -> Self:
        """Return an independent encoder in the same state."""
        ...

    def delta_frame(self, index: int, block_type: BlockType) -> DeltaFrame | None:
        """Return the bytes around the next deltas of an open block.

        Return None if its next delta changes the encoder's state. Then `feed` must write it.
        """
        ...


class NewDecoder(Protocol):
    """Creates a decoder."""

    def __call__(
        self, *, event_limit: int = DEFAULT_EVENT_LIMIT, on_malformed: Literal["fail", "skip"] = "fail"
    ) -> Decoder:
        """Return a decoder for one streamed answer.

        Args:
            event_limit: Limit of one event, in bytes.
            on_malformed: `skip` drops malformed events with a notice, `fail` raises.
        """
        ...


class NewEncoder(Protocol):
    """Creates an encoder."""

    def __call__(self, *, model: str, message_id: str) -> Encoder:
        """Return an encoder for one streamed answer."""
        ...


def bearer(api_key: str) -> dict[str, str]:
    """Return the Bearer authorization header, which most providers use."""
    return {"authorization": f"Bearer {api_key}"}


@dataclass(frozen=True, slots=True)
class Wire:
    """A provider protocol: its name and the functions of its two halves.

    The calling half encodes requests and decodes answers. The serving half decodes requests and encodes
    answers.
    """

    name: str
    content_type: str
    """Media type of a streamed answer."""

    encode_request: Callable[[ModelRequest], HttpRequest]
    """Return the HTTP request. Raises InvalidRequest for a request that the API does not support."""
    auth_headers: Callable[[str], Mapping[str, str]]
    """Return the headers that carry an API key."""
    decoder: NewDecoder
    decode_answer: Callable[[bytes], list[StreamEvent]]
    """Return the events that a stream of this whole answer would have. An error body becomes one StreamError.
    Raises MalformedEvent if the body is neither an answer nor an error."""
    decode_error: Callable[[int, Mapping[str, str], bytes], ProviderError]
    """Return the typed error for a status that is not 2xx, from the status, headers and body."""

    decode_request: Callable[[str, bytes], ModelRequest]
    """Return the ModelRequest for a path and a body, `stream` included: the inverse of `encode_request`.
    Raises InvalidRequest."""
    encoder: NewEncoder
    encode_answer: Callable[[Answer], bytes]
    """Return the JSON body of an answer that is not streamed."""
    encode_error: Callable[[ProviderError], tuple[int, bytes]]
    """Return the status and the JSON body with which the provider reports an error."""

    encode_resume: Callable[[Position], HttpRequest] | None = None
    """Return the request for the rest of a stored answer. None if the provider does not store answers."""

    encode_cancel: Callable[[str], HttpRequest] | None = None
    """Return the request that stops the stored answer with this id. None if there is no such request."""
