"""The body of an AG-UI request (`RunAgentInput`), as a run to join or a conversation to answer.

The result of a tool that ran on the server belongs to the assistant's message. The result of a client's tool
is a message of the user.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias

import msgspec

from turnstream.core.blocks import Block, Content, Message
from turnstream.dialects.ag_ui.encoder import EarlierMessages
from turnstream.dialects.ag_ui.event_writer import RunFacts
from turnstream.dialects.ag_ui.messages import RunIds, encoded_messages
from turnstream.dialects.client_request import ClientRequest, numbered, parsed_body
from turnstream.errors import InvalidRequest
from turnstream.tools.asking import ApprovalAnswer
from turnstream.turns.conversations import MAX_MESSAGES, ResentConversation
from turnstream.wires.base import ToolDefinition

_ClientId: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]


class PartSource(msgspec.Struct, frozen=True, rename="camel"):
    """The content of a media part: base64 data, or a URL."""

    type: Literal["data", "url", "file"]
    value: str
    mime_type: str | None = None


class ContentPart(msgspec.Struct, frozen=True):
    """A part of a message."""

    type: Literal["text", "image", "audio", "video", "document"]
    text: str | None = None
    source: PartSource | None = None

    @property
    def fault(self) -> str | None:
        """Name of a field that the part lacks, or None."""
        if self.type == "text":
            return "text" if self.text is None else None
        if self.source is None:
            return "source"
        return "mimeType" if self.source.type == "data" and self.source.mime_type is None else None


class ChatFunction(msgspec.Struct, frozen=True):
    """The tool of a call, and its arguments as JSON text."""

    name: str
    arguments: str


class ChatToolCall(msgspec.Struct, frozen=True):
    """A tool call of the assistant."""

    id: str
    type: Literal["function"]
    function: ChatFunction
    metadata: dict[str, Any] | None = None


class ChatEntry(msgspec.Struct, frozen=True, rename="camel"):
    """A message of any role. `role` says which of the fields count. Only activities have an object."""

    id: str
    role: Literal["developer", "system", "user", "assistant", "tool", "reasoning", "activity"]
    content: str | list[ContentPart] | dict[str, Any] | None = None
    tool_calls: list[ChatToolCall] | None = None
    tool_call_id: str | None = None
    activity_type: str | None = None
    error: str | None = None
    metadata: dict[str, Any] | None = None

    @property
    def text(self) -> str:
        """The texts of the content, joined."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text or "" for part in self.parts)

    @property
    def parts(self) -> list[ContentPart]:
        """The content as parts."""
        if isinstance(self.content, str):
            return [ContentPart("text", self.content)]
        return self.content if isinstance(self.content, list) else []

    @property
    def fault(self) -> str | None:
        """Name of a field that the message lacks, or None. Its own client would refuse it in a snapshot."""
        content = self.content
        match self.role:
            case "assistant":
                is_fit = content is None or isinstance(content, str)
            case "activity":
                is_fit = isinstance(content, dict)
            case "user" | "tool":
                is_fit = isinstance(content, str | list)
            case _:
                is_fit = isinstance(content, str)
        if not is_fit:
            return "content"
        if self.role == "activity" and self.activity_type is None:
            return "activityType"
        if self.role == "tool" and self.tool_call_id is None:
            return "toolCallId"
        return next((fault for part in self.parts if (fault := part.fault) is not None), None)


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


class AnsweredInterrupt(NamedTuple):
    """An answer to an approval of a waiting turn."""

    turn_id: str
    approval_id: str
    answer: ApprovalAnswer


class RunRequest(NamedTuple):
    """A request for a run. What it asks for depends on the run: a known one is joined.

    Attributes:
        answers: Answers to the approvals that the thread's turn waits for.
    """

    facts: RunFacts
    answers: tuple[AnsweredInterrupt, ...]
    body: RunAgentInput
    entries: tuple[ChatEntry, ...]

    def earlier(self, turn_id: str) -> EarlierMessages:
        """Return the client's messages without those of the turn `turn_id`."""
        ids = RunIds(turn_id)
        kept = [_present(message) for message in self.body.messages if not ids.is_own(message["id"])]
        items = encoded_messages(kept, may_shorten=True)
        if items is None:
            raise InvalidRequest("messages are too many for a snapshot", code="conversation_too_large")
        own = (entry for entry in self.entries if ids.is_own(entry.id))
        return EarlierMessages(items, any(entry.role == "reasoning" for entry in own))

    def question(self, server_tools: Collection[str]) -> ClientRequest:
        """Return the conversation that the run continues. Raises InvalidRequest.

        Args:
            server_tools: Names of the tools that run on the server.
        """
        said = _conversation(self.entries, server_tools)
        if not said or said[-1].message.role != "user":
            raise InvalidRequest(
                "the last message needs no answer: send a message of the user, or results of its tools"
            )
        new = said.pop()
        body = self.body
        options = _options(body.forwarded_props)
        offered = () if body.tools is None else tuple(_definition(tool) for tool in body.tools)
        own = {tool.name for tool in offered}
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
            tools=(*(name for name in server_tools if name not in own), *offered) if offered else None,
            metadata=options.metadata or {},
        )


class _SaidMessage(NamedTuple):
    """A message of the conversation, and the client's id of it or None."""

    message: Message
    client_id: str | None


def parse_run(raw: bytes) -> RunRequest:
    """Return the request of a JSON body. Raises InvalidRequest."""
    body = parsed_body(raw, RunAgentInput)
    try:
        entries = msgspec.convert(body.messages, tuple[ChatEntry, ...])
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"messages: {error}") from None
    for place, entry in enumerate(entries):
        if (fault := entry.fault) is not None:
            raise InvalidRequest(f"messages[{place}]: a message of {entry.role} needs a valid {fault}")
    version = (body.protocol_version or "0").partition(".")[0]
    facts = RunFacts(body.thread_id, body.run_id, version.isdecimal() and int(version) >= 1)
    answers = tuple(_answer(place, answer) for place, answer in enumerate(body.resume or []))
    if len({turn_id for turn_id, _, _ in answers}) > 1:
        raise InvalidRequest("resume: the interrupts belong to several runs")
    return RunRequest(facts, answers, body, entries)


def _answer(place: int, given: InterruptAnswer) -> AnsweredInterrupt:
    turn_id, dot, approval_id = given.interrupt_id.partition(".")
    if not dot:
        raise InvalidRequest(f"resume[{place}]: there is no such interrupt")
    if given.status == "cancelled":
        answer = ApprovalAnswer(approved=False, reason="the user dismissed the question")
        return AnsweredInterrupt(turn_id, approval_id, answer)
    match given.payload:
        case {"editedArgs": _}:
            raise InvalidRequest(f"resume[{place}]: the arguments of a call cannot be edited")
        case {"approved": bool(approved), "reason": str(reason)}:
            answer = ApprovalAnswer(approved=approved, reason=reason)
        case {"approved": bool(approved)} | bool(approved):
            answer = ApprovalAnswer(approved=approved)
        case _:
            raise InvalidRequest(f"resume[{place}]: payload.approved must be true or false")
    return AnsweredInterrupt(turn_id, approval_id, answer)


def _present(message: dict[str, Any]) -> dict[str, Any]:
    """Return a message without null fields, which clients refuse."""
    return {name: value for name, value in message.items() if value is not None}


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


def _conversation(entries: Sequence[ChatEntry], server_tools: Collection[str]) -> list[_SaidMessage]:
    """Return the messages of the conversation. Adjacent ones of a side are one. Empty ones are left out."""
    found: list[_SaidMessage] = []
    ran_here: set[str] = set()
    said: list[Block] = []
    heard: list[Block] = []
    ids: dict[str, str | None] = {"assistant": None, "user": None}

    def end_assistant() -> None:
        if said:
            found.append(_SaidMessage(Message("assistant", numbered(said)), ids["assistant"]))
        said.clear()

    def end_user() -> None:
        if heard:
            found.append(_SaidMessage(Message("user", numbered(heard)), ids["user"]))
        heard.clear()
        ids["user"] = None

    for entry in entries:
        match entry.role:
            case "user":
                if not all(block.block_type == "tool_result" for block in heard):
                    end_assistant()
                    end_user()
                heard += _user_blocks(entry)
                ids["user"] = entry.id or None
            case "tool":
                result = _result(entry)
                (said if entry.tool_call_id in ran_here else heard).append(result)
            case "assistant" | "reasoning":
                if heard:
                    end_assistant()
                    end_user()
                if not said:
                    ids["assistant"] = entry.id or None
                said += _assistant_blocks(entry)
                for call in entry.tool_calls or ():
                    executed = bool((call.metadata or {}).get("providerExecuted"))
                    if executed or call.function.name in server_tools:
                        ran_here.add(call.id)
            case _:
                pass
    end_assistant()
    end_user()
    return found


def _user_blocks(entry: ChatEntry) -> list[Block]:
    blocks: list[Block] = []
    for part in entry.parts:
        if part.type == "text":
            if part.text and part.text.strip():
                blocks.append(Block(0, "text", part.text))
        elif part.type in ("image", "document") and part.source is not None:
            source = part.source
            if source.type == "file":
                raise InvalidRequest("messages: files of a provider cannot be read: send data or a URL")
            typed: Content = {"media_type": source.mime_type} if source.mime_type else {}
            place: Content = {"data": source.value} if source.type == "data" else {"url": source.value}
            blocks.append(Block(0, "image" if part.type == "image" else "document", None, {**typed, **place}))
        else:
            raise InvalidRequest(f"messages: {part.type} cannot be sent to a model")
    return blocks


def _assistant_blocks(entry: ChatEntry) -> list[Block]:
    blocks: list[Block] = []
    if text := entry.text:
        blocks.append(Block(0, "thinking" if entry.role == "reasoning" else "text", text))
    blocks += [_call(call) for call in entry.tool_calls or ()]
    return blocks


def _call(call: ChatToolCall) -> Block:
    text = call.function.arguments
    try:
        given: Any = msgspec.json.decode(text) if text.strip() else {}
    except (msgspec.DecodeError, RecursionError):
        given = {}
    executed = {"provider_executed": True} if (call.metadata or {}).get("providerExecuted") else {}
    content: Content = {
        "tool_use_id": call.id,
        "tool_name": call.function.name,
        "input": given if isinstance(given, dict) else {},
        "input_json": text,
        **executed,
    }
    return Block(0, "tool_use", None, content)


def _result(entry: ChatEntry) -> Block:
    facts = entry.metadata or {}
    executed = {"provider_executed": True} if facts.get("providerExecuted") else {}
    content: Content = {
        "tool_use_id": entry.tool_call_id,
        "content": entry.error or entry.text,
        "is_error": entry.error is not None or bool(facts.get("isError")),
        **executed,
    }
    return Block(0, "tool_result", None, content)
