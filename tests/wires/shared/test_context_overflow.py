"""Errors about a conversation that is too long for the model, as each vendor sends them."""

from __future__ import annotations

import json
from typing import Any

import pytest

import turnstream as ts
from tests.providers.conftest import Exchange, RawServer, raw_server
from turnstream.config import load_settings
from turnstream.errors import ConfigurationError, ContextLengthExceeded, RateLimited
from turnstream.wires import WIRES
from turnstream.wires.shared.context_overflow import means_overflow
from turnstream.wires.shared.event_stream import encode_exception
from turnstream.wires.shared.failure_words import reclassified

__all__ = ["raw_server"]

pytestmark = pytest.mark.fault(27)


def openai(message: str, code: Any = None, kind: str = "invalid_request_error") -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def anthropic(message: str, kind: str = "invalid_request_error") -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}}


def bedrock(message: str, name: str = "ValidationException") -> dict[str, Any]:
    return {"__type": name, "message": message}


def gemini(message: str) -> dict[str, Any]:
    return {"error": {"code": 400, "message": message, "status": "INVALID_ARGUMENT"}}


LLAMA = (
    "the request exceeds the available context size. try increasing the context size or enable context shift"
)
OVERFLOWS: list[tuple[str, str, int, dict[str, Any]]] = [
    ("llama.cpp", "openai-chat", 400, {"error": {"code": 400, "message": LLAMA, "type": "exceed_context_size_error", "n_prompt_tokens": 14429, "n_ctx": 8192}}),
    ("llama.cpp, 500", "openai-chat", 500, {"error": {"code": 500, "message": LLAMA, "type": "exceed_context_size_error", "n_ctx": 256}}),
    ("llama.cpp, its type alone", "openai-chat", 400, openai("no", kind="exceed_context_size_error")),
    ("llama.cpp, newer", "openai-chat", 400, {"error": {"code": 400, "message": "request (52331 tokens) exceeds the available context size (32768 tokens), try increasing it", "type": "exceed_context_size_error"}}),
    ("llama.cpp's Messages API", "anthropic", 500, anthropic(LLAMA, "exceed_context_size_error")),
    ("llama-cpp-python", "openai-chat", 500, openai("Requested tokens (516) exceed context window of 512", kind="internal_server_error")),
    ("Kimi", "openai-chat", 400, openai("Invalid request: Your request exceeded model token limit: 262144 (requested: 269030)")),
    ("Kimi, the input", "openai-chat", 400, openai("Input token length too long")),
    ("xAI", "openai-chat", 400, {"code": "Client specified an invalid argument", "error": "This model's maximum prompt length is 131072 but the request contains 537812 tokens."}),
    ("Copilot", "openai-chat", 400, {"error": {"message": "prompt token count of 135612 exceeds the limit of 128000", "code": "model_max_prompt_tokens_exceeded"}}),
    ("z.ai", "openai-chat", 400, {"error": {"code": "1261", "message": "Prompt exceeds max length"}}),
    ("z.ai, in Chinese", "openai-chat", 400, {"error": {"code": "1261", "message": "Prompt 超长"}}),
    ("TGI", "openai-chat", 422, {"error": "Input validation error: `inputs` must have less than 1024 tokens. Given: 1872", "error_type": "validation"}),
    ("TGI, with the answer", "openai-chat", 422, {"error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 1512. Given: 1000 `inputs` tokens and 1024 `max_new_tokens`", "error_type": "validation"}),
    ("Qwen", "openai-chat", 400, openai("<400> InternalError.Algo.InvalidParameter: Range of input length should be [1, 204800]", "invalid_parameter_error")),
    ("Groq", "openai-chat", 400, openai("Please reduce the length of the messages or completion.", "context_length_exceeded")),
    ("Groq, no code", "openai-chat", 400, openai("Please reduce the length of the messages or completion.")),
    ("Cerebras", "openai-chat", 400, openai("Please reduce the length of the messages or completion. Current length is 68607 while limit is 65536")),
    ("vLLM", "openai-chat", 400, {"object": "error", "message": "This model's maximum context length is 4096 tokens. However, you requested 4112 tokens (4000 in the messages, 112 in the completion).", "type": "BadRequestError", "code": 400}),
    ("vLLM, room for the answer", "openai-chat", 400, openai("'max_tokens' or 'max_completion_tokens' is too large: 4096. This model's maximum context length is 4096 tokens and your request has 20 input tokens", 400, "BadRequestError")),
    ("vLLM, the engine", "openai-chat", 400, openai("The decoder prompt (length 5000) is longer than the maximum model length of 4096.", 400, "BadRequestError")),
    ("SGLang", "openai-chat", 400, openai("Input length (160062 tokens) exceeds the maximum allowed length (59862 tokens).", 400, "BadRequestError")),
    ("SGLang, newer", "openai-chat", 400, openai("The input (160062 tokens) is longer than the model's context length (59862 tokens).", 400, "BadRequestError")),
    ("Mistral", "openai-chat", 400, {"object": "error", "message": "Prompt contains 48534 tokens and 0 draft tokens, too large for model with 32768 maximum context length", "type": "invalid_request_error", "code": "3051"}),
    ("Cohere", "openai-chat", 400, {"message": "too many tokens: total number of tokens in the prompt cannot exceed 4081 - received 6013. Try using a shorter prompt."}),
    ("DeepSeek", "openai-chat", 400, openai("This model's maximum context length is 65536 tokens. However, you requested 69648 tokens (69648 in the messages, 0 in the completion).", "invalid_request_error")),
    ("OpenRouter", "openai-chat", 400, {"error": {"code": 400, "message": "This endpoint's maximum context length is 200000 tokens. However, you requested about 322000 tokens (258000 of text input, 64000 in the output)."}}),
    ("MiniMax", "openai-chat", 400, openai("invalid params, context window exceeds limit (2013)", kind="bad_request_error")),
    ("Fireworks", "openai-chat", 400, openai("The prompt is too long: 200000, model maximum context length: 131071")),
    ("LM Studio", "openai-chat", 400, {"error": "The number of tokens to keep from the initial prompt is greater than the context length."}),
    ("Cloudflare", "openai-chat", 400, openai("The estimated number of input and maximum output tokens (41237) exceeded this model context window limit (24000).")),
    ("SambaNova", "openai-chat", 400, openai("The provided prompt is 8188 tokens long, so generating 5 tokens requires a sequence length of 8193, but the maximum supported sequence length is just 8192!")),
    ("watsonx", "openai-chat", 400, openai("the number of input tokens 5000 cannot exceed the total tokens limit 4096 for this model")),
    ("GitHub Models", "openai-chat", 413, openai("Request body too large for gpt-4o model. Max size: 8000 tokens.", "tokens_limit_reached", "tokens_limit_reached")),
    ("OpenAI", "openai-responses", 400, openai("Your input exceeds the context window of this model. Please adjust your input and try again.", "context_length_exceeded")),
    ("OpenAI, no code", "openai-responses", 400, openai("Input tokens exceed the configured limit of 272000 tokens. Your messages resulted in 300000 tokens.")),
    ("OpenAI, one long text", "openai-chat", 400, openai("Invalid 'messages[1].content': string too long. Expected a string with maximum length 1048576, but got a string with length 2000000 instead.", "string_above_max_length")),
    ("Anthropic", "anthropic", 400, anthropic("prompt is too long: 213462 tokens > 200000 maximum")),
    ("Anthropic, room for the answer", "anthropic", 400, anthropic("input length and `max_tokens` exceed context limit: 199759 + 8192 > 200000, decrease input length or `max_tokens` and try again")),
    ("Anthropic behind a gateway", "openai-chat", 400, openai('litellm.BadRequestError: AnthropicException - b\'{"type":"error","error":{"type":"invalid_request_error","message":"input length and `max_tokens` exceed context limit: 174167 + 64000 > 200000"}}\'')),
    ("Anthropic behind OpenRouter", "openai-chat", 400, {"error": {"message": "Provider returned error", "code": 400, "metadata": {"raw": '{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 213462 tokens > 200000 maximum"}}', "provider_name": "Anthropic"}}}),
    ("Bedrock", "bedrock", 400, bedrock("Input is too long for requested model.")),
    ("Nova", "bedrock", 400, bedrock("Input Tokens Exceeded: Number of input tokens exceeds maximum length. Please update the input to try again.")),
    ("Claude on Bedrock", "bedrock", 400, bedrock("The model returned the following errors: input length and `max_tokens` exceed context limit: 190000 + 20000 > 204648")),
    ("Llama on Bedrock", "bedrock", 400, bedrock("The model returned the following errors: This model's maximum context length is 8192 tokens. Please reduce the length of the prompt")),
    ("Gemini", "gemini", 400, gemini("The input token count (1196265) exceeds the maximum number of tokens allowed (1048575).")),
    ("Vertex AI", "gemini", 400, gemini("Unable to submit request because the input token count is 40000 but model only supports up to 32768. Reduce the input token count and try again.")),
    ("Ollama", "ollama", 400, {"error": "prompt too long; exceeded max context length by 100 tokens"}),
    ("Ollama, the input", "ollama", 500, {"error": "the input length exceeds the context length"}),
]  # fmt: skip


@pytest.mark.parametrize(("vendor", "wire", "status", "body"), OVERFLOWS, ids=[row[0] for row in OVERFLOWS])
def test_every_vendor_s_words_are_known(vendor: str, wire: str, status: int, body: dict[str, Any]) -> None:
    error = WIRES[wire].decode_error(status, {}, json.dumps(body, ensure_ascii=False).encode())
    assert type(error) is ContextLengthExceeded, vendor
    assert error.code == "context_length_exceeded"
    assert type(reclassified(error)) is ContextLengthExceeded


STREAMED = [row for row in OVERFLOWS if row[1] in ("openai-chat", "anthropic", "gemini", "ollama")]


@pytest.mark.parametrize(("vendor", "wire", "status", "body"), STREAMED, ids=[row[0] for row in STREAMED])
def test_they_are_known_inside_a_stream_too(
    vendor: str, wire: str, status: int, body: dict[str, Any]
) -> None:
    if "error" not in body:
        body = {"error": body}
    data = json.dumps(body, ensure_ascii=False).encode()
    frame = (
        data + b"\n"
        if wire == "ollama"
        else b"event: error\n" * (wire == "anthropic") + b"data: " + data + b"\n\n"
    )
    event = WIRES[wire].decoder().feed(frame)[-1]
    assert event.code == "context_length_exceeded", (vendor, event)  # type: ignore[union-attr]


def test_an_exception_in_a_stream_of_bedrock_is_known() -> None:
    message = {"message": "Input Tokens Exceeded: Number of input tokens exceeds maximum length."}
    (event,) = (
        WIRES["bedrock"].decoder().feed(encode_exception("validationException", json.dumps(message).encode()))
    )
    assert event.code == "context_length_exceeded"  # type: ignore[union-attr]


OTHERS: list[tuple[str, int, dict[str, Any]]] = [
    ("openai-chat", 429, openai("Request too large for gpt-4o in organization org-1 on tokens per min (TPM): Limit 30000, Requested 40000. The input or output tokens must be reduced in order to run successfully.", "rate_limit_exceeded", "tokens")),
    ("openai-chat", 413, openai("Request too large for model `llama-3.3-70b` in organization `org_1` service tier `on_demand` on tokens per minute (TPM): Limit 6000, Requested 7000, please reduce your message size and try again.", "rate_limit_exceeded", "tokens")),
    ("openai-chat", 400, openai("Request exceeds the input token limit: input tokens per minute exceeded")),
    ("openai-chat", 400, openai("max_tokens is too large: 100000. This model supports at most 16384 completion tokens, whereas you provided 100000.", "invalid_value")),
    ("openai-chat", 400, openai("Unrecognized request argument supplied: context_length")),
    ("openai-chat", 400, openai("The parameter `context_window` is not supported by this model")),
    ("openai-chat", 400, openai("Invalid 'messages[1].tool_calls[0].id': string too long. Expected a string with maximum length 40, but got a string with length 44 instead.", "string_above_max_length")),
    ("openai-chat", 500, openai("The server had an error while processing your request", kind="server_error")),
    ("openai-responses", 400, openai("Invalid 'input[95].call_id': string too long. Expected a string with maximum length 64, but got a string with length 116 instead.", "string_above_max_length")),
    ("anthropic", 400, anthropic("max_tokens: 100000 > 64000, which is the maximum allowed number of output tokens for claude-sonnet-4")),
    ("anthropic", 400, anthropic("`max_tokens` must be greater than `thinking.budget_tokens`")),
    ("anthropic", 400, anthropic("The long context beta is not yet available for this subscription.")),
    ("anthropic", 400, anthropic("context_management: Extra inputs are not permitted")),
    ("anthropic", 429, anthropic("This request would exceed your organization's rate limit of 40,000 input tokens per minute", "rate_limit_error")),
    ("bedrock", 429, bedrock("Too many tokens, please wait before trying again.", "ThrottlingException")),
    ("bedrock", 400, bedrock("Too many tokens per day, please wait before trying again.")),
    ("bedrock", 400, bedrock("The maximum tokens you requested exceeds the model limit of 4096. Try again with a maximum tokens value that is lower than 4096.")),
    ("gemini", 429, {"error": {"code": 429, "message": "Quota exceeded for metric: generate_content_free_tier_input_token_count, limit: 250000", "status": "RESOURCE_EXHAUSTED"}}),
    ("gemini", 400, gemini("Unable to submit request because it has a maxOutputTokens value of 100000 but the supported range is from 1 (inclusive) to 65537 (exclusive).")),
    ("ollama", 400, {"error": "invalid option: num_ctx sets the context length, and has to be a number"}),
]  # fmt: skip


@pytest.mark.parametrize(("wire", "status", "body"), OTHERS, ids=range(len(OTHERS)))
def test_limits_of_another_kind_are_not_taken_for_it(wire: str, status: int, body: dict[str, Any]) -> None:
    error = reclassified(WIRES[wire].decode_error(status, {}, json.dumps(body).encode()))
    assert not isinstance(error, ContextLengthExceeded), error.detail
    if status in (413, 429):
        assert isinstance(error, RateLimited)


def test_looking_for_the_words_takes_time_in_proportion_to_them() -> None:
    for hostile in (
        "exceeds " * 500,
        "input tokens " * 400,
        "context length " * 300,
        "number of tokens " * 300,
    ):
        assert not means_overflow(hostile)


OWN_WORDS = "Der Text hat zu viele Zeichen (Code 77)"


@pytest.mark.parametrize("status", [400, 429, 500, 200])
async def test_the_settings_add_words_of_a_provider(raw_server: RawServer, status: int) -> None:
    body = json.dumps({"error": {"message": OWN_WORDS}}).encode()
    if status == 200:
        body = b"data: " + body + b"\n\n"
    kind = b"text/event-stream" if status == 200 else b"application/json"
    head = b"HTTP/1.1 %d Refused\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n" % (
        status,
        kind,
        len(body),
    )

    async def answer(exchange: Exchange) -> None:
        await exchange.send(head + body)

    raw_server.answer = answer
    llm = ts.LLM(
        "mine/m",
        fallbacks=["sim/echo:pace=0"],
        retry=ts.RetrySettings(attempts=1),
        providers={
            "mine": {
                "wire": "openai-chat",
                "base_url": raw_server.url,
                "context_overflow": ["zu viele zeichen", "never"],
            }
        },
        settings=ts.Settings(),
    )
    message = await llm.collect("hello")
    assert message.attempts[0].outcome == "context_length_exceeded"
    assert "hello" in message.text


def test_words_that_are_no_regular_expression_are_refused(tmp_path: Any) -> None:
    path = tmp_path / "turnstream.toml"
    path.write_text(
        '[providers.mine]\nwire = "ollama"\nbase_url = "http://h"\ncontext_overflow = ["(", "x"]\n'
    )
    with pytest.raises(ConfigurationError, match="context_overflow"):
        load_settings(path)
