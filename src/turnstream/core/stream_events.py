"""StreamEvents: what a provider said, normalised (founding document 004).

A wire decodes provider bytes into these and encodes these into provider bytes. `index` is the provider's
block index within one model call: events of several blocks may interleave. Nothing here knows of turns.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec

from turnstream.core.blocks import BlockType, Content
from turnstream.core.origin import Origin
from turnstream.core.usage import Usage

StopReason: TypeAlias = Literal[
    "end_turn",
    "max_tokens",
    "stop_sequence",
    "tool_use",
    "content_filtered",
    "guardrail_intervened",
    "refusal",
    "pause_turn",
    "unknown",
]


class MessageStart(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag="message_start"):
    """`origin` is the caller's to add, who knows whom it called; no wire does."""

    id: str | None = None
    model: str | None = None
    role: str = "assistant"
    origin: Origin | None = None


class ContentBlockStart(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag="content_block_start"):
    """A block opens. `content` holds what is known from the start, in the shape of `Block.content`:
    tool_use `{tool_use_id, tool_name, provider_executed?, input?}`, a whole tool_result, redacted thinking."""

    index: int
    block_type: BlockType
    content: Content | None = None


class TextDelta(msgspec.Struct, frozen=True, gc=False, tag="text_delta"):
    """A piece of a text block."""

    index: int
    text: str


class ThinkingDelta(msgspec.Struct, frozen=True, gc=False, tag="thinking_delta"):
    """A piece of a thinking block."""

    index: int
    text: str


class ToolInputDelta(msgspec.Struct, frozen=True, gc=False, tag="tool_input_delta"):
    """A fragment of a tool call's arguments: JSON text, cut anywhere."""

    index: int
    partial_json: str


class SignatureDelta(msgspec.Struct, frozen=True, gc=False, tag="signature_delta"):
    """A fragment of the signature of a thinking block; fragments concatenate."""

    index: int
    signature: str


class ContentDelta(msgspec.Struct, frozen=True, gc=False, tag="content_delta"):
    """Anything else that a block gains: merged into its content (lists are extended, the rest replaced).

    Citations `{"citations": [...]}`, redacted thinking `{"redacted": "…"}`, a vendor's own fields.
    """

    index: int
    content: Content


class ContentBlockStop(msgspec.Struct, frozen=True, gc=False, tag="content_block_stop"):
    """A block is whole."""

    index: int


class MessageStop(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag="message_stop"):
    """The model's end marker. `raw_stop_reason` is the provider's word; `stop_reason` ours for it."""

    stop_reason: StopReason | None = None
    raw_stop_reason: str | None = None
    stop_sequence: str | None = None


class Metadata(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag="metadata"):
    """Usage (cumulative within the call), latency and trace; may come after message_stop.

    `raw` is the provider's own usage object, `provider_metadata` what else it said of the message as a whole
    (why it refused, a container's id); both are merged key by key over the call. In `raw`, a None takes away what was
    said before.
    """

    usage: Usage | None = None
    raw: dict[str, Any] | None = None
    latency_ms: float | None = None
    trace: Any = None
    provider_metadata: dict[str, Any] | None = None


class RedactContent(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag="redact_content"):
    """The provider takes back what one side said, and gives the text to show instead."""

    side: Literal["user", "assistant"]
    replacement: str


ErrorKind: TypeAlias = Literal[
    "internal_server", "service_unavailable", "throttling", "validation", "model_stream"
]


class StreamNotice(msgspec.Struct, frozen=True, gc=False, tag="stream_notice"):
    """Something the caller should know that is neither content nor an error."""

    code: str
    message: str


class StreamError(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag="stream_error"):
    """The provider reported a failure inside its stream; nothing follows.

    `kind` is the class of founding document 004; `code` the typed code clients see; `message` and
    `provider_status` are the provider's own. `request_id` is the caller's to add, from the answer's headers.
    """

    kind: ErrorKind
    code: str
    message: str
    provider_status: int | None = None
    request_id: str | None = None


StreamEvent: TypeAlias = (
    MessageStart
    | ContentBlockStart
    | TextDelta
    | ThinkingDelta
    | ToolInputDelta
    | SignatureDelta
    | ContentDelta
    | ContentBlockStop
    | MessageStop
    | Metadata
    | RedactContent
    | StreamNotice
    | StreamError
)
