"""Routes for clients of Ollama: answers, and the model lists that they ask for."""

from __future__ import annotations

from functools import partial
from time import perf_counter_ns
from typing import Any

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from turnstream.core.answers import Answer
from turnstream.dialects.client_request import parsed_body
from turnstream.dialects.ollama.encoder import BLOCK_TYPES, HEADERS, encoder_of, heartbeat_of
from turnstream.dialects.ollama.models import SPOKEN_VERSION, model_description, model_entry, named_model
from turnstream.dialects.ollama.request import OllamaRequest, parse_ollama
from turnstream.dialects.provider_shaped.projection import Projection
from turnstream.errors import InvalidRequest, NotFound
from turnstream.server.context import ServerContext
from turnstream.server.protocols.conversing import start_answer, without_asking_tools
from turnstream.server.protocols.provider_shaped import (
    ProviderShape,
    StreamedAnswer,
    WholeAnswer,
    turn_of,
    whole_answer,
)
from turnstream.server.streams import StreamFormat
from turnstream.turns.clock import iso_timestamp, now_microseconds
from turnstream.wires.ollama.answers import encode_answer
from turnstream.wires.ollama.encoder import CHAT, GENERATE, LineForm
from turnstream.wires.ollama.wire import WIRE

CHAT_PATH = "/chat"
"""Address that useChat of the AI SDK asks too. See `chat_address`."""
_OF_MODEL_FILES = ("pull", "push", "create", "copy", "delete", "blobs/{rest:path}")
_EMBEDDING = ("embed", "embeddings")


SHAPE = ProviderShape("ollama", WIRE, StreamFormat(HEADERS, b"", must_end=True), "x-request-id")
"""Form of the answers. Each stream has its own heartbeat."""


def add_ollama_routes(router: APIRouter, context: ServerContext) -> None:
    """Add the routes to `router`."""
    answers = OllamaAnswers(context)

    @router.post(CHAT_PATH, include_in_schema=False)
    async def chat(request: Request) -> Response:
        return await answers.answer(request, CHAT)

    @router.post("/generate", include_in_schema=False)
    async def generate(request: Request) -> Response:
        return await answers.answer(request, GENERATE)

    _add_model_routes(router, context)
    _add_refusals(router, context)


class OllamaAnswers:
    """Answers the requests of Ollama's clients."""

    def __init__(self, context: ServerContext) -> None:
        self._context = context

    async def answer(self, request: Request, form: LineForm = CHAT) -> Response:
        """Answer a request to `/api/chat`, or to `/api/generate` if its lines have the form of that."""
        began = perf_counter_ns()
        context, principal = self._context, await self._context.principal(request)
        asked = parse_ollama(await request.body(), _names(context), generates=form is GENERATE)
        if asked.asked is None:
            return _loaded(asked, form)
        wanted = without_asking_tools(asked.asked, context.commands.tools.tools)
        turn_id = (await start_answer(context, principal, wanted)).assistant_turn.id
        turn = turn_of(context, SHAPE, turn_id)
        owner, tools = principal.owner, wanted.client_tools
        if asked.stream:
            encoder = encoder_of(tools, model=asked.model, form=form, clock=lambda: perf_counter_ns() - began)
            shape = SHAPE._replace(form=SHAPE.form._replace(heartbeat=heartbeat_of(asked.model, form)))
            subscription = await context.watching.subscribe_in(encoder, owner, turn_id)
            return StreamedAnswer(context, shape, turn, subscription)

        def encode(answer: Answer) -> bytes:
            return encode_answer(
                msgspec.structs.replace(answer, model=asked.model),
                created_at=iso_timestamp(answer.created * 1_000_000),
                latency=perf_counter_ns() - began,
                generated=form is GENERATE,
            )

        whole = partial(
            whole_answer, context, owner, turn_id, Projection(tools, BLOCK_TYPES), answer_id=turn_id
        )
        return WholeAnswer(SHAPE._replace(encode_answer=encode), turn, whole)


def _loaded(asked: OllamaRequest, form: LineForm) -> Response:
    """Return the answer to a request that only loads a model. Every model here is always loaded."""
    text = {"response": ""} if form is GENERATE else {"message": {"role": "assistant", "content": ""}}
    reason = "unload" if asked.unloads else "load"
    created_at = iso_timestamp(now_microseconds())
    body = {"model": asked.model, "created_at": created_at, **text, "done": True, "done_reason": reason}
    if asked.stream:
        return Response(msgspec.json.encode(body) + b"\n", headers=HEADERS)
    return JSONResponse(body)


class _NamedModel(msgspec.Struct, frozen=True):
    """The body of `/api/show`. Old clients send `name`."""

    model: str = ""
    name: str = ""


def _add_model_routes(router: APIRouter, context: ServerContext) -> None:
    commands = context.commands

    @router.get("/tags", include_in_schema=False)
    async def tags(request: Request) -> Response:
        await context.principal(request)
        return JSONResponse({"models": [model_entry(model) for model in commands.models() if model.ready]})

    @router.get("/ps", include_in_schema=False)
    async def running(request: Request) -> Response:
        await context.principal(request)
        return JSONResponse({"models": []})

    @router.get("/version", include_in_schema=False)
    async def version(request: Request) -> Response:
        await context.principal(request)
        return JSONResponse({"version": SPOKEN_VERSION})

    @router.post("/show", include_in_schema=False)
    async def show(request: Request) -> Response:
        await context.principal(request)
        body = parsed_body(await request.body(), _NamedModel)
        asked = body.model or body.name
        name = named_model(asked, _names(context))
        try:
            provider, can = commands.describe_model(name)
        except InvalidRequest:
            raise NotFound(f"model {asked[:200]!r} not found: list the models") from None
        return JSONResponse(model_description(provider, can))


def _add_refusals(router: APIRouter, context: ServerContext) -> None:
    """Answer the addresses of Ollama that turnstream does not have."""

    async def has_no_files(request: Request) -> Response:
        await context.principal(request)
        raise NotFound("turnstream does not store models: its settings name the models of providers")

    async def has_no_embeddings(request: Request) -> Response:
        await context.principal(request)
        raise NotFound("turnstream runs conversations: ask the provider of the model for embeddings")

    refused: dict[str, Any] = {
        "methods": ["GET", "HEAD", "POST", "PUT", "DELETE"],
        "include_in_schema": False,
    }
    for path in _OF_MODEL_FILES:
        router.add_api_route(f"/{path}", has_no_files, **refused)
    for path in _EMBEDDING:
        router.add_api_route(f"/{path}", has_no_embeddings, **refused)


def _names(context: ServerContext) -> set[str]:
    return {model.id for model in context.commands.models()}
