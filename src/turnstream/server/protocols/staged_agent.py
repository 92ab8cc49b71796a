"""Routes of the staged agent: queries with and without a stream, runs by id, conversations and messages."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from turnstream.core.identifiers import new_id
from turnstream.dialects.client_request import parsed_body
from turnstream.dialects.staged_agent.answers import chat_answer, stage_of
from turnstream.dialects.staged_agent.encoder import HEADERS, HEARTBEAT, encoder_of
from turnstream.dialects.staged_agent.request import (
    AgentQuery,
    ConversationTitle,
    MessagePiece,
    MessageUpdate,
    NewConversation,
    NewMessage,
    ResumeRequest,
)
from turnstream.errors import InvalidRequest, NotFound, TurnstreamError
from turnstream.server.auth import Principal
from turnstream.server.context import ServerContext
from turnstream.server.protocols.agent_messages import AgentMessages, conversation_view
from turnstream.server.protocols.conversing import answer_stream
from turnstream.server.protocols.route_table import add_routes
from turnstream.server.streams import StreamFormat
from turnstream.store.agent_rows import ChangeAgentMessage, ListAgentConversations, WrittenMessage
from turnstream.store.queries import GetChat
from turnstream.turns.commands import StartedTurn
from turnstream.turns.new_turns import TurnRequest
from turnstream.workflow.commands import WorkflowCommands

PATH = "/agent"
CHAT = f"{PATH}/chat"
TITLE_LENGTH = 50
MAX_LISTED = 200
"""Conversations of a page."""

_FORMAT = StreamFormat(HEADERS, HEARTBEAT, must_end=True)


def add_staged_agent_routes(router: APIRouter, context: ServerContext) -> None:
    """Add the routes to `router`."""
    agent = StagedAgent(context)
    _add_runs(router, agent)
    _add_conversations(router, agent)
    _add_messages(router, agent)


def agent_error(error: TurnstreamError) -> Response:
    """Return the response of an error: `{detail, error}`."""
    headers = {"Retry-After": "1"} if error.status == 503 else None
    body = {"detail": error.message, "error": {"code": error.code, "message": error.message}}
    return JSONResponse(body, status_code=error.status, headers=headers)


class StagedAgent:
    """Starts and reads the runs of the server's workflow, for its clients."""

    def __init__(self, context: ServerContext) -> None:
        self.context = context
        self.messages = AgentMessages(context)
        make = context.workflow
        self.runs = None if make is None else WorkflowCommands(context.commands, make())

    async def principal(self, request: Request) -> Principal:
        return await self.context.principal(request)

    async def owner(self, request: Request) -> str:
        return (await self.principal(request)).owner

    def workflows(self) -> WorkflowCommands:
        """Return the commands of runs. Raises NotFound if the server has no workflow."""
        if self.runs is None:
            raise NotFound("this server has no workflow: give Engine(workflow=…)")
        return self.runs

    async def run_id(self, owner: str, given: str) -> str:
        """Return the id of a run. Clients may give the number of its message. Raises NotFound."""
        if not given.isdecimal():
            return given
        message = await self.messages.message(owner, int(given[:18]))
        if message.turn_id is None:
            raise NotFound("no such workflow")
        return message.turn_id

    async def start(self, principal: Principal, asked: AgentQuery) -> tuple[StartedTurn, int | None]:
        """Start a run. Return it, and the number of the answer's message in its conversation, or None."""
        owner, commands = principal.owner, self.context.commands
        previous: str | None = None
        runs = self.workflows()
        if asked.conversation_id is None:
            chat_id = (await commands.chats.create(owner, title=asked.query[:TITLE_LENGTH])).id
        else:
            conversation = await self.messages.conversation(owner, asked.conversation_id)
            chat_id = conversation.chat_id
            previous = (await commands.store.read(GetChat(owner=owner, chat_id=chat_id))).active_turn_id
            if not conversation.title:
                await commands.chats.update(owner, chat_id, title=asked.query[:TITLE_LENGTH])
        named = {"session_id": asked.session_id, "user_id": asked.user_id}
        metadata = {name: value for name, value in named.items() if value is not None}
        request = TurnRequest(
            chat_id=chat_id, prev_turn_id=previous, metadata={**metadata, **principal.metadata}
        )
        started = await runs.start(owner, asked.query, request, asked.context)
        if asked.conversation_id is None:
            return started, None
        turn_id = started.assistant_turn.id
        return started, await self.messages.number_of(owner, asked.conversation_id, turn_id)

    async def stream(self, request: Request) -> Response:
        """Start a run, and return its event stream."""
        principal = await self.principal(request)
        asked = parsed_body(await request.body(), AgentQuery)
        started, message_id = await self.start(principal, asked)
        turn_id = started.assistant_turn.id
        encoder = encoder_of(asked.session_id or new_id(), message_id)
        subscription = await self.context.watching.subscribe_in(encoder, principal.owner, turn_id)
        return answer_stream(self.context, "staged_agent", turn_id, subscription, _FORMAT)

    async def answer(self, request: Request) -> Response:
        """Start a run, wait for its end, and return all of it."""
        principal = await self.principal(request)
        asked = parsed_body(await request.body(), AgentQuery)
        started, _ = await self.start(principal, asked)
        report = await self.workflows().wait(principal.owner, started.assistant_turn.id)
        return JSONResponse(chat_answer(report))


def _add_runs(router: APIRouter, agent: StagedAgent) -> None:
    add_routes(router, {f"POST {CHAT}/stream": agent.stream, f"POST {CHAT}": agent.answer})

    @router.post(PATH + "/resume/{workflow_id}", include_in_schema=False)
    async def resume(request: Request, workflow_id: str) -> Response:
        owner, runs = await agent.owner(request), agent.workflows()
        asked = parsed_body(await request.body(), ResumeRequest)
        if asked.workflow_id not in (None, workflow_id):
            raise InvalidRequest("the workflow_id of the body is not that of the address: leave it out")
        started = await runs.resume(owner, await agent.run_id(owner, workflow_id), asked.user_input)
        return JSONResponse(chat_answer(await runs.wait(owner, started.assistant_turn.id)))

    @router.get(PATH + "/state/{workflow_id}", include_in_schema=False)
    async def state(request: Request, workflow_id: str) -> Response:
        owner, runs = await agent.owner(request), agent.workflows()
        try:
            report = await runs.report(owner, await agent.run_id(owner, workflow_id))
        except NotFound:
            return JSONResponse({"success": False, "error": "no such workflow"})
        shown = {**chat_answer(report), "status": report.turn.status, "stage": stage_of(report)}
        return JSONResponse({"success": True, "state": shown})

    @router.delete(PATH + "/cancel/{workflow_id}", include_in_schema=False)
    async def cancel(request: Request, workflow_id: str) -> Response:
        owner, runs = await agent.owner(request), agent.workflows()
        try:
            ended = await runs.cancel(owner, await agent.run_id(owner, workflow_id))
        except NotFound:
            return JSONResponse({"success": False, "error": "no such workflow"})
        return JSONResponse({"success": True, "message": f"the workflow is {ended.turn.status}"})

    @router.get(PATH + "/test", include_in_schema=False)
    async def test(request: Request) -> Response:
        await agent.principal(request)
        stages = [stage.name for stage in agent.workflows().workflow.stages]
        return JSONResponse({"success": True, "message": "the agent is ready", "stages": stages})


def _add_conversations(router: APIRouter, agent: StagedAgent) -> None:
    messages = agent.messages

    @router.post(CHAT + "/conversations", include_in_schema=False)
    async def create(request: Request) -> Response:
        owner = await agent.owner(request)
        asked = parsed_body(await request.body(), NewConversation)
        made = await messages.create_conversation(owner, asked.page_name, asked.user_id, asked.document_id)
        return JSONResponse(made)

    @router.get(CHAT + "/conversations/list", include_in_schema=False)
    async def conversations(  # noqa: PLR0913, PLR0917 - the parameters of the address
        request: Request,
        limit: int = 20,
        offset: int = 0,
        page_name: str | None = None,
        user_id: str | None = None,
        status: str = "active",
    ) -> Response:
        query = ListAgentConversations(
            owner=await agent.owner(request),
            limit=min(max(limit, 0), MAX_LISTED),
            offset=max(offset, 0),
            page_name=page_name,
            user_id=user_id,
            status=status,
        )
        return JSONResponse(await messages.conversations(query))

    @router.get(CHAT + "/conversations/{cid}", include_in_schema=False)
    async def conversation(request: Request, cid: int) -> Response:
        found = await messages.conversation(await agent.owner(request), cid)
        return JSONResponse(conversation_view(found))

    @router.patch(CHAT + "/conversations/{cid}/update", include_in_schema=False)
    async def rename(request: Request, cid: int) -> Response:
        owner = await agent.owner(request)
        asked = parsed_body(await request.body(), ConversationTitle)
        return JSONResponse(await messages.rename(owner, cid, asked.title))

    @router.delete(CHAT + "/conversations/{cid}/update", include_in_schema=False)
    async def delete(request: Request, cid: int) -> Response:
        return JSONResponse(await messages.delete(await agent.owner(request), cid))

    @router.get(CHAT + "/conversations/{cid}/messages", include_in_schema=False)
    async def messages_of(request: Request, cid: int) -> Response:
        return JSONResponse(await messages.messages(await agent.owner(request), cid))


def _add_messages(router: APIRouter, agent: StagedAgent) -> None:
    messages = agent.messages

    async def change(request: Request, number: int, **fields: Any) -> Response:
        owner = await agent.owner(request)
        await messages.change(
            owner, ChangeAgentMessage(owner=owner, number=number, write_id=new_id(), **fields)
        )
        return JSONResponse(content=True)

    async def create_as(request: Request, parent: int, *, is_placeholder: bool) -> Response:
        owner = await agent.owner(request)
        asked = parsed_body(await request.body(), NewMessage)
        is_open = is_placeholder or not asked.is_complete
        written = WrittenMessage(
            role=asked.role,
            content=asked.content,
            status="streaming" if is_open else "completed",
            token_count=asked.token_count,
        )
        made = await messages.create(owner, asked.conversation_id, parent or None, written)
        return JSONResponse(made)

    @router.post(CHAT + "/message/{mid}/create", include_in_schema=False)
    async def create(request: Request, mid: int) -> Response:
        return await create_as(request, mid, is_placeholder=False)

    @router.post(CHAT + "/message/stream/{mid}/create", include_in_schema=False)
    async def create_placeholder(request: Request, mid: int) -> Response:
        return await create_as(request, mid, is_placeholder=True)

    @router.post(CHAT + "/message/{mid}/update", include_in_schema=False)
    async def write(request: Request, mid: int) -> Response:
        await agent.principal(request)
        asked = parsed_body(await request.body(), MessageUpdate)
        status = "completed" if asked.is_complete else "streaming"
        return await change(
            request, mid, content=asked.new_content, token_count=asked.token_count, status=status
        )

    @router.post(CHAT + "/message/{mid}/append", include_in_schema=False)
    async def append(request: Request, mid: int) -> Response:
        await agent.principal(request)
        asked = parsed_body(await request.body(), MessagePiece)
        return await change(request, mid, piece=asked.content_chunk, token_count=asked.token_count)

    @router.post(CHAT + "/message/{mid}/finished", include_in_schema=False)
    async def finish(request: Request, mid: int) -> Response:
        return await change(request, mid, status="completed")

    @router.post(CHAT + "/messages/{mid}/interrupt", include_in_schema=False)
    async def interrupt(request: Request, mid: int) -> Response:
        return JSONResponse(await messages.interrupt(await agent.owner(request), mid))
