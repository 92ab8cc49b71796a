"""JSON bodies of the API: requests and answers."""

from __future__ import annotations

import inspect
from typing import Annotated, Any, Literal, Self, TypeAlias, get_args

import msgspec
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    StrictBool,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from turnstream.core.blocks import Block, BlockType
from turnstream.core.usage import CallAttempt
from turnstream.errors import InvalidRequest
from turnstream.limits import (
    MAX_ALTERNATIVES,
    MAX_FALLBACKS,
    MAX_MODEL,
    MAX_REASON,
    MAX_TITLE,
    MAX_TOOLS,
    MIN_ALTERNATIVES,
)
from turnstream.server.attachments.checks import check_attachment
from turnstream.server.block_shapes import (
    MAX_BLOCKS,
    PLAIN_BLOCK,
    RIGHT_FORM,
    SENDABLE,
    PlainText,
    block_of_short_form,
    block_schema,
    blocks_of_text,
    contents_schema,
)
from turnstream.server.openapi_additions import ErrorDetail, Identifier
from turnstream.server.params import JsonObject, Metadata, Params
from turnstream.store.base import ApprovalRecord, BlockRecord, TurnRecord
from turnstream.turns.clock import iso_timestamp
from turnstream.turns.ending import is_unpriced
from turnstream.turns.new_turns import TurnState


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ChatBody(_Body):
    title: str | None = Field(default=None, max_length=MAX_TITLE)
    metadata: Metadata = Field(default={})


class ChatChange(_Body):
    title: str | None = Field(default=None, max_length=MAX_TITLE)
    metadata: Metadata | None = None
    active_turn_id: Identifier | None = None
    """The turn whose branch is to be shown."""


class UserBlock(_Body):
    """A block of a user turn. `{"type": "text", "text": …}` is a short form of a text block.

    Contents by type: text; image `{media_type, data}` or `{url}`; document `{media_type, data}`, `{url}` or
    `{text}`, each with an optional title; tool_result `{tool_use_id, content, is_error?}`; reference.
    """

    block_type: Literal["text", "image", "document", "tool_result", "reference", "partial_reference"]
    text_content: str | None = None
    content: JsonObject | None = None

    @classmethod
    def __get_pydantic_json_schema__(
        cls, _schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        kinds = get_args(cls.model_fields["block_type"].annotation)
        contents = handler(contents_schema())["anyOf"]
        shapes = [block_schema(kind, contents) for kind in kinds]
        description = inspect.cleandoc(cls.__doc__ or "")
        return {"title": cls.__name__, "description": description, "oneOf": [*shapes, PLAIN_BLOCK]}

    @model_validator(mode="before")
    @classmethod
    def _read_short_form(cls, given: object) -> object:
        return block_of_short_form(given)

    def to_block(self, sequence: int) -> Block:
        """Return the block.

        Raises InvalidRequest if a field that this type of block needs is missing or invalid.
        """
        content = self.content or {}
        if self.block_type in ("image", "document"):
            check_attachment(f"turn_blocks[{sequence}]", self.block_type, content)
        match self.block_type:
            case "text" if not (self.text_content or "").strip():
                raise InvalidRequest(
                    f"turn_blocks[{sequence}]: a text block needs text_content: {RIGHT_FORM}"
                )
            case "tool_result" if not isinstance(content.get("tool_use_id"), str):
                raise InvalidRequest(f"turn_blocks[{sequence}]: a tool_result needs content.tool_use_id")
            case _:
                return Block(sequence, self.block_type, self.text_content, self.content)


class ToolBody(_Body):
    """A tool that the client runs itself. A call of it ends the turn with the stop reason tool_use."""

    name: str = Field(pattern=r"^[a-zA-Z_][a-zA-Z0-9_-]{0,63}$")
    description: str = ""
    input_schema: JsonObject = Field(default={"type": "object"})


class AnswerBody(_Body):
    """Options of one answer."""

    model: str | None = Field(default=None, max_length=MAX_MODEL)
    fallbacks: list[str] | None = Field(default=None, max_length=MAX_FALLBACKS)
    """Models to call, in this order, if `model` fails. null: the server's fallbacks."""
    system: str | None = None
    params: Params | None = None
    tools: list[str | ToolBody] | None = Field(default=None, max_length=MAX_TOOLS)
    """The server's tools by name, and definitions of the client's own. null: all of the server's tools."""
    metadata: Metadata = Field(default={})


class AlternativeBody(AnswerBody):
    """One of several answers. A field that is left out is that of the request."""


class CallBody(AnswerBody):
    """Options of a model call. A field that is left out keeps its value from the previous answer."""

    alternatives: list[AlternativeBody] | None = Field(
        default=None, min_length=MIN_ALTERNATIVES, max_length=MAX_ALTERNATIVES
    )
    """Answers to start at once, as branches. The first of them is shown. null: one answer."""
    store: StrictBool | None = None
    """false: a turn without rows, which is lost when memory drops it. null: the server's setting."""


class TurnBody(CallBody):
    turn_blocks: Annotated[
        list[UserBlock],
        Field(min_length=1, max_length=MAX_BLOCKS),
        BeforeValidator(
            blocks_of_text, json_schema_input_type=PlainText | Annotated[list[UserBlock], SENDABLE]
        ),
    ]
    role: Literal["user"] = "user"
    prev_turn_id: Identifier | None = None


class RecordView(BaseModel):
    """An answer about a record. Each field has the value of the record's field of the same name."""

    @classmethod
    def of(cls, record: msgspec.Struct, **others: Any) -> Self:
        """Return the view of a record. The fields of its usage or its block become fields of the view.

        `others`: fields that the record does not have, or has in another form.
        """
        values = msgspec.structs.asdict(record)
        for part in ("usage", "block"):
            if part in values:
                values.update(msgspec.structs.asdict(values.pop(part)))
        return cls.model_validate({**values, **others})


def _shown(moment: int | str) -> str:
    return moment if isinstance(moment, str) else iso_timestamp(moment)


Timestamp: TypeAlias = Annotated[str, BeforeValidator(_shown)]


class ChatView(RecordView):
    id: Identifier
    title: str | None
    metadata: dict[str, Any]
    created_at: Timestamp
    updated_at: Timestamp
    active_turn_id: Identifier | None
    """Turn whose branch is shown."""


class ChatList(BaseModel):
    chats: list[ChatView]
    next: str | None
    """Value for `before` to read the next page; null on the last page."""


class BlockView(RecordView):
    id: Identifier
    sequence: int
    block_type: BlockType
    text_content: str | None
    content: dict[str, Any] | None
    partial: bool
    created_at: Timestamp


class StepView(RecordView):
    """One model call of an ended turn."""

    step: int
    model: str | None
    input_tokens: int | None
    output_tokens: int | None
    cache_read_tokens: int | None
    cache_write_tokens: int | None
    reasoning_tokens: int | None
    cost: str | None
    estimated: bool


class AttemptView(RecordView):
    """One model call that was tried for a turn.

    `outcome`: complete, cancelled, or an error's code. `duration`: seconds. `first_output`: seconds to the
    first output; null without output, or if it is not known.
    """

    step: int
    number: int
    model: str
    outcome: str
    started_at: Timestamp
    duration: float
    input_tokens: int | None
    output_tokens: int | None
    cache_read_tokens: int | None
    cache_write_tokens: int | None
    reasoning_tokens: int | None
    cost: str | None
    estimated: bool
    first_output: float | None


class ApprovalBody(_Body):
    """The answer to an approval request."""

    approved: StrictBool
    reason: str | None = Field(default=None, max_length=MAX_REASON)
    """Text for the model and for the turn's watchers."""


class ApprovalView(RecordView):
    """A tool call that needs an approval. `approved` is null until there is an answer."""

    approval_id: Identifier
    turn_id: Identifier
    tool_use_id: str
    tool_name: str
    input_digest: str
    expires_at: Timestamp
    approved: bool | None
    reason: str | None

    @classmethod
    def of_approval(cls, approval: ApprovalRecord) -> ApprovalView:
        return cls.of(approval, approval_id=approval.id)


class TurnView(RecordView):
    id: Identifier
    chat_id: Identifier
    prev_turn_id: Identifier | None
    role: str
    status: str
    model: str | None
    system: str | None
    params: dict[str, Any]
    metadata: dict[str, Any]
    stop_reason: str | None
    input_tokens: int | None
    output_tokens: int | None
    cache_read_tokens: int | None
    cache_write_tokens: int | None
    reasoning_tokens: int | None
    cost: str | None
    """US dollars, a decimal number with six places; null if it is not known."""
    cost_estimated: bool
    """True if cost and tokens are estimates, because the turn ended before the provider reported them."""
    unpriced: bool
    """True if the cost is not known because the model's price is not known."""
    steps: list[StepView]
    attempts: list[AttemptView]
    """All model calls that were tried, including failed ones, after the turn has ended.

    Empty in lists of turns.
    """
    approvals: list[ApprovalView]
    """Unanswered approvals of a waiting turn. Empty in lists of turns."""
    asked_model: str | None
    """Model that was asked for. `model` is the model that gave the final answer."""
    fallbacks: list[str] | None
    error: ErrorDetail | None
    created_at: Timestamp
    completed_at: Timestamp | None
    blocks: list[BlockView]

    @classmethod
    def of_turn(
        cls,
        turn: TurnRecord,
        blocks: tuple[BlockRecord, ...] = (),
        attempts: tuple[CallAttempt, ...] = (),
        approvals: tuple[ApprovalRecord, ...] = (),
    ) -> TurnView:
        error = None
        if turn.completed_at is None:  # only a process that takes the turn over needs it
            turn = msgspec.structs.replace(turn, steps=())
        if turn.error_code is not None:
            error = ErrorDetail(code=turn.error_code, message=turn.error_message or "")
        return cls.of(
            turn,
            unpriced=is_unpriced(turn),
            steps=[StepView.of(step) for step in turn.steps],
            attempts=[AttemptView.of(attempt) for attempt in attempts],
            approvals=[ApprovalView.of_approval(approval) for approval in approvals],
            error=error,
            blocks=[BlockView.of(row) for row in blocks],
        )


class TurnListView(BaseModel):
    turns: list[TurnView]
    previous: Identifier | None = None
    """Value for `before` to read the turns before these; null on the page with the first turn."""


class PathTurnView(TurnView):
    siblings: list[Identifier]
    """Ids of this turn and its alternatives, oldest first."""
    events: list[dict[str, Any]]
    """The sources and notices of the turn, without its id: at most 1000 in one answer."""


class PathView(BaseModel):
    chat_id: Identifier
    turns: list[PathTurnView]
    previous: Identifier | None = None
    """Value for `before` to read the turns before these; null on the page with the first turn."""


class BlocksView(BaseModel):
    turn_id: Identifier
    status: str
    current_block_index: int | None
    """Index of the block that is being written, else of the last block; null before the first block."""
    blocks: list[BlockView]

    @classmethod
    def without_blocks(cls, state: TurnState) -> BlocksView:
        """Return the view of a turn with an empty list of blocks."""
        current = state.open_block
        if current is None and state.blocks:
            current = state.blocks[-1].block.sequence
        return cls(turn_id=state.turn.id, status=state.turn.status, current_block_index=current, blocks=[])


class InterruptView(BaseModel):
    turn_id: Identifier
    status: str
    blocks_completed: int
    partial_block: BlockView | None

    @classmethod
    def of(cls, state: TurnState) -> InterruptView:
        partial = [row for row in state.blocks if row.block.partial]
        return cls(
            turn_id=state.turn.id,
            status=state.turn.status,
            blocks_completed=len(state.blocks) - len(partial),
            partial_block=BlockView.of(partial[-1]) if partial else None,
        )


class ModelView(RecordView):
    id: str
    provider: str
    wire: str
    ready: bool
    default: bool
