"""The body of a chat.completions request."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from turnstream.dialects.client_request import ClientRequest, parsed_body
from turnstream.dialects.provider_shaped.request import GatewayFields, client_request
from turnstream.errors import InvalidRequest
from turnstream.wires.openai_chat.wire import WIRE

PATH = "/chat/completions"


class ChatStreamOptions(msgspec.Struct, frozen=True):
    """The field `stream_options`."""

    include_usage: bool = False


class ChatFields(GatewayFields, frozen=True, kw_only=True):
    """Fields of the body that the dialect reads itself. The wire decodes the others."""

    metadata: dict[str, Any] | None = None
    n: int | None = None
    stream_options: ChatStreamOptions | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    modalities: list[str] | None = None
    audio: Any = None
    functions: Any = None
    function_call: Any = None


_OWN = frozenset(ChatFields.__struct_fields__)


class ChatRequest(NamedTuple):
    """A request, and the form of its answer."""

    asked: ClientRequest
    streams: bool
    includes_usage: bool


def parse_request(raw: bytes) -> ChatRequest:
    """Return the request of a body. Raises InvalidRequest."""
    fields = parsed_body(raw, ChatFields)
    _refuse(fields)
    call = WIRE.decode_request(PATH, raw)
    asked = client_request(call, fields, wire=WIRE.name, own=_OWN, metadata=fields.metadata)
    includes_usage = fields.stream_options is not None and fields.stream_options.include_usage
    return ChatRequest(asked, call.stream, includes_usage)


def _refuse(fields: ChatFields) -> None:
    """Raise InvalidRequest for fields that ask for an answer of a form that this dialect does not have."""
    if fields.n not in (None, 1):
        raise InvalidRequest("n must be 1: a turn has one answer; send the request once for each answer")
    if fields.logprobs or fields.top_logprobs:
        raise InvalidRequest("logprobs are not available here: leave them out")
    if fields.audio is not None or any(kind != "text" for kind in fields.modalities or ()):
        raise InvalidRequest("answers are text: leave out audio, and modalities other than text")
    if fields.functions is not None or fields.function_call is not None:
        raise InvalidRequest("functions and function_call are not accepted: use tools and tool_choice")
