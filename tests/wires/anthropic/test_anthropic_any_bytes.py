"""Any bytes as a stream of Anthropic Messages raise only our own errors. Every cut, and both paths, give the
same events."""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wires.anthropic.events import block_start, delta, frame
from turnstream.core.stream_events import (
    StreamEvent,
)
from turnstream.errors import ProviderError
from turnstream.wires.anthropic.decoder import AnthropicDecoder
from turnstream.wires.anthropic.wire import WIRE

words = st.sampled_from(
    ["type", "index", "delta", "text", "content_block", "message", "usage", "content", "error", "id", "citations",
     "content_block_delta", "content_block_start", "content_block_stop", "message_start", "message_delta",
     "message_stop", "text_delta", "input_json_delta", "signature_delta", "tool_use", "web_search_tool_result",
     "input", "partial_json", "signature", "stop_reason", "image", "source", "input_tokens", "\ud83d"]
)  # fmt: skip
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | words | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=5),
    max_leaves=12,
)
event_like = st.fixed_dictionaries(
    {"type": words},
    optional={
        "index": st.integers(-1, 3) | values,
        "delta": st.fixed_dictionaries({"type": words}, optional={"text": values, "partial_json": values}) | values,
        "content_block": st.fixed_dictionaries({"type": words}, optional={"id": values, "input": values, "content": values}) | values,
        "message": st.fixed_dictionaries({}, optional={"content": values, "usage": values, "id": values}) | values,
    },
)  # fmt: skip
bodies = st.lists(
    st.binary(max_size=20)
    | st.builds(frame, event_like | values, st.none() | st.sampled_from(["error", "ping", "message_stop"])),
    max_size=8,
).map(b"".join)


@pytest.mark.requirement("E6")
@settings(deadline=None, max_examples=300)
@given(bodies, st.integers(1, 40), st.sampled_from(["fail", "skip"]))
def test_only_our_errors_escape_and_any_cut_decodes_alike(
    body: bytes, size: int, on_malformed: Literal["fail", "skip"]
) -> None:
    whole = outcome([body], on_malformed)
    assert outcome([body[i : i + size] for i in range(0, len(body), size)], on_malformed) == whole


def outcome(
    pieces: list[bytes], on_malformed: Literal["fail", "skip"]
) -> tuple[list[StreamEvent], str | None]:
    decoder = WIRE.decoder(on_malformed=on_malformed, event_limit=300)
    events: list[StreamEvent] = []
    try:
        for piece in pieces:
            events += decoder.feed(piece)
        events += decoder.close()
    except ProviderError as error:
        return events, error.code
    return events, None


@settings(deadline=None)
@given(
    st.sampled_from(["text_delta", "thinking_delta", "input_json_delta", "signature_delta", "new_delta"]),
    st.dictionaries(
        st.sampled_from(["text", "thinking", "partial_json", "signature", "new"]), values, max_size=4
    ),
    st.integers(0, 2**70) | values,
    st.booleans(),
)
def test_both_ways_to_decode_a_delta_agree(
    kind: str, fields: dict[str, Any], index: Any, in_raw_block: bool
) -> None:
    payload = json.dumps(delta({"type": kind, **fields}, index)).encode()
    opening = frame(block_start({"type": "brand_new"})) if in_raw_block else b""
    fast = AnthropicDecoder(event_limit=1 << 20, on_malformed="skip")
    generic = AnthropicDecoder(event_limit=1 << 20, on_malformed="skip")
    fast.feed(opening)
    generic.feed(opening)
    expected: list[StreamEvent] = []
    generic._decode_other(None, payload, expected)  # pyright: ignore[reportPrivateUsage]
    assert fast.feed(frame(payload)) == expected
