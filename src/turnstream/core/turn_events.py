"""TurnEvents: the events of a turn, in order. Watchers get TurnEvents.

Events carry neither turn id nor cursor. The log numbers them, and the dialect that frames them adds both.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec

from turnstream.core.blocks import Block, BlockType, Content
from turnstream.core.stream_events import StreamEvent
from turnstream.core.usage import Usage

DeltaField: TypeAlias = Literal["text", "partial_json", "signature", "content"]


class TurnStart(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag="turn_start"):
    """The first event of a turn and of every full snapshot. A client that gets it drops all blocks."""

    chat_id: str
    role: str
    model: str | None
    timestamp: str
    user_turn_id: str | None = None


class BlockStart(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag="block_start"):
    """A block begins. `content` holds the fields that are known at the start, as in `Block.content`."""

    block_index: int
    block_type: BlockType
    content: Content | None = None


class BlockDelta(msgspec.Struct, frozen=True, gc=False, tag="block_delta"):
    """A block grows. `field` names the part that grows.

    text, partial_json and signature are strings that concatenate. content is an object that is merged into
    the block's content: lists are extended, other values replaced.
    """

    block_index: int
    block_type: BlockType
    field: DeltaField
    value: Any


class BlockStop(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag="block_stop"):
    """The block is stored. `partial`: an error or a cancel cut it off."""

    block_index: int
    block_type: BlockType
    partial: bool = False


class BlockCatchup(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag="block_catchup"):
    """The whole block so far. It replaces the client's block.

    `complete`: the block is finished, and no block_stop follows.
    """

    block_index: int
    block_type: BlockType
    complete: bool
    accumulated_text: str | None = None
    input_partial: str | None = None
    content: Content | None = None
    partial: bool = False


class BlockReset(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag="block_reset"):
    """Blocks from this index on are retracted.

    `shown`: The retracted blocks as far as they were shown, for dialects that cannot retract text. It is not
    sent to clients. None: not known. Empty: the provider withdrew them.
    """

    block_index: int
    shown: tuple[Block, ...] | None = None

    @property
    def is_withdrawal(self) -> bool:
        """True if the provider withdrew the blocks: no later block repeats them."""
        return self.shown == ()


class StepStart(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag="step_start"):
    """A step of the turn begins: a model call, or a stage of a workflow. The first is step 0.

    Attributes:
        model: Model of the call. None for a stage.
        name: Name of the stage. None for a model call.
        progress: Progress of the workflow, from 0 to 1. None for a model call.
    """

    step: int
    model: str | None = None
    name: str | None = None
    progress: float | None = None


class StepStop(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag="step_stop"):
    """A step of the turn has ended: its model call and its tools, or its stage.

    `stop_reason`: the reason that the model stopped.
    """

    step: int
    stop_reason: str | None = None


class ToolProgress(msgspec.Struct, frozen=True, gc=False, tag="tool_progress"):
    """A message from a running tool. It is not stored."""

    tool_use_id: str
    text: str


class UsageReport(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag="usage"):
    """Tokens of the turn so far, and their cost.

    Attributes:
        cost: US dollars, a decimal number with six places. None if it is not known.
        estimated: The tokens and the cost are an estimate.
        unpriced: There is no cost, because the price of the model is not known.
    """

    usage: Usage
    cost: str | None = None
    estimated: bool = False
    unpriced: bool = False


class Notice(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag="notice"):
    """Information for the client.

    With code `truncated`, text that this watcher has seen is gone: the client drops the blocks from
    `block_index` on, and the next events replace them. `model` is the model that answers from now on.
    """

    code: str
    message: str
    block_index: int | None = None
    model: str | None = None


class Source(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag="source"):
    """A source that the answer is based on."""

    source_id: str
    url: str | None = None
    title: str | None = None
    media_type: str | None = None


class ApprovalRequest(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag="approval_request"):
    """A tool call that runs only after an approval. The turn waits for the answer.

    Attributes:
        input_digest: SHA-256 of the call's arguments, hexadecimal. The answer is for these arguments only.
        expires_at: Time (ISO 8601, UTC) after which the call counts as denied.
    """

    approval_id: str
    tool_use_id: str
    tool_name: str
    input_digest: str
    expires_at: str


class ApprovalResponse(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag="approval_response"):
    """The answer to an approval request, or its expiry. `reason`: a text for people and for the model."""

    approval_id: str
    tool_use_id: str
    approved: bool
    reason: str | None = None


class Data(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag="data"):
    """An event of the host application. A transient one is shown live and not stored."""

    name: str
    data: Any
    transient: bool = False


class UserRedacted(msgspec.Struct, frozen=True, gc=False, tag="user_redacted"):
    """The provider retracted what the user wrote. The stored blocks of the user's turn are replaced.

    Attributes:
        user_turn_id: The user's turn. Empty if the turn has none.
        replacement: The text of the block that replaces all others of that turn.
    """

    replacement: str
    user_turn_id: str = ""


class _TerminalEvent(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The last event of a turn, with the turn's account.

    `cost`, `estimated` and `unpriced` are as in `UsageReport`, and unset if they do not apply.
    """

    usage: Usage | None = None
    cost: str | msgspec.UnsetType = msgspec.UNSET
    estimated: bool | msgspec.UnsetType = msgspec.UNSET
    unpriced: bool | msgspec.UnsetType = msgspec.UNSET


class TurnComplete(_TerminalEvent, frozen=True, gc=False, tag="turn_complete"):
    """The turn is complete.

    `stop_sequence` is the stop sequence at which the answer ended, and unset if the provider names none.
    """

    stop_reason: str | None
    input_tokens: int | None
    output_tokens: int | None
    total_blocks: int
    status: Literal["complete"] = "complete"
    stop_sequence: str | msgspec.UnsetType = msgspec.UNSET


class TurnError(_TerminalEvent, frozen=True, gc=False, tag="turn_error"):
    """The turn failed. `code` is for programs, `error` for people."""

    error: str
    code: str
    blocks_completed: int
    status: Literal["error"] = "error"


class TurnCancelled(_TerminalEvent, frozen=True, gc=False, tag="turn_cancelled"):
    """The turn was stopped on request."""

    blocks_completed: int
    status: Literal["cancelled"] = "cancelled"


Terminal: TypeAlias = TurnComplete | TurnError | TurnCancelled
TurnEvent: TypeAlias = (
    TurnStart
    | BlockStart
    | BlockDelta
    | BlockStop
    | BlockCatchup
    | BlockReset
    | StepStart
    | StepStop
    | ToolProgress
    | UsageReport
    | Notice
    | Source
    | Data
    | ApprovalRequest
    | ApprovalResponse
    | UserRedacted
    | Terminal
)
SourceEvent: TypeAlias = (
    StreamEvent | BlockReset | Data | Notice | Source | StepStart | StepStop | ToolProgress
)
"""Events that the source of a turn may yield."""
