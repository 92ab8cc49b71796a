"""One engine reads and writes the errors of every wire; the tables are data."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnstream.core.stream_events import StreamError
from turnstream.errors import (
    AuthenticationFailed,
    ContentFiltered,
    ContextLengthExceeded,
    InvalidModelRequest,
    ModelNotFound,
    Overloaded,
    PermissionDenied,
    ProviderError,
    ProviderFailed,
    ProviderTimeout,
    RateLimited,
)
from turnstream.providers.failures import stream_error
from turnstream.wires import WIRES
from turnstream.wires.anthropic.errors import ERRORS as ANTHROPIC
from turnstream.wires.bedrock.errors import ERRORS as BEDROCK
from turnstream.wires.gemini.errors import ERRORS as GEMINI
from turnstream.wires.ollama.errors import ERRORS as OLLAMA
from turnstream.wires.shared.error_engine import STATUSES, ErrorTable
from turnstream.wires.shared.failure_words import MESSAGES, QUOTA_CODE, reclassified
from turnstream.wires.shared.openai_errors import ERRORS as OPENAI
from turnstream.wires.shared.reported_errors import ReportedError

TABLES = {
    "anthropic": ANTHROPIC, "bedrock": BEDROCK, "gemini": GEMINI, "ollama": OLLAMA,
    "openai-chat": OPENAI, "openai-responses": OPENAI,
}  # fmt: skip
CLASSES: list[type[ProviderError]] = [
    AuthenticationFailed, PermissionDenied, ModelNotFound, InvalidModelRequest, ContextLengthExceeded, RateLimited,
    Overloaded, ProviderFailed, ProviderTimeout,
]  # fmt: skip
NAMED: dict[str, list[tuple[str, type[ProviderError]]]] = {
    "anthropic": [
        ("overloaded_error", Overloaded),
        ("billing_error", PermissionDenied),
        ("request_too_large", InvalidModelRequest),
    ],
    "bedrock": [
        ("com.amazon.coral.service#ThrottlingException:http://internal", RateLimited),
        ("throttlingException", RateLimited),
        ("SignatureDoesNotMatch", AuthenticationFailed),
        ("ExpiredTokenException", AuthenticationFailed),
    ],
    "gemini": [("RESOURCE_EXHAUSTED", RateLimited), ("API_KEY_INVALID", AuthenticationFailed)],
    "ollama": [("rate_limit_error", ProviderFailed)],
    "openai-chat": [
        ("invalid_api_key", AuthenticationFailed),
        ("Rate-Limit-Exceeded", RateLimited),
        ("unsupported_parameter", InvalidModelRequest),
        ("data_inspection_failed", ContentFiltered),
    ],
}
every_table = pytest.mark.parametrize("wire", sorted(TABLES))


@every_table
def test_a_wire_reads_and_writes_errors_by_its_table(wire: str) -> None:
    table = TABLES[wire]
    assert isinstance(table, ErrorTable)
    assert WIRES[wire].decode_error == table.decode_error
    assert WIRES[wire].encode_error == table.encode_error
    assert {kind.code for kind in CLASSES} - {ContextLengthExceeded.code} <= set(table.written)
    assert all(name == name.lower() for name in (*table.names, *dict(table.parts), *dict(table.words)))
    assert ContextLengthExceeded.code in table.written or table.too_long


@pytest.mark.parametrize(
    ("wire", "name", "kind"), [(wire, name, kind) for wire, rows in NAMED.items() for name, kind in rows]
)
def test_names_of_the_vendors(wire: str, name: str, kind: type[ProviderError]) -> None:
    event = TABLES[wire].stream_error(ReportedError("what happened", (name,)))
    assert event.message == "what happened"
    assert event.code == (name if wire == "anthropic" else kind.code)


@every_table
@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_an_error_that_a_table_writes_it_reads_again(wire: str, kind: type[ProviderError]) -> None:
    table = TABLES[wire]
    status, body = table.encode_error(kind("sorry", detail="secret"))
    again = table.decode_error(status, {"Retry-After": "2"}, body)
    assert (type(again), again.code, again.retry_after) == (kind, kind.code, 2)
    assert again.message == MESSAGES[kind.code]
    assert b"secret" not in body


@every_table
def test_a_quota_that_is_used_up_is_written_and_read_again(wire: str) -> None:
    status, body = TABLES[wire].encode_error(RateLimited("no credit balance left", code=QUOTA_CODE))
    assert status in (402, 429)
    again = reclassified(TABLES[wire].decode_error(status, {}, body))
    assert isinstance(again, RateLimited)
    assert (again.code == QUOTA_CODE) is (wire in ("anthropic", "openai-chat", "openai-responses"))


@every_table
@pytest.mark.parametrize("status", sorted(STATUSES))
@pytest.mark.parametrize(
    "body", [b"", b"<html>sorry</html>", b"sorry", b'{"sorry": 1}', b'{"error": "sorry"}']
)
def test_statuses_mean_the_same_on_every_wire(wire: str, status: int, body: bytes) -> None:
    error = TABLES[wire].decode_error(status, {}, body)
    expected = ProviderFailed if (wire, status) == ("anthropic", 503) else STATUSES[status]
    assert type(error) is expected
    assert error.provider_status == status


@every_table
@pytest.mark.parametrize(
    "value",
    [
        {"error": {"message": "sorry", "status_code": 429}},
        [{"error": {"message": "sorry", "code": "429"}}],
        {"errors": [{"msg": "sorry"}], "status": 429},
        {"error": True, "detail": "sorry", "status": 429},
        {"title": "sorry", "status": 429},
        {"object": "error", "error_msg": "sorry", "http_code": 429},
    ],
    ids=range(6),
)
def test_shapes_mean_the_same_on_every_wire(wire: str, value: object) -> None:
    table = TABLES[wire]
    reported = table.read(value)
    assert reported is not None
    assert (reported.words, reported.status) == ("sorry", 429)
    assert table.stream_error(reported).kind == "throttling"
    assert table.decode_error(429, {}, json.dumps(value).encode()).detail == "sorry"


@every_table
@pytest.mark.parametrize("words", ["Invalid API Key", "Authentication failed: look at your key"])
def test_words_of_a_refusal_decide_against_its_status(wire: str, words: str) -> None:
    error = TABLES[wire].decode_error(400, {}, json.dumps({"error": {"message": words}}).encode())
    assert type(error) is AuthenticationFailed
    assert type(TABLES[wire].decode_error(413, {}, words.encode())) is InvalidModelRequest


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(0, 600) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["error", "errors", "message", "code", "type", "status", "details", "detail"]),
            inner,
        )
    ),
    max_leaves=8,
)


@every_table
@given(value=json_values, status=st.integers(400, 599))
def test_whatever_is_reported_is_an_error_with_a_bound(wire: str, value: object, status: int) -> None:
    table = TABLES[wire]
    error = table.decode_error(status, {}, json.dumps(value).encode())
    assert isinstance(error, ProviderError)
    assert len(error.detail or "") <= 4000
    assert table.stream_error(table.read_failure(value)).code


@pytest.mark.parametrize("kind", [*CLASSES, ContentFiltered], ids=lambda kind: kind.__name__)
def test_a_code_in_a_stream_is_raised_as_its_class(kind: type[ProviderError]) -> None:
    assert type(stream_error(StreamError("model_stream", kind.code, "sorry"))) is kind


@every_table
def test_a_type_of_another_vendor_that_means_too_long_a_conversation(wire: str) -> None:
    body = b'{"error":{"message":"no","type":"exceed_context_size_error","code":null}}'
    found = type(TABLES[wire].decode_error(400, {}, body))
    assert found is (InvalidModelRequest if wire in ("ollama", "gemini") else ContextLengthExceeded)
