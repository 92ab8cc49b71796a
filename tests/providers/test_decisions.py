"""The table of failures, and the arithmetic of waiting."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnstream.errors import (
    AuthenticationFailed,
    CircuitOpen,
    ConnectionFailed,
    ContentFiltered,
    ContextLengthExceeded,
    EventTooLarge,
    InvalidModelRequest,
    MalformedEvent,
    ModelNotFound,
    Overloaded,
    PermissionDenied,
    ProviderError,
    ProviderFailed,
    ProviderTimeout,
    RateLimited,
    StreamBroken,
    StreamIncomplete,
)
from turnstream.providers.decisions import (
    TARGETS,
    CallState,
    RetryPolicy,
    kind_of,
    may_wait,
    pause_before,
    spacing_left,
)

PREFILLED = CallState(prefilled=True)
BROUGHT = CallState(has_output=True)
PLAIN = CallState(streamed=False)

KINDS = [
    (RateLimited("-"), None, "transient"),
    (RateLimited("no quota", retryable=False), None, "unwilling"),
    (Overloaded("-"), None, "transient"),
    (ProviderFailed("-"), None, "transient"),
    (ProviderTimeout("-", code="first_token_timeout"), None, "transient"),
    (ProviderTimeout("-", code="idle_timeout"), BROUGHT, "transient"),
    (ConnectionFailed("reset", retryable=True), None, "transient"),
    (ConnectionFailed("refused"), None, "unreachable"),
    (CircuitOpen("-"), None, "unreachable"),
    (StreamIncomplete("-"), BROUGHT, "transient"),
    (MalformedEvent("-"), BROUGHT, "transient"),
    (EventTooLarge("-", retryable=False), BROUGHT, "unwilling"),
    (EventTooLarge("-"), BROUGHT, "unwilling"),
    (InvalidModelRequest("-", provider_status=413), None, "unwilling"),
    (InvalidModelRequest("-", code="request_too_large"), None, "unwilling"),
    (InvalidModelRequest("-", provider_status=400, detail="`m` does not support tools"), None, "unwilling"),
    (
        InvalidModelRequest("-", provider_status=400, detail="Unsupported parameter: 'top_k'"),
        None,
        "unwilling",
    ),
    (ProviderFailed("a redirect", retryable=False, provider_status=307), None, "unwilling"),
    (StreamBroken("-", code="answer_too_large", retryable=False), BROUGHT, "final"),
    (AuthenticationFailed("-"), None, "unwilling"),
    (PermissionDenied("-"), None, "unwilling"),
    (ModelNotFound("-"), None, "unwilling"),
    (InvalidModelRequest("-", provider_status=400), None, "final"),
    (InvalidModelRequest("-", provider_status=400), PREFILLED, "no_prefill"),
    (InvalidModelRequest("-", provider_status=400), CallState(prefilled=True, has_output=True), "final"),
    (ContextLengthExceeded("-", provider_status=400), PREFILLED, "too_long"),
    (ContextLengthExceeded("-", provider_status=400, retryable=True), None, "too_long"),
    (ContentFiltered("-", provider_status=400), PREFILLED, "final"),
    (ContentFiltered("-", retryable=True), None, "final"),
    (InvalidModelRequest("-", provider_status=405), None, "no_stream"),
    (ProviderFailed("-", provider_status=501), None, "no_stream"),
    (InvalidModelRequest("-", provider_status=400, detail="Streaming is off here"), None, "no_stream"),
    (InvalidModelRequest("-", provider_status=400, detail="stream must be false"), None, "no_stream"),
    (InvalidModelRequest("-", provider_status=400, detail="stream_options: unknown"), None, "final"),
    (InvalidModelRequest("-", provider_status=400, detail="stream must be false"), PLAIN, "final"),
    (InvalidModelRequest("-", provider_status=405), PLAIN, "final"),
    (InvalidModelRequest("-", provider_status=400, detail="stream"), BROUGHT, "final"),
]


@pytest.mark.requirement("J1", "J2", "J3")
@pytest.mark.parametrize(("error", "call", "kind"), KINDS)
def test_kinds_of_failures(error: ProviderError, call: CallState | None, kind: str) -> None:
    assert kind_of(error, call) == kind


@pytest.mark.requirement("J1")
def test_what_is_never_tried_again() -> None:
    assert TARGETS["final"] == ()
    assert [kind for kind, ways in TARGETS.items() if "same" not in ways] == [
        "unreachable",
        "unwilling",
        "too_long",
        "final",
    ]


SECONDS = st.floats(0, 1000)
CHANCE = st.floats(0, 1)


@pytest.mark.requirement("J1")
@given(st.integers(1, 6), CHANCE)
def test_waits_double_with_jitter_up_to_a_cap(failures: int, chance: float) -> None:
    policy = RetryPolicy(spacing=0.0)
    pause = pause_before(policy, [0.0] * failures, 0.0, chance=chance, retry_after=None)
    whole = min(30.0, 2.0 ** (failures - 1))
    assert whole / 2 <= pause <= whole


@pytest.mark.requirement("J1")
@given(SECONDS, CHANCE)
def test_a_provider_that_asks_for_time_gets_it(asked: float, chance: float) -> None:
    pause = pause_before(RetryPolicy(), [5.0], 5.0, chance=chance, retry_after=asked)
    assert pause >= asked


@pytest.mark.requirement("J1")
@given(st.lists(st.floats(0, 5), max_size=20), CHANCE)
def test_never_more_than_two_attempts_within_the_spacing(durations: list[float], chance: float) -> None:
    policy = RetryPolicy(delay=0.01, max_delay=0.01)
    now = 0.0
    failed: list[float] = []
    starts: list[float] = []
    for duration in durations:
        starts.append(now)
        now += duration
        failed.append(now)
        now += pause_before(policy, failed, now, chance=chance, retry_after=None)
        assert spacing_left(policy, failed, now) < 1e-9
    assert all(
        third - first >= policy.spacing - 1e-9 for first, third in zip(starts, starts[2:], strict=False)
    )


@pytest.mark.requirement("J1")
def test_the_budget_bounds_all_waiting() -> None:
    policy = RetryPolicy()
    assert may_wait(policy, 30.0, 90.0, other=True)
    assert not may_wait(policy, 31.0, 0.0, other=True), "another model need not wait"
    assert may_wait(policy, 31.0, 0.0, other=False)
    assert not may_wait(policy, 31.0, 90.0, other=False)
