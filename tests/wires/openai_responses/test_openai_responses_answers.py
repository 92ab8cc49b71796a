"""Plain answers of the Responses API, and errors in both directions."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wires.openai_responses.responses import RESPONSE, end
from turnstream.core import stream_events as say
from turnstream.core.answers import fold_answer
from turnstream.errors import (
    AuthenticationFailed,
    ContentFiltered,
    ContextLengthExceeded,
    MalformedEvent,
    Overloaded,
    ProviderFailed,
    RateLimited,
    TurnstreamError,
)
from turnstream.wires.openai_responses.wire import WIRE

FIELDS = (
    "output", "id", "type", "status", "error", "usage", "content", "summary", "text", "call_id", "arguments", "result",
    "model", "incomplete_details", "reason", "outputs", "message", "reasoning", "function_call", "output_text",
)  # fmt: skip


# --- errors


@pytest.mark.requirement("J2")
@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (401, "invalid_api_key", AuthenticationFailed),
        (400, "context_length_exceeded", ContextLengthExceeded),
        (400, "content_filter", ContentFiltered),
        (429, "rate_limit_exceeded", RateLimited),
        (500, "server_error", ProviderFailed),
        (503, "overloaded", Overloaded),
    ],
)
def test_errors_both_ways(status, code, expected):
    body = json.dumps({"error": {"message": "words", "type": "x", "param": None, "code": code}}).encode()
    error = WIRE.decode_error(status, {"retry-after": "3"}, body)
    assert type(error) is expected
    assert (error.provider_status, error.detail, error.retry_after) == (status, "words", 3.0)
    told, written = WIRE.encode_error(error)
    assert type(WIRE.decode_error(told, {}, written)) is expected


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"<html>", b'{"choices":[]}'])
def test_what_is_no_answer(body):
    with pytest.raises(MalformedEvent):
        WIRE.decode_answer(body)


@pytest.mark.requirement("D6")
@pytest.mark.parametrize("status", ["queued", "in_progress", {}])
def test_an_answer_that_has_not_ended_is_none(status):
    with pytest.raises(MalformedEvent, match="not ended"):
        WIRE.decode_answer(json.dumps({**RESPONSE, "status": status or {"a": 1}}).encode())


def test_a_failed_answer_says_so():
    (*_, error) = WIRE.decode_answer(
        json.dumps(end("failed", error={"code": "server_error", "message": "no"})["response"]).encode()
    )
    assert error == say.StreamError("internal_server", "api_error", "no")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=5),
    max_leaves=15,
)


@pytest.mark.requirement("E6")
@settings(max_examples=150, deadline=None)
@given(value=json_values)
def test_any_whole_answer_ends_in_our_own_words(value):
    try:
        fold_answer(WIRE.decode_answer(json.dumps(value).encode()))
    except TurnstreamError:
        pass
