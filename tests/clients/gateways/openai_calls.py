"""Calls of the official `openai` client, through gateways. Each call prints one line of JSON.

Standard input: a list of calls `{name, kind, url, model, headers}`. The outcome of a call is
`{text, thinking, calls, reason}`, or `{error, status, part}` with the text before the failure.
Tools over several rounds have a list of outcomes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from typing import Any

import httpx2
import openai

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
FUNCTION = {"name": "weather", "description": "Tell the weather.", "parameters": PARAMETERS}
PLACE = {**PARAMETERS, "additionalProperties": False}
FAILURES = (openai.OpenAIError, httpx2.HTTPError, ValueError, RuntimeError, AssertionError)


class Chat:
    """One call of Chat Completions, or several with the results of tools."""

    def __init__(self, call: dict[str, Any]) -> None:
        self._client = openai.OpenAI(
            base_url=call["url"] + "/v1",
            api_key="any",
            max_retries=0,
            timeout=30,
            default_headers=call.get("headers"),
        )
        self._model = call["model"]
        self._question = f"question of {call['name']}"
        self._messages: list[Any] = [{"role": "user", "content": self._question}]
        self._given: dict[str, Any] = {}

    def plain(self) -> Any:
        """Return the outcome of a plain answer."""
        try:
            completion = self._client.chat.completions.create(
                model=self._model, messages=self._messages, **self._given
            )
            return self._outcome(completion)
        except FAILURES as error:
            return failure(error)

    def streamed(self) -> Any:
        """Return the outcome of a streamed answer."""
        part, thinking = "", ""
        try:
            with self._client.chat.completions.stream(
                model=self._model, messages=self._messages, **self._given
            ) as stream:
                for event in stream:
                    if event.type == "content.delta":
                        part = event.snapshot
                    elif event.type == "chunk":
                        thinking += "".join(map(thought, event.chunk.choices))
                return self._outcome(stream.get_final_completion()) | {"thinking": thinking}
        except FAILURES as error:
            return failure(error) | {"part": part}

    def tools(self) -> Any:
        """Return the outcomes of streamed answers, until the model stops calling."""
        return self._rounds(self.streamed)

    def plain_tools(self) -> Any:
        """Return the outcomes of plain answers, until the model stops calling."""
        return self._rounds(self.plain)

    def image(self) -> Any:
        """Return the outcome of a question with an image."""
        shown = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
        self._messages = [{"role": "user", "content": [{"type": "text", "text": self._question}, shown]}]
        return self.streamed()

    def structured(self) -> Any:
        """Return the outcome of an answer with a schema."""
        schema = {"name": "place", "schema": PLACE, "strict": True}
        self._given = {"response_format": {"type": "json_schema", "json_schema": schema}}
        self._messages = [{"role": "user", "content": json.dumps({"city": self._question})}]
        return self.plain()

    def left(self) -> Any:
        """Close the stream after its first text."""
        with self._client.chat.completions.create(
            model=self._model, messages=self._messages, stream=True
        ) as stream:
            for chunk in stream:
                if chunk.choices and chunk.choices[0].delta.content:
                    return {"part": chunk.choices[0].delta.content}
        return {}

    def _rounds(self, ask: Callable[[], Any]) -> list[Any]:
        self._given = {"tools": [{"type": "function", "function": FUNCTION}]}
        outcomes = [ask()]
        while outcomes[-1].get("calls"):
            calls = outcomes[-1]["calls"]
            self._messages.append(self._answer(outcomes[-1]))
            self._messages += [
                {"role": "tool", "tool_call_id": identity, "content": f"clear sky {number}"}
                for number, (identity, _, _) in enumerate(calls)
            ]
            outcomes.append(ask())
        return outcomes

    @staticmethod
    def _answer(outcome: dict[str, Any]) -> dict[str, Any]:
        calls = [
            {"id": identity, "type": "function", "function": {"name": name, "arguments": json.dumps(given)}}
            for identity, name, given in outcome["calls"]
        ]
        return {"role": "assistant", "content": outcome["text"] or None, "tool_calls": calls}

    @staticmethod
    def _outcome(completion: Any) -> dict[str, Any]:
        (choice,) = completion.choices
        calls = choice.message.tool_calls or ()
        return {
            "text": choice.message.content or "",
            "thinking": getattr(choice.message, "reasoning_content", None) or "",
            "calls": [[call.id, call.function.name, json.loads(call.function.arguments)] for call in calls],
            "reason": choice.finish_reason,
        }


class Responses:
    """One call of Responses, or several with the results of tools."""

    def __init__(self, call: dict[str, Any]) -> None:
        self._client = openai.OpenAI(
            base_url=call["url"] + "/v1",
            api_key="any",
            max_retries=0,
            timeout=30,
            default_headers=call.get("headers"),
        )
        self._given: dict[str, Any] = {"model": call["model"]}
        self._input: list[Any] = [{"role": "user", "content": f"question of {call['name']}"}]

    def plain(self) -> Any:
        """Return the outcome of a plain answer."""
        try:
            return self._outcome(self._client.responses.create(input=self._input, **self._given))
        except FAILURES as error:
            return failure(error)

    def streamed(self) -> Any:
        """Return the outcome of a streamed answer."""
        part = ""
        try:
            with self._client.responses.stream(input=self._input, **self._given) as stream:
                for event in stream:
                    if event.type == "response.output_text.delta":
                        part += event.delta
                return self._outcome(stream.get_final_response())
        except FAILURES as error:
            return failure(error) | {"part": part}

    def tools(self) -> Any:
        """Return the outcomes of streamed answers, until the model stops calling."""
        self._given["tools"] = [{"type": "function", **FUNCTION, "strict": False}]
        outcomes = [self.streamed()]
        while outcomes[-1].get("calls"):
            calls = outcomes[-1]["calls"]
            if outcomes[-1]["text"]:
                self._input.append({"role": "assistant", "content": outcomes[-1]["text"]})
            self._input += [
                {"type": "function_call", "call_id": identity, "name": name, "arguments": json.dumps(given)}
                for identity, name, given in calls
            ]
            self._input += [
                {"type": "function_call_output", "call_id": identity, "output": f"clear sky {number}"}
                for number, (identity, _, _) in enumerate(calls)
            ]
            outcomes.append(self.streamed())
        return outcomes

    @staticmethod
    def _outcome(response: Any) -> dict[str, Any]:
        items: Iterable[Any] = response.output
        parts = [part for item in items if item.type == "reasoning" for part in item.summary]
        calls = [item for item in items if item.type == "function_call"]
        return {
            "text": response.output_text,
            "thinking": "".join(part.text for part in parts),
            "calls": [[call.call_id, call.name, json.loads(call.arguments)] for call in calls],
            "reason": response.status,
        }


def thought(choice: Any) -> str:
    return getattr(choice.delta, "reasoning_content", None) or ""


def failure(error: Exception) -> dict[str, Any]:
    return {"error": type(error).__name__, "status": getattr(error, "status_code", None), "words": str(error)}


for asked in json.load(sys.stdin):
    protocol, _, kind = asked["kind"].partition(" ")
    made = {"chat": Chat, "responses": Responses}[protocol](asked)
    json.dump({"name": asked["name"], "outcome": getattr(made, kind)()}, sys.stdout)
    sys.stdout.write("\n")
    sys.stdout.flush()
