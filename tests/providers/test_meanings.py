"""Meanings of refusals on every wire, and the next calls that follow from them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from turnstream.core.stream_events import StreamError
from turnstream.errors import (
    AuthenticationFailed,
    ContextLengthExceeded,
    InvalidModelRequest,
    ModelNotFound,
    ProviderError,
    ProviderFailed,
    ProviderTimeout,
    RateLimited,
)
from turnstream.providers.decisions import kind_of
from turnstream.providers.failures import masked_message, stream_error
from turnstream.wires import WIRES
from turnstream.wires.shared.failure_words import QUOTA_CODE, reclassified


def decoded(wire: str, status: int, body: Any, **headers: str) -> ProviderError:
    return reclassified(WIRES[wire].decode_error(status, headers, json.dumps(body).encode()))


def openai(message: str, code: str | None = None, kind: str = "invalid_request_error") -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def anthropic(message: str, kind: str = "invalid_request_error") -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}}


def gemini(message: str, code: int = 400, status: str = "INVALID_ARGUMENT") -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "status": status}}


KEYS = [
    ("openai-chat", 400, {"code": "Client specified an invalid argument", "error": "Incorrect API key provided: xa***1. You can obtain an API key from https://console.x.ai."}),
    ("openai-chat", 400, openai("Invalid API Key")),
    ("openai-responses", 400, openai("key not valid")),
    ("anthropic", 400, anthropic("The API key has expired")),
    ("gemini", 400, gemini("API key not valid. Please pass a valid API key.")),
    ("gemini", 400, gemini("API key expired. Please renew the API key.")),
    ("bedrock", 403, {"__type": "AccessDeniedException", "message": "Bearer token has expired"}),
    ("ollama", 400, {"error": "invalid api key"}),
]  # fmt: skip
MODELS = [
    ("openai-chat", 400, openai("xyz/abc is not a valid model ID", 400)),
    ("openai-chat", 400, openai("Model Not Exist")),
    ("openai-chat", 400, openai("The model `mixtral-8x7b-32768` has been decommissioned and is no longer supported.", "model_decommissioned")),
    ("openai-chat", 400, {"object": "error", "message": "Invalid model: foo", "type": "invalid_model", "code": "1500"}),
    ("openai-chat", 422, openai("The model 'gpt-5.9' does not exist or you do not have access to it.")),
    ("openai-chat", 400, {"error": {"code": "1211", "message": "模型不存在，请检查模型代码。"}}),
    ("openai-responses", 400, openai("The requested model 'o9' does not exist.")),
    ("anthropic", 400, anthropic("model: claude-2.0 not found")),
    ("gemini", 400, gemini("Model gemini-9 is not found for API version v1beta")),
    ("bedrock", 400, {"__type": "ValidationException", "message": "The provided model identifier is invalid."}),
    ("ollama", 400, {"error": 'unknown model "nope"'}),
]  # fmt: skip
QUOTAS = [
    ("openai-chat", 429, openai("You exceeded your current quota", "insufficient_quota", "insufficient_quota")),
    ("openai-chat", 402, openai("Insufficient Balance", kind="unknown_error")),
    ("openai-chat", 400, openai("Billing hard limit has been reached")),
    ("anthropic", 400, anthropic("Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing.")),
    ("anthropic", 402, anthropic("The account cannot pay", "billing_error")),
    ("anthropic", 400, anthropic("You have reached your specified API usage limits. You will regain access on 2026-12-01.")),
    ("ollama", 402, {"error": "you have reached your usage limit"}),
    ("bedrock", 400, {"__type": "ServiceQuotaExceededException", "message": "Too many tokens this month"}),
]  # fmt: skip


def idle(case: tuple[str, int, Any]) -> str:
    return f"{case[0]}-{case[1]}"


@pytest.mark.fault(35)
@pytest.mark.parametrize("case", KEYS, ids=idle)
def test_a_key_that_is_not_valid_is_no_fault_of_the_request(case: tuple[str, int, Any]) -> None:
    error = decoded(*case)
    assert isinstance(error, AuthenticationFailed)
    assert error.detail
    assert (error.retryable, kind_of(error)) == (False, "unwilling")


@pytest.mark.fault(35)
@pytest.mark.parametrize("case", MODELS, ids=idle)
def test_a_model_that_is_not_there_is_no_fault_of_the_request(case: tuple[str, int, Any]) -> None:
    error = decoded(*case)
    assert isinstance(error, ModelNotFound)
    assert (error.retryable, kind_of(error)) == (False, "unwilling")


@pytest.mark.fault(35, 38)
@pytest.mark.parametrize("case", QUOTAS, ids=idle)
def test_a_quota_that_is_used_up_has_a_code_of_its_own(case: tuple[str, int, Any]) -> None:
    error = decoded(*case)
    assert isinstance(error, RateLimited)
    assert error.code == QUOTA_CODE == "insufficient_quota"
    assert (error.retryable, kind_of(error)) == (False, "unwilling")
    assert "quota" in masked_message(error)


@pytest.mark.fault(35)
@pytest.mark.parametrize("wire", sorted(WIRES))
@pytest.mark.parametrize(
    ("status", "kind"), [(409, ProviderFailed), (425, ProviderFailed), (408, ProviderTimeout)]
)
def test_a_status_that_passes_is_tried_again(wire: str, status: int, kind: type[ProviderError]) -> None:
    error = decoded(wire, status, openai("come back"))
    assert type(error) is kind
    assert (error.retryable, kind_of(error), error.provider_status) == (True, "transient", status)


@pytest.mark.fault(35)
@pytest.mark.parametrize("wire", sorted(WIRES))
def test_too_large_a_request_goes_to_another_model(wire: str) -> None:
    error = decoded(wire, 413, openai("Request Entity Too Large"))
    assert isinstance(error, InvalidModelRequest)
    assert kind_of(error) == "unwilling" or isinstance(error, ContextLengthExceeded)


@pytest.mark.fault(35)
@pytest.mark.parametrize(
    ("wire", "status", "body"),
    [
        ("openai-chat", 400, openai("messages: at least one message is required")),
        ("openai-chat", 400, openai("Invalid schema for function 'model_of': key is not a string")),
        ("openai-responses", 422, openai("Invalid value: 'tool'. Value must be one of user, assistant")),
        ("anthropic", 400, anthropic("messages.0: all messages must have non-empty content")),
        ("gemini", 400, gemini("Unable to submit request because it has an empty text parameter")),
        ("bedrock", 400, {"__type": "ValidationException", "message": "A conversation must start with a user message"}),
        ("ollama", 400, {"error": "invalid message content type"}),
    ],
)  # fmt: skip
def test_a_wrong_request_stays_one(wire: str, status: int, body: Any) -> None:
    error = decoded(wire, status, body)
    assert type(error) is InvalidModelRequest
    assert kind_of(error) == "final"


@pytest.mark.fault(35, 38)
@pytest.mark.parametrize(
    ("event", "kind", "code"),
    [
        (StreamError("throttling", "insufficient_quota", "no credit"), RateLimited, "insufficient_quota"),
        (StreamError("validation", "billing_error", "pay first"), RateLimited, "insufficient_quota"),
        (StreamError("validation", "invalid_request_error", "Model foo does not exist"), ModelNotFound, "not_found_error"),
        (StreamError("validation", "invalid_request_error", "API key not valid"), AuthenticationFailed, "authentication_error"),
        (StreamError("validation", "request_too_large", "-"), InvalidModelRequest, "request_too_large"),
    ],
)  # fmt: skip
def test_errors_within_a_stream_mean_the_same(
    event: StreamError, kind: type[ProviderError], code: str
) -> None:
    error = stream_error(event)
    assert (type(error), error.code, error.detail) == (kind, code, event.message)
    assert (error.retryable, kind_of(error)) == (False, "unwilling")
