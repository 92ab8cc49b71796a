"""Makes calls with an official client, in the client's own environment: `sdk_requests.py CLIENT URL`, and on standard input a
list of calls, each the keyword arguments of the client's usual method. What was sent is for the server to tell.

A new client is a function here, and rows in `request_cases.py`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from typing import Any

HEADERS = {"X-Simulate": "script=echo,pace=0"}


def anthropic_call(url: str) -> Callable[..., Any]:
    import anthropic

    client = anthropic.Anthropic(base_url=url, api_key="any", max_retries=0, default_headers=HEADERS)
    return client.messages.create


def openai_call(url: str) -> Callable[..., Any]:
    import openai

    client = openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0, default_headers=HEADERS)
    return client.chat.completions.create


def ollama_call(url: str) -> Callable[..., Any]:
    import ollama

    return ollama.Client(host=url, headers=HEADERS).chat


CALLS = {"anthropic": anthropic_call, "openai": openai_call, "ollama": ollama_call}


def main() -> None:
    client, url = sys.argv[1:3]
    call = CALLS[client](url)
    for arguments in json.load(sys.stdin):
        answer = call(**arguments)
        if arguments.get("stream") and isinstance(answer, Iterable):
            for _ in answer:
                pass


main()
