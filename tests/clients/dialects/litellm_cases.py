"""`litellm` against a server, over each of its provider prefixes. Each case prints one line of JSON.

Arguments: the address of the server, and the addresses of proxies that cut their first connection.
Each case asks a question of its own, by which the test finds the stored turns.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # it is read when the package is loaded

import litellm

litellm.suppress_debug_info = True  # it would be printed between the outcomes
URL, *CUTTERS = sys.argv[1:]
STORY = "sim/story:events=30,pace=0"
PREFIXES = {"anthropic": "", "ollama_chat": "", "openai": "/v1"}
"""Prefixes of models, and the path that their base URL needs."""
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tell the weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def asked(name: str, *more: dict[str, Any]) -> list[dict[str, Any]]:
    text = f"question of {name}"
    return [{"role": "user", "content": [{"type": "text", "text": text}, *more] if more else text}]


def completion(prefix: str, model: str, url: str = URL, **given: Any) -> Any:
    return litellm.completion(
        model=f"{prefix}/{model}",
        api_base=url + PREFIXES[prefix],
        api_key="any",
        max_retries=0,
        timeout=30,
        **given,
    )


def shown(response: Any) -> dict[str, Any]:
    choice = response.choices[0]
    message = choice.message
    return {
        "text": message.content or "",
        "thinking": getattr(message, "reasoning_content", None) or "",
        "calls": [call.model_dump() for call in message.tool_calls or ()],
        "reason": choice.finish_reason,
        "message": message.model_dump(exclude_none=True),
    }


def answered(name: str, prefix: str, model: str, url: str = URL, **given: Any) -> dict[str, Any]:
    """Return the answer, or the failure with the text before it."""
    messages = given.pop("messages", None) or asked(name)
    chunks: list[Any] = []
    try:
        if not given.get("stream"):
            return shown(completion(prefix, model, url, messages=messages, **given))
        for chunk in completion(prefix, model, url, messages=messages, **given):
            chunks.append(chunk)  # noqa: PERF402 - a failure must leave the chunks before it
        return shown(litellm.stream_chunk_builder(chunks, messages=messages))
    except Exception as error:  # noqa: BLE001 - the outcome, whichever of its errors LiteLLM raises
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        return {"error": type(error).__name__, "status": getattr(error, "status_code", None), "text": text}


def rounds(name: str, prefix: str, **given: Any) -> list[dict[str, Any]]:
    """Answer all calls of the model until it stops calling."""
    messages = asked(name)
    answers: list[dict[str, Any]] = []
    while not answers or answers[-1].get("calls"):
        answer = answered(name, prefix, "sim/tools:pace=0", messages=messages, tools=[WEATHER], **given)
        answers.append(answer)
        if "error" in answer:
            break
        messages = [*messages, answer["message"]]
        messages += [
            {"role": "tool", "tool_call_id": call["id"], "name": "weather", "content": f"clear sky {number}"}
            for number, call in enumerate(answer["calls"])
        ]
    return answers


def image(name: str, prefix: str) -> dict[str, Any]:
    part = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
    return answered(name, prefix, "sim/echo:pace=0", messages=asked(name, part))


def cases_of(prefix: str) -> dict[str, Callable[[str], Any]]:
    fault = f"sim/story:events=9,pace=0,label={prefix},fault"
    cases: dict[str, Callable[[str], Any]] = {
        "plain": lambda name: answered(name, prefix, STORY),
        "streamed": lambda name: answered(name, prefix, STORY, stream=True),
        "tools": lambda name: rounds(name, prefix, stream=True),
        "plainTools": lambda name: rounds(name, prefix),
        "thinking": lambda name: answered(name, prefix, "sim/thinking:pace=0", stream=True),
        "image": lambda name: image(name, prefix),
        "faultBefore": lambda name: answered(name, prefix, f"{fault}=error-before,status=401", stream=True),
        "faultAfter": lambda name: answered(name, prefix, f"{fault}=cut,after=6", stream=True),
    }
    for place, cutter in enumerate(CUTTERS):
        if place % len(PREFIXES) == list(PREFIXES).index(prefix):
            cases["cut"] = lambda name, url=cutter: answered(
                name, prefix, "sim/story:events=40,pace=0.002", url, stream=True
            )
    return cases


for kind in PREFIXES:
    for case, run in cases_of(kind).items():
        title = f"{case} of {kind}"
        json.dump({"name": title, "outcome": run(title)}, sys.stdout)
        sys.stdout.write("\n")
