"""The body of an AG-UI request (`RunAgentInput`), as a run to join or a conversation to answer."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias, cast

import msgspec

from turnstream.core.admission import checked_client_id, plain_request_json
from turnstream.dialects.ag_ui.chat_entries import ChatEntry, conversation_of
from turnstream.dialects.ag_ui.encoder import EarlierMessages
from turnstream.dialects.ag_ui.event_writer import RunFacts
from turnstream.dialects.ag_ui.messages import RunIds, encoded_messages
from turnstream.dialects.client_request import ClientApproval, ClientRequest, parsed_body
from turnstream.errors import InvalidRequest
from turnstream.limits import CLIENT_ID_LENGTH, MAX_MESSAGES
from turnstream.turns.conversations import ResentConversation
from turnstream.wires.base import ToolDefinition

_ClientId: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=CLIENT_ID_LENGTH)]
_FROM_1 = re.compile(r"0*[1-9][0-9]*(?:\.|\Z)", re.ASCII)
"""Versions of the protocol from 1.0 on."""


class ToolOffer(msgspec.Struct, frozen=True):
    """A tool that runs in the client."""

    name: Annotated[str, msgspec.Meta(pattern=r"^[a-zA-Z_][a-zA-Z0-9_-]{0,63}$")]
    description: str = ""
    parameters: dict[str, Any] | None = None


class ContextEntry(msgspec.Struct, frozen=True):
    """A fact about the page that the model should know."""

    description: str
    value: str


class InterruptAnswer(msgspec.Struct, frozen=True, rename="camel"):
    """The user's answer to an interrupt."""

    interrupt_id: str
    status: Literal["resolved", "cancelled"]
    payload: Any = None


class ForwardedOptions(msgspec.Struct, frozen=True):
    """Options of turnstream in `forwardedProps`. Other properties are ignored."""

    model: str | None = None
    params: dict[str, Any] | None = None
    fallbacks: list[str] | None = None
    metadata: dict[str, Any] | None = None
    tools: list[str] | None = None
    """Names of the server's tools to offer. None: all."""


class RunAgentInput(msgspec.Struct, frozen=True, rename="camel"):
    """The body of a request."""

    thread_id: _ClientId
    run_id: _ClientId
    messages: Annotated[list[dict[str, Any]], msgspec.Meta(max_length=MAX_MESSAGES)]
    protocol_version: str | None = None
    tools: list[ToolOffer] | None = None
    context: list[ContextEntry] | None = None
    forwarded_props: Any = None
    resume: list[InterruptAnswer] | None = None


class RunRequest(NamedTuple):
    """A request for a run. If the run is known, the request joins it.

    Attributes:
        answers: Answers to the approvals that the thread's turn waits for.
    """

    facts: RunFacts
    answers: tuple[ClientApproval, ...]
    body: RunAgentInput
    entries: tuple[ChatEntry, ...]

    def earlier(self, turn_id: str) -> EarlierMessages:
        """Return the client's messages without those of the turn `turn_id`."""
        ids = RunIds(turn_id)
        kept = [_present(message) for message in self.body.messages if not ids.is_own(message["id"])]
        items = encoded_messages(kept, may_shorten=True)
        own = [entry for entry in self.entries if ids.is_own(entry.id)]
        has_reasoning = any(entry.role == "reasoning" for entry in own)
        return EarlierMessages(items, has_reasoning, tuple(str(entry.id) for entry in own))

    def question(self, server_tools: Collection[str]) -> ClientRequest:
        """Return the conversation that the run continues. Raises InvalidRequest.

        Args:
            server_tools: Names of the tools that run on the server.
        """
        said = conversation_of(self.entries, server_tools)
        if not said or said[-1].message.role != "user":
            raise InvalidRequest(
                "the last message needs no answer: send a message of the user, or results of its tools"
            )
        new = said.pop()
        body = self.body
        options = _options(body.forwarded_props)
        offered = () if body.tools is None else tuple(_definition(tool) for tool in body.tools)
        own = {tool.name for tool in offered}
        from_server = server_tools if options.tools is None else options.tools
        return ClientRequest(
            conversation=ResentConversation(
                messages=tuple(one.message for one in said),
                message_ids=tuple(one.client_id for one in said),
                new=new.message.blocks,
                new_message_id=new.client_id,
                chat_id=self.facts.thread_id,
                run_id=self.facts.run_id,
            ),
            model=options.model,
            system=_system(self.entries, body.context or []) or None,
            fallbacks=None if options.fallbacks is None else tuple(options.fallbacks),
            params=options.params,
            tools=(*(name for name in from_server if name not in own), *offered),
            metadata=options.metadata or {},
        )


def parse_run(raw: bytes) -> RunRequest:
    """Return the request of a JSON body. Raises InvalidRequest."""
    body = parsed_body(raw, RunAgentInput)
    thread_id = checked_client_id(body.thread_id, "threadId, the id of the chat,")
    run_id = checked_client_id(body.run_id, "runId, the id of the run,")
    body = plain_request_json(body, "the body")
    try:
        entries = msgspec.convert(body.messages, tuple[ChatEntry, ...])
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"messages: {error}") from None
    for place, entry in enumerate(entries):
        if (fault := entry.fault) is not None:
            raise InvalidRequest(f"messages[{place}]: a message of {entry.role} needs a valid {fault}")
    facts = RunFacts(thread_id, run_id, _FROM_1.match(body.protocol_version or "") is not None)
    answers = tuple(_answer(place, answer) for place, answer in enumerate(body.resume or []))
    return RunRequest(facts, answers, body, entries)


def _answer(place: int, given: InterruptAnswer) -> ClientApproval:
    """Return the answer to an approval, whose id is the interrupt's."""
    if given.status == "cancelled":
        return ClientApproval(given.interrupt_id, is_approved=False, reason="the user dismissed the question")
    match given.payload:
        case {"editedArgs": _}:
            raise InvalidRequest(
                f"resume[{place}]: the arguments of a call cannot be edited: leave editedArgs out"
            )
        case {"approved": bool(approved), "reason": str(reason)}:
            return ClientApproval(given.interrupt_id, is_approved=approved, reason=reason)
        case {"approved": bool(approved)} | bool(approved):
            return ClientApproval(given.interrupt_id, is_approved=approved)
        case _:
            raise InvalidRequest(f"resume[{place}]: payload.approved must be true or false")


def _present(value: Any) -> Any:
    """Return a message, or a part of one, without null fields, which clients refuse.

    Activities and metadata may have any values.
    """
    if isinstance(value, list):
        return [_present(one) for one in cast("list[Any]", value)]
    if not isinstance(value, dict):
        return value
    fields = cast("dict[str, Any]", value)
    is_activity = fields.get("role") == "activity"
    return {
        name: one if is_activity or name == "metadata" else _present(one)
        for name, one in fields.items()
        if one is not None
    }


def _options(given: Any) -> ForwardedOptions:
    if not isinstance(given, dict):
        return ForwardedOptions()
    try:
        return msgspec.convert(given, ForwardedOptions)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"forwardedProps: {error}") from None


def _definition(tool: ToolOffer) -> ToolDefinition:
    return ToolDefinition(tool.name, tool.description, tool.parameters or {"type": "object"})


def _system(entries: Sequence[ChatEntry], context: Sequence[ContextEntry]) -> str:
    texts = [entry.text for entry in entries if entry.role in ("system", "developer")]
    facts = [f"{entry.description}: {entry.value}" for entry in context]
    return "\n\n".join(text for text in (*texts, "\n".join(facts)) if text)
