"""All routes in one router, for a host application or for our own server."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from fastapi import APIRouter
from fastapi.params import Depends

from turnstream.errors import ConfigurationError
from turnstream.server.chats import add_chat_routes
from turnstream.server.context import ServerContext
from turnstream.server.error_answers import ErrorAnswer, error_response
from turnstream.server.protocols.ag_ui import add_ag_ui_routes
from turnstream.server.protocols.ai_sdk import add_ai_sdk_routes
from turnstream.server.protocols.anthropic import SHAPE as ANTHROPIC
from turnstream.server.protocols.anthropic import add_anthropic_routes
from turnstream.server.protocols.chat_address import add_chat_address
from turnstream.server.protocols.model_list import add_model_routes, add_unknown_routes
from turnstream.server.protocols.ollama import SHAPE as OLLAMA
from turnstream.server.protocols.ollama import add_ollama_routes
from turnstream.server.protocols.openai_chat import SHAPE, add_openai_chat_routes
from turnstream.server.protocols.openai_responses.responses import SHAPE as RESPONSES_SHAPE
from turnstream.server.protocols.openai_responses.routes import add_openai_responses_routes
from turnstream.server.protocols.relay import add_relay_routes, relay_error
from turnstream.server.protocols.staged_agent import add_staged_agent_routes, agent_error
from turnstream.server.requests.limited_route import limited_route
from turnstream.server.statistics.routes import add_statistics_routes
from turnstream.server.turns import add_turn_routes


def _add_native_routes(router: APIRouter, context: ServerContext) -> None:
    add_turn_routes(router, context)
    add_chat_routes(router, context)
    add_statistics_routes(router, context)


class ServedProtocol(NamedTuple):
    """A protocol that clients may speak.

    Attributes:
        add_routes: Adds its routes to a router.
        at_root: True if its clients expect their addresses at the root of the server.
        error_answer: Makes the response of an error before the first byte.
        lists_models: True if its clients ask `/v1/models`.
    """

    add_routes: Callable[[APIRouter, ServerContext], None]
    at_root: bool = False
    error_answer: ErrorAnswer = error_response
    lists_models: bool = False


PROTOCOLS: Mapping[str, ServedProtocol] = {
    "native": ServedProtocol(_add_native_routes),
    "ai_sdk": ServedProtocol(add_ai_sdk_routes),
    "ag_ui": ServedProtocol(add_ag_ui_routes),
    "staged_agent": ServedProtocol(add_staged_agent_routes, error_answer=agent_error),
    "relay": ServedProtocol(add_relay_routes, error_answer=relay_error),
    "openai_chat": ServedProtocol(
        add_openai_chat_routes, at_root=True, error_answer=SHAPE.error_response, lists_models=True
    ),
    "openai_responses": ServedProtocol(
        add_openai_responses_routes,
        at_root=True,
        error_answer=RESPONSES_SHAPE.error_response,
        lists_models=True,
    ),
    "anthropic": ServedProtocol(
        add_anthropic_routes, at_root=True, error_answer=ANTHROPIC.error_response, lists_models=True
    ),
    "ollama": ServedProtocol(add_ollama_routes, error_answer=OLLAMA.error_response),
}
"""The protocols that clients may speak, by their names in the settings."""


def build_router(
    context: ServerContext,
    *,
    prefix: str,
    dependencies: Sequence[Depends] = (),
    protocols: Sequence[str],
    root: str | None = None,
) -> APIRouter:
    """Return the routes of `protocols` under `prefix`, each guarded by `dependencies`.

    Raises ConfigurationError for an unknown protocol.

    Args:
        root: Prefix of the protocols whose clients expect their addresses at the root. None: `prefix`.
    """
    if unknown := [name for name in protocols if name not in PROTOCOLS]:
        raise ConfigurationError(f"there is no protocol {unknown[0]!r}; there are: {', '.join(PROTOCOLS)}")
    # One router holds all routes: FastAPI matches the routes of a nested router twice at each level.
    router = APIRouter(dependencies=list(dependencies), tags=["turnstream"])
    served = [PROTOCOLS[name] for name in protocols]
    if {"ai_sdk", "ollama"} <= set(protocols):
        served.insert(0, ServedProtocol(add_chat_address))
    if listing := [protocol for protocol in served if protocol.lists_models]:
        served.append(listing[0]._replace(add_routes=add_model_routes))
        served.append(listing[0]._replace(add_routes=add_unknown_routes))
    for protocol in served:
        router.prefix = root if protocol.at_root and root is not None else prefix
        router.route_class = limited_route(
            context, authenticates_first=not dependencies, answer=protocol.error_answer
        )
        protocol.add_routes(router, context)
    return router
