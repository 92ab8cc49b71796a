"""The address `/chat`, which two protocols share: `useChat` of the AI SDK, and Ollama.

The body of a request says which of them its client speaks: messages have `parts`, or `content`.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from turnstream.dialects.client_request import parsed_body
from turnstream.errors import InvalidRequest
from turnstream.server.context import ServerContext
from turnstream.server.protocols.ai_sdk import AiSdkAnswers
from turnstream.server.protocols.ollama import CHAT_PATH, SHAPE, OllamaAnswers
from turnstream.server.requests.limited_route import as_response

ChatProtocol: TypeAlias = Literal["ai_sdk", "ollama"]

_AMBIGUOUS = (
    "the body does not fit a protocol of this address: either all messages have `parts` (AI SDK 5 to 7), or "
    "all have `content` and no `parts` (Ollama)"
)
_EMPTY = (
    "the body has no messages: send `messages` with `parts` (AI SDK 5 to 7), or a `model` and `messages` "
    "with `content` (Ollama)"
)


def add_chat_address(router: APIRouter, context: ServerContext) -> None:
    """Add the route of the shared address to `router`. It has to come before the routes of both protocols."""
    pages, answers = AiSdkAnswers(context, 5), OllamaAnswers(context)

    @router.post(CHAT_PATH, include_in_schema=False)
    async def chat(request: Request) -> Response:
        await context.principal(request)
        if protocol_of(await request.body()) == "ai_sdk":
            return await pages.start(request)
        answering = answers.answer(request)
        return await as_response(request, answering, SHAPE.error_response, debug=context.debug)


class ChatMessageShape(msgspec.Struct, frozen=True):
    """The fields that tell the protocols apart."""

    parts: Any = msgspec.UNSET
    content: Any = msgspec.UNSET
    images: Any = msgspec.UNSET
    tool_calls: Any = msgspec.UNSET

    @property
    def protocol(self) -> ChatProtocol | None:
        """Protocol that has such messages, or None. Messages of old AI SDKs have `content` and `parts`."""
        if self.parts is not msgspec.UNSET:
            return "ai_sdk"
        of_ollama = (self.content, self.images, self.tool_calls)
        return "ollama" if any(field is not msgspec.UNSET for field in of_ollama) else None


class ChatBodyShape(msgspec.Struct, frozen=True):
    messages: list[ChatMessageShape] | None = None
    model: Any = None
    trigger: Any = msgspec.UNSET
    id: Any = msgspec.UNSET


def protocol_of(raw: bytes) -> ChatProtocol:
    """Return the protocol of a request to `/chat`. Raises InvalidRequest if the body does not show it."""
    body = parsed_body(raw, ChatBodyShape)
    if not body.messages:
        is_page = body.trigger is not msgspec.UNSET or body.id is not msgspec.UNSET
        if not isinstance(body.model, str) or is_page:
            raise InvalidRequest(_EMPTY)
        return "ollama"  # Ollama's request to load a model
    protocols = {message.protocol for message in body.messages}
    if protocols == {"ai_sdk"}:
        return "ai_sdk"
    if protocols == {"ollama"}:
        return "ollama"
    raise InvalidRequest(_AMBIGUOUS)
