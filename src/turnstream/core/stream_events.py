"""StreamEvents: the events of one model call, in one vocabulary for all providers.

A wire decodes provider bytes into StreamEvents, and encodes StreamEvents into provider bytes. `index` is the
provider's block index within one model call. Events of several blocks may interleave. StreamEvents do not
refer to turns.
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
    """The message begins. The caller of the provider adds `origin`, not the wire."""

    id: str | None = None
    model: str | None = None
    role: str = "assistant"
    origin: Origin | None = None


class ContentBlockStart(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag="content_block_start"):
    """A block begins.

    `content` holds the fields that are known at the start, in the form of `Block.content`: tool_use
    `{tool_use_id, tool_name, provider_executed?, input?}`, a complete tool_result, redacted thinking.
    """

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
    """A piece of a tool call's arguments: JSON text, split anywhere."""

    index: int
    partial_json: str


class SignatureDelta(msgspec.Struct, frozen=True, gc=False, tag="signature_delta"):
    """A piece of a thinking block's signature. The pieces concatenate."""

    index: int
    signature: str


class ContentDelta(msgspec.Struct, frozen=True, gc=False, tag="content_delta"):
    """Any other addition to a block, merged into its content: lists are extended, other values replaced.

    Examples: citations `{"citations": [...]}`, redacted thinking `{"redacted": "…"}`, a vendor's own fields.
    """

    index: int
    content: Content


class ContentBlockStop(msgspec.Struct, frozen=True, gc=False, tag="content_block_stop"):
    """A block is complete."""

    index: int


class MessageStop(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag="message_stop"):
    """The model's end marker.

    Attributes:
        stop_reason: Our name for the reason, or None.
        raw_stop_reason: The provider's name for the reason, or None.
        stop_sequence: The stop sequence that the model wrote, or None.
    """

    stop_reason: StopReason | None = None
    raw_stop_reason: str | None = None
    stop_sequence: str | None = None


class Metadata(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag="metadata"):
    """Usage, latency and trace of the call. May come after message_stop.

    `raw` and `provider_metadata` are merged key by key over the call.

    Attributes:
        usage: Token counts, cumulative within the call.
        raw: The provider's own usage object. A None in it removes an earlier value.
        latency_ms: Milliseconds that the provider reports for the call.
        provider_metadata: Other facts about the message as a whole, such as the reason of a refusal or a
            container's id.
    """

    usage: Usage | None = None
    raw: dict[str, Any] | None = None
    latency_ms: float | None = None
    trace: Any = None
    provider_metadata: dict[str, Any] | None = None


class RedactContent(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag="redact_content"):
    """The provider retracts the content of one side, and gives the text to show instead."""

    side: Literal["user", "assistant"]
    replacement: str


ErrorKind: TypeAlias = Literal[
    "internal_server", "service_unavailable", "throttling", "validation", "model_stream"
]


class StreamNotice(msgspec.Struct, frozen=True, gc=False, tag="stream_notice"):
    """Information for the caller that is neither content nor an error."""

    code: str
    message: str


class StreamError(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag="stream_error"):
    """The provider reported a failure inside its stream. No event follows.

    Attributes:
        kind: The class of the failure.
        code: The stable code that clients see.
        message: The provider's own message.
        provider_status: The provider's own status, or None.
        request_id: The provider's id of the request. The code that makes the call adds it from the headers.
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
