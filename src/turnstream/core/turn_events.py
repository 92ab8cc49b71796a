"""TurnEvents: what happened in a turn, in order; what watchers get (founding document 000).

Events carry no turn id and no cursor: the log numbers them, and the dialect that frames them adds both.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec

from turnstream.core.blocks import BlockType, Content
from turnstream.core.stream_events import StreamEvent
from turnstream.core.usage import Usage

DeltaField: TypeAlias = Literal["text", "partial_json", "signature", "content"]


class TurnStart(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag="turn_start"):
    """The first event of a turn, and of every full snapshot: a client that gets it starts from nothing."""

    chat_id: str
    role: str
    model: str | None
    timestamp: str
    user_turn_id: str | None = None


class BlockStart(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag="block_start"):
    """A block begins. `content`: what is known of it from the start, as in `Block.content`."""

    block_index: int
    block_type: BlockType
    content: Content | None = None


class BlockDelta(msgspec.Struct, frozen=True, gc=False, tag="block_delta"):
    """`field` names what grew: text, partial_json, signature (strings that concatenate), or content (an object
    merged into the block's content: lists are extended, other values replaced)."""

    block_index: int
    block_type: BlockType
    field: DeltaField
    value: Any


class BlockStop(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag="block_stop"):
    """The block is stored. `partial`: it was cut off by an error or a cancel."""

    block_index: int
    block_type: BlockType
    partial: bool = False


class BlockCatchup(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag="block_catchup"):
    """Everything of a block so far: replaces what the client has of it. `complete`: nothing more will come,
    and no block_stop follows."""

    block_index: int
    block_type: BlockType
    complete: bool
    accumulated_text: str | None = None
    input_partial: str | None = None
    content: Content | None = None
    partial: bool = False


class BlockReset(msgspec.Struct, frozen=True, gc=False, tag="block_reset"):
    """Blocks from this index on are taken back."""

    block_index: int


class StepStart(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag="step_start"):
    """A model call of the turn begins; the first is step 0."""

    step: int
    model: str | None = None


class StepStop(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag="step_stop"):
    """A model call of the turn, and what its tools answered, is over. `stop_reason`: why the model stopped."""

    step: int
    stop_reason: str | None = None


class ToolProgress(msgspec.Struct, frozen=True, gc=False, tag="tool_progress"):
    """Something that a tool tells while it runs; kept nowhere."""

    tool_use_id: str
    text: str


class UsageReport(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag="usage"):
    """Tokens of the turn so far, and what they cost: `cost` in US dollars, a decimal number with six places.
    `estimated`: both are an estimate. `unpriced`: there is no cost, as the price of the model is not known."""

    usage: Usage
    cost: str | None = None
    estimated: bool = False
    unpriced: bool = False


class Notice(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag="notice"):
    """`truncated`: text this watcher had seen is gone; drop blocks from `block_index` on, what follows
    replaces them. Other codes inform; `model`: the one that is asked from now on."""

    code: str
    message: str
    block_index: int | None = None
    model: str | None = None


class Source(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag="source"):
    """Something that the answer rests on."""

    source_id: str
    url: str | None = None
    title: str | None = None
    media_type: str | None = None


class Data(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag="data"):
    """The application's own event. A transient one is shown live and kept nowhere."""

    name: str
    data: Any
    transient: bool = False


class TurnComplete(msgspec.Struct, frozen=True, gc=False, tag="turn_complete"):
    """`cost`, `estimated`, `unpriced`: as in `UsageReport`, here and in the other two; left out where there is
    nothing to say."""

    stop_reason: str | None
    input_tokens: int | None
    output_tokens: int | None
    total_blocks: int
    status: Literal["complete"] = "complete"
    usage: Usage | None = None
    cost: str | msgspec.UnsetType = msgspec.UNSET
    estimated: bool | msgspec.UnsetType = msgspec.UNSET
    unpriced: bool | msgspec.UnsetType = msgspec.UNSET


class TurnError(msgspec.Struct, frozen=True, gc=False, tag="turn_error"):
    """The turn failed: `code` for programs, `error` for people."""

    error: str
    code: str
    blocks_completed: int
    status: Literal["error"] = "error"
    usage: Usage | None = None
    cost: str | msgspec.UnsetType = msgspec.UNSET
    estimated: bool | msgspec.UnsetType = msgspec.UNSET
    unpriced: bool | msgspec.UnsetType = msgspec.UNSET


class TurnCancelled(msgspec.Struct, frozen=True, gc=False, tag="turn_cancelled"):
    """The turn was stopped on request."""

    blocks_completed: int
    status: Literal["cancelled"] = "cancelled"
    usage: Usage | None = None
    cost: str | msgspec.UnsetType = msgspec.UNSET
    estimated: bool | msgspec.UnsetType = msgspec.UNSET
    unpriced: bool | msgspec.UnsetType = msgspec.UNSET


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
    | Terminal
)
SourceEvent: TypeAlias = (
    StreamEvent | BlockReset | Data | Notice | Source | StepStart | StepStop | ToolProgress
)
"""Events that the source of a turn may give."""
