"""The official clients of `test_requests`, with their calls, and the reasons for the calls that they cannot
make."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from tests.clients import bedrock_calls, gemini_calls, openai_responses_calls
from tests.clients.request_builders import Body, Case
from tests.clients.request_cases import CASES
from turnstream.wires.base import ModelRequest


class Whole(Protocol):
    """Add the arguments that all calls of the client share."""

    def __call__(self, call: Body, *, model: str, limit: int, stream: bool) -> Body: ...


class Client(NamedTuple):
    """A client. `environment`: its environment. `models`: an older and a newer model. `base`: its prefix of
    our path."""

    wire: str
    environment: str
    models: tuple[str, str]
    calls: Mapping[str, Body]
    whole: Whole
    cannot: Mapping[str, str]
    base: str = ""

    def cases(self) -> list[Case]:
        return [case for case in CASES if case.name in self.calls]

    def ours(self, case: Case) -> ModelRequest:
        return case.ours(self.models[case.newer])

    def arguments(self, case: Case) -> Body:
        call, stream = self.calls[case.name], case.request.stream
        return self.whole(call, model=self.models[case.newer], limit=case.limit, stream=stream)


def anthropic_whole(call: Body, *, model: str, limit: int, stream: bool) -> Body:
    return {"model": model, "stream": stream, "max_tokens": limit, **call}


def openai_whole(call: Body, *, model: str, limit: int, stream: bool) -> Body:
    """Reasoning models use a newer name of the limit."""
    name = "max_tokens" if model == "gpt-4o" else "max_completion_tokens"
    return {"model": model, "stream": stream, name: limit, **call}


def ollama_whole(call: Body, *, model: str, limit: int, stream: bool) -> Body:
    options = {"num_predict": limit, **call.get("options", {})}
    return {"model": model, "stream": stream, **call, "options": options}


def calls_of(client: str) -> dict[str, Body]:
    return {case.name: case.calls[client] for case in CASES if client in case.calls}


ANOTHERS_THINKING = "the thinking is another provider's"
ANOTHERS_WORDS = "the params are another provider's"
NO_BUCKET = "it reads nothing in S3"
NO_DOCUMENTS = "it reads no documents"

CLIENTS = {
    "anthropic": Client(
        "anthropic",
        "anthropic",
        ("claude-sonnet-4-5", "claude-opus-5-5"),
        calls_of("anthropic"),
        anthropic_whole,
        {
            "any JSON object": "it is told a schema, or nothing",
            "what only OpenAI knows": ANOTHERS_WORDS,
            "what only Gemini knows": ANOTHERS_WORDS,
            "what only Bedrock knows": ANOTHERS_WORDS,
            "an image and a document in a bucket": NO_BUCKET,
            "reasoning of OpenAI goes back": ANOTHERS_THINKING,
            "thoughts of Gemini go back": ANOTHERS_THINKING,
        },
    ),
    "openai": Client(
        "openai-chat",
        "openai",
        ("gpt-4o", "gpt-5.1"),
        calls_of("openai"),
        openai_whole,
        {
            "documents by text and address": "it loads no document by its address",
            "a failed tool's result, and thinking before the call": "it takes no thinking back",
            "what only Gemini knows": ANOTHERS_WORDS,
            "what only Bedrock knows": ANOTHERS_WORDS,
            "cache hints": "it caches without being asked",
            "an image and a document in a bucket": NO_BUCKET,
            "reasoning of OpenAI goes back": "it takes no thinking back",
            "thoughts of Gemini go back": ANOTHERS_THINKING,
            "hidden thoughts go back": ANOTHERS_THINKING,
        },
        base="/v1",
    ),
    "ollama": Client(
        "ollama",
        "ollama",
        ("llama3.2", "gpt-oss:20b"),
        calls_of("ollama"),
        ollama_whole,
        {
            "an image by address": "it loads nothing by its address",
            "a document": NO_DOCUMENTS,
            "documents by text and address": NO_DOCUMENTS,
            "a tool whose schema binds the model": "no schema binds the model in its calls",
            "any tool, one at a time": "it is not told which tool to call",
            "one certain tool": "it is not told which tool to call",
            "a failed tool's result, and thinking before the call": ANOTHERS_THINKING,
            "a thinking budget": "it is told an effort, or whether to think",
            "cache hints": "it caches without being asked",
            "what only OpenAI knows": ANOTHERS_WORDS,
            "what only Gemini knows": ANOTHERS_WORDS,
            "what only Bedrock knows": ANOTHERS_WORDS,
            "an image and a document in a bucket": NO_BUCKET,
            "reasoning of OpenAI goes back": ANOTHERS_THINKING,
            "thoughts of Gemini go back": ANOTHERS_THINKING,
            "hidden thoughts go back": ANOTHERS_THINKING,
        },
    ),
    "openai-responses": Client(
        "openai-responses",
        "openai",
        ("gpt-5.1", "gpt-5.1"),
        openai_responses_calls.CALLS,
        openai_responses_calls.whole,
        {
            "stop sequences": "this API has none",
            "what only Gemini knows": ANOTHERS_WORDS,
            "what only Bedrock knows": ANOTHERS_WORDS,
            "an image and a document in a bucket": NO_BUCKET,
            "thoughts of Gemini go back": ANOTHERS_THINKING,
            "hidden thoughts go back": ANOTHERS_THINKING,
        },
        base="/v1",
    ),
    "google-genai": Client(
        "gemini",
        "google-genai",
        ("gemini-2.5-flash", "gemini-3-pro-preview"),
        gemini_calls.CALLS,
        gemini_calls.whole,
        {
            "what only OpenAI knows": ANOTHERS_WORDS,
            "what only Bedrock knows": ANOTHERS_WORDS,
            "an image and a document in a bucket": NO_BUCKET,
            "reasoning of OpenAI goes back": ANOTHERS_THINKING,
            "hidden thoughts go back": ANOTHERS_THINKING,
        },
    ),
    "boto3": Client(
        "bedrock",
        "boto3",
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "us.anthropic.claude-opus-5-5"),
        bedrock_calls.CALLS,
        bedrock_calls.whole,
        {
            "an image by address": "it loads nothing by its address, unless that is in S3",
            "documents by text and address": "it loads nothing by its address, unless that is in S3",
            "any JSON object": "Claude is told a schema, or nothing",
            "what only OpenAI knows": ANOTHERS_WORDS,
            "what only Gemini knows": ANOTHERS_WORDS,
            "reasoning of OpenAI goes back": ANOTHERS_THINKING,
            "thoughts of Gemini go back": ANOTHERS_THINKING,
        },
    ),
}
