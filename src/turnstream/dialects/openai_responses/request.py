"""The body of a Responses request."""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple, cast

import msgspec

from turnstream.core.blocks import Message
from turnstream.dialects.client_request import ClientRequest, numbered, parsed_body
from turnstream.dialects.openai_responses.ids import chat_of, turn_of
from turnstream.dialects.openai_responses.response_fields import FACTS, RequestFacts
from turnstream.dialects.openai_responses.returned_items import returned
from turnstream.dialects.openai_responses.server_calls import SERVER_LABEL, without_marks
from turnstream.dialects.provider_shaped.origin_seal import OriginSeal
from turnstream.dialects.provider_shaped.request import GatewayFields, client_request
from turnstream.errors import InvalidRequest
from turnstream.turns.conversations import ResentConversation
from turnstream.wires.base import ModelRequest
from turnstream.wires.openai_responses.items import ENCRYPTED
from turnstream.wires.openai_responses.wire import WIRE
from turnstream.wires.shared.json_values import JsonObject, is_list, is_object, without
from turnstream.wires.shared.lenient_json import encode_json
from turnstream.wires.shared.request_bodies import read_body

PATH = "/responses"
Metadata = Annotated[dict[str, str], msgspec.Meta(max_length=16)]


class ConversationName(msgspec.Struct, frozen=True):
    """A conversation of a request, by its id."""

    id: str


class ResponsesFields(GatewayFields, frozen=True, kw_only=True):
    """Fields of the body that the dialect reads itself. The wire decodes the others."""

    previous_response_id: str | None = None
    conversation: str | ConversationName | None = None
    background: bool | None = None
    store: bool | None = None
    metadata: Metadata | None = None
    include: list[str] | None = None
    reasoning: dict[str, Any] | None = None
    prompt: Any = None
    stream_options: dict[str, Any] | None = None
    context_management: Any = None
    max_tool_calls: int | None = None
    top_logprobs: int | None = None

    @property
    def conversation_name(self) -> str | None:
        """Id of the conversation, or None."""
        given = self.conversation
        return given.id if isinstance(given, ConversationName) else given


_OWN = (frozenset(ResponsesFields.__struct_fields__) | {"tools"}) - {"include"}


class ResponsesRequest(NamedTuple):
    """A request, and the form of its answer.

    Attributes:
        asked: The request of a turn. Its conversation has the input only.
        after: Turn that the request continues (`previous_response_id`), or None.
        chat_id: Chat that the request continues (`conversation`), or None.
        stored: False if no row may be written.
    """

    asked: ClientRequest
    streams: bool
    background: bool
    stored: bool
    after: str | None = None
    chat_id: str | None = None


def parse_request(
    raw: bytes, *, default_model: str | None = None, stores: bool = True, seal: OriginSeal | None = None
) -> ResponsesRequest:
    """Return the request of a body. Raises InvalidRequest, and NotFound for unknown ids.

    Args:
        default_model: Model of a body without one. None: the body needs a model.
        stores: False if turns are transient unless their request says otherwise.
        seal: Opens signatures of thinking.
    """
    fields = parsed_body(raw, ResponsesFields)
    _refuse(fields)
    body = read_body(raw)
    has_history = fields.previous_response_id is not None or fields.conversation is not None
    if body.get("input") is None and has_history:
        body["input"] = []
    if default_model is not None:
        body.setdefault("model", default_model)
    call, server_tools = _split_tools(_with_included(_decoded(body)))
    facts = RequestFacts(
        background=bool(fields.background),
        previous_response_id=fields.previous_response_id,
        conversation=fields.conversation is not None,
        store=stores if fields.store is None else fields.store,
    )
    named = msgspec.structs.replace(fields, server_tools=[*fields.server_tools, *server_tools])
    metadata = {**(fields.metadata or {}), **_facts(facts)}
    chat = fields.conversation_name
    return ResponsesRequest(
        asked=msgspec.structs.replace(
            _asked(call, named, metadata, seal, has_history=has_history), store=fields.store
        ),
        streams=call.stream,
        background=bool(fields.background),
        stored=facts.store,
        after=None if fields.previous_response_id is None else turn_of(fields.previous_response_id),
        chat_id=None if chat is None else chat_of(chat),
    )


def parse_items(items: Any) -> tuple[Message, ...]:
    """Return the messages of input items. Raises InvalidRequest."""
    if not is_list(items):
        raise InvalidRequest("items is not a list")
    call = _decoded({"model": "none", "input": items})
    if call.system:
        raise InvalidRequest(
            "items must be messages of the user and of the assistant, calls and their results"
        )
    return call.messages


def _decoded(body: JsonObject) -> ModelRequest:
    call = WIRE.decode_request(PATH, encode_json(body))
    messages = tuple(returned(without_marks(message)) for message in call.messages)
    return msgspec.structs.replace(call, messages=messages)


def _refuse(fields: ResponsesFields) -> None:
    """Raise InvalidRequest for fields that this dialect cannot honor."""
    if fields.previous_response_id is not None and fields.conversation is not None:
        raise InvalidRequest("give previous_response_id or conversation, not both")
    if fields.background and fields.store is False:
        raise InvalidRequest("a background response is stored: leave out store")
    if fields.prompt is not None:
        raise InvalidRequest(
            "prompt names a template of OpenAI, which is not here: send input and instructions"
        )
    if fields.top_logprobs or "message.output_text.logprobs" in (fields.include or ()):
        raise InvalidRequest("logprobs are not available here: leave them out")


def _with_included(call: ModelRequest) -> ModelRequest:
    """Return the request with its `include` for models on this protocol, and with encrypted reasoning."""
    given = call.params.get("include")
    params = {name: value for name, value in call.params.items() if name != "include"}
    if given:
        params["include"] = list(dict.fromkeys((*given, ENCRYPTED)))
    return msgspec.structs.replace(call, params=params)


def _split_tools(call: ModelRequest) -> tuple[ModelRequest, list[str]]:
    """Return the request without the tools of this server, and their names."""
    others = cast("list[Any]", call.params.get("tools") or [])
    kept: list[Any] = []
    named: list[str] = []
    for tool in others:
        if is_object(tool) and tool.get("type") == "mcp" and tool.get("server_label") == SERVER_LABEL:
            allowed = tool.get("allowed_tools")
            if not is_list(allowed) or not all(isinstance(name, str) for name in allowed):
                raise InvalidRequest(f"the tool {SERVER_LABEL} needs allowed_tools, a list of names")
            named += cast("list[str]", allowed)
        else:
            kept.append(tool)
    params = without(call.params, "tools")
    return msgspec.structs.replace(call, params=params | ({"tools": kept} if kept else {})), named


def _facts(facts: RequestFacts) -> dict[str, Any]:
    kept = msgspec.to_builtins(facts)
    return {FACTS: kept} if kept else {}


def _asked(
    call: ModelRequest,
    fields: ResponsesFields,
    metadata: dict[str, Any],
    seal: OriginSeal | None,
    *,
    has_history: bool,
) -> ClientRequest:
    given = fields.reasoning or {}
    if given.get("effort") is not None and "thinking" not in call.params:
        call = msgspec.structs.replace(call, params={**call.params, "thinking": {"effort": given["effort"]}})
    if call.messages or not has_history:
        return client_request(
            call, fields, wire=WIRE.name, own=_OWN - {"tools"}, metadata=metadata, seal=seal
        )
    # The history is answered as it is.
    empty = msgspec.structs.replace(call, messages=(Message("user", ()),))
    asked = client_request(empty, fields, wire=WIRE.name, own=_OWN - {"tools"}, metadata=metadata)
    return msgspec.structs.replace(asked, conversation=ResentConversation(new=numbered(())))
