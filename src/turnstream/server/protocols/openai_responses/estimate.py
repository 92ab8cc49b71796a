"""The size of a request in tokens."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from turnstream.dialects.openai_responses.request import parse_request
from turnstream.model_loop.estimates import estimated_input_tokens
from turnstream.server.context import ServerContext
from turnstream.server.protocols.openai_responses.references import with_referenced_items
from turnstream.wires.base import ModelRequest, ToolDefinition


async def estimated_tokens(context: ServerContext, request: Request) -> Response:
    """Answer with the estimated tokens of a request's input. The answer says that it is an estimate.

    The history that `previous_response_id` or `conversation` names is not counted.
    """
    owner = (await context.principal(request)).owner
    body = await with_referenced_items(context, owner, await request.body())
    asked = parse_request(body, default_model="none").asked
    given = asked.conversation
    call = ModelRequest(
        model="",
        messages=(*given.messages, *given.last),
        system=asked.system,
        tools=tuple(tool for tool in asked.tools or () if isinstance(tool, ToolDefinition)),
    )
    tokens = estimated_input_tokens(call)
    return JSONResponse({"object": "response.input_tokens", "input_tokens": tokens, "estimated": True})
