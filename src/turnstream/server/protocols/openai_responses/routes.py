"""The addresses of OpenAI Responses and of its conversations."""

from __future__ import annotations

from fastapi import APIRouter

from turnstream.server.context import ServerContext
from turnstream.server.protocols.openai_responses.conversations import Conversations
from turnstream.server.protocols.openai_responses.responses import Responses
from turnstream.server.protocols.route_table import add_routes

_RESPONSES = "/v1/responses"
_CONVERSATIONS = "/v1/conversations"


def add_openai_responses_routes(router: APIRouter, context: ServerContext) -> None:
    """Add the routes to `router`."""
    responses, conversations = Responses(context), Conversations(context)
    response, conversation = f"{_RESPONSES}/{{response_id}}", f"{_CONVERSATIONS}/{{conversation_id}}"
    add_routes(
        router,
        {
            f"POST {_RESPONSES}": responses.create,
            f"POST {_RESPONSES}/input_tokens": responses.count_tokens,
            f"GET {response}": responses.retrieve,
            f"DELETE {response}": responses.delete,
            f"POST {response}/cancel": responses.cancel,
            f"GET {response}/input_items": responses.input_items,
            f"POST {_CONVERSATIONS}": conversations.create,
            f"GET {conversation}": conversations.read,
            f"POST {conversation}": conversations.change,
            f"DELETE {conversation}": conversations.delete,
            f"POST {conversation}/items": conversations.add_items,
            f"GET {conversation}/items": conversations.list_items,
            f"GET {conversation}/items/{{item_id}}": conversations.read_item,
            f"DELETE {conversation}/items/{{item_id}}": conversations.delete_item,
        },
    )
