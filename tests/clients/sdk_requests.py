"""Makes calls with an official client, in the client's own environment: `sdk_requests.py CLIENT URL`.

Standard input has a list of calls. A call is the keyword arguments of the client's usual method. An object
with the one key `base64` is bytes, and `stream` chooses the method if it is not an argument. The server
records the requests.

A new client is a function here, and a row of `request_clients.py`.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable, Iterable
from typing import Any

HEADERS = {"X-Simulate": "script=echo,pace=0"}


def anthropic_call(url: str) -> Callable[..., Any]:
    import anthropic

    client = anthropic.Anthropic(base_url=url, api_key="any", max_retries=0, default_headers=HEADERS)
    return client.messages.create


def openai_client(url: str) -> Any:
    import openai

    return openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0, default_headers=HEADERS)


def openai_call(url: str) -> Callable[..., Any]:
    return openai_client(url).chat.completions.create


def openai_responses_call(url: str) -> Callable[..., Any]:
    return openai_client(url).responses.create


def ollama_call(url: str) -> Callable[..., Any]:
    import ollama

    return ollama.Client(host=url, headers=HEADERS).chat


def google_genai_call(url: str) -> Callable[..., Any]:
    from google import genai
    from google.genai import types

    # Of its own it asks version v1, which lacks what is in preview.
    options = types.HttpOptions(base_url=url, headers=HEADERS, api_version="v1beta")
    client = genai.Client(api_key="any", http_options=options)

    def call(*, stream: bool, **arguments: Any) -> Any:
        models = client.models
        return (models.generate_content_stream if stream else models.generate_content)(**arguments)

    return call


def boto3_call(url: str) -> Callable[..., Any]:
    import boto3
    from botocore.config import Config

    client = boto3.client(
        "bedrock-runtime",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="any",
        aws_secret_access_key="any",
        config=Config(retries={"total_max_attempts": 1}),
    )
    client.meta.events.register("before-call", lambda params, **_: params["headers"].update(HEADERS))

    def call(*, stream: bool, **arguments: Any) -> Any:
        return client.converse_stream(**arguments)["stream"] if stream else client.converse(**arguments)

    return call


CALLS = {
    "anthropic": anthropic_call,
    "openai": openai_call,
    "openai-responses": openai_responses_call,
    "ollama": ollama_call,
    "google-genai": google_genai_call,
    "boto3": boto3_call,
}


def with_bytes(value: dict[str, Any]) -> Any:
    return base64.b64decode(value["base64"]) if value.keys() == {"base64"} else value


def main() -> None:
    client, url = sys.argv[1:3]
    call = CALLS[client](url)
    for arguments in json.load(sys.stdin, object_hook=with_bytes):
        answer = call(**arguments)
        if arguments.get("stream") and isinstance(answer, Iterable):
            for _ in answer:
                pass


main()
