"""The options of a library call, and errors that name the right place of a misplaced option."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict, cast

from turnstream.config import ProviderSettings, RetrySettings, Timeouts
from turnstream.llm.callbacks import Callbacks
from turnstream.llm.offering import AnyTool
from turnstream.llm.output import OutputMode
from turnstream.llm.prompts import MessageLike

MODEL_OPTIONS = frozenset(
    {
        "model",
        "fallbacks",
        "retry",
        "providers",
        "prices",
        "capabilities",
        "settings",
        "tool_limits",
        "approve",
        "redaction",
    }
)
"""Options of `LLM`."""
_KEYS = frozenset({"api_key", "key", "token", "auth_token"})
_RETRIES = {"max_retries": "attempts", "retries": "attempts", "num_retries": "attempts"}
_TIMES = {"timeout": "total", "request_timeout": "total", "stream_timeout": "idle"}
_PROVIDERS = {
    "default_headers": "headers",
    "extra_headers": "headers",
    "api_base": "base_url",
    "host": "base_url",
}
_CALLS = frozenset({"prompt", "output"})
_OTHERS = {
    "system_prompt": "it is system=… of each call",
    "instructions": "it is system=… of each call",
    "history": "it is messages=[…] of each call",
    "response_format": "it is output=SomeType of each call",
    "response_model": "it is output=SomeType of each call",
    "stream": "call llm.stream(…) for a stream, llm.collect(…) for the whole message",
    "streaming": "call llm.stream(…) for a stream, llm.collect(…) for the whole message",
    "provider": 'it is a part of the model\'s name, "provider/model"',
    "model_name": 'it is model="provider/model"',
}


class CallOptions(TypedDict, total=False):
    """Options of a call. All of them may be omitted.

    Attributes:
        messages: Earlier messages of the conversation.
        system: Instructions.
        tools: Functions that the model may call. The library runs them and continues the answer.
        run_tools: If False, the library does not run tools, and the calls are in `message.tool_calls`.
        params: Parameters of the model call: `max_tokens`, `temperature`, `thinking`, and any others that the
            provider takes.
        metadata: Data for tools that take a `ToolContext`.
        callbacks: Functions to call while the answer streams.
        output_mode: Way to request a typed answer: a JSON Schema or a tool.
    """

    messages: Sequence[MessageLike]
    system: str | None
    tools: Sequence[AnyTool]
    run_tools: bool
    params: Mapping[str, Any]
    metadata: dict[str, Any]
    callbacks: Callbacks | None
    output_mode: OutputMode


def check_options(options: CallOptions) -> CallOptions:
    """Return `options` without those that are None. Raises TypeError for an unknown name."""
    unknown = sorted(options.keys() - CallOptions.__annotations__.keys())
    if unknown:
        raise misplaced_in_call(unknown)
    return cast("CallOptions", {name: value for name, value in options.items() if value is not None})


def misplaced_in_model(names: Iterable[str], model: str | None) -> TypeError:
    """Return the error for options that `LLM()` does not take. It says where they belong.

    Args:
        names: The options.
        model: Name of the model, for the example.
    """
    calls = CallOptions.__annotations__.keys() | _CALLS
    told = [
        f"LLM() takes no {name}: "
        + (f"it is {name}=… of each call" if name in calls else _place(name, model))
        for name in names
    ]
    return TypeError("; ".join(told))


def misplaced_in_call(names: Iterable[str]) -> TypeError:
    """Return the error for options that a call does not take. It says where they belong."""
    told = [
        f"a call has no option {name}: "
        + (f"it is {name}=… of LLM(…)" if name in MODEL_OPTIONS else _place(name, None))
        for name in names
    ]
    return TypeError("; ".join(told))


def _place(name: str, model: str | None) -> str:
    provider = (model or "").partition("/")[0] or "NAME"
    if name in _OTHERS:
        return _OTHERS[name]
    if name in _KEYS:
        return (
            "keys are in the environment. To name another variable: "
            f"LLM(…, providers={{{provider!r}: {{'api_key_env': 'MY_KEY'}}}})"
        )
    field = _PROVIDERS.get(name, name)
    if field in ProviderSettings.model_fields:
        return f"it belongs to a provider, LLM(…, providers={{{provider!r}: {{{field!r}: …}}}})"
    field = _TIMES.get(name, name)
    if field in Timeouts.model_fields:
        return (
            f"it belongs to a provider, LLM(…, providers={{{provider!r}: {{'timeouts': {{{field!r}: …}}}}}})"
        )
    field = _RETRIES.get(name, name)
    if field in RetrySettings.model_fields:
        return f"it belongs to the retries, LLM(…, retry=RetrySettings({field}=…))"
    return f"parameters of the model go with each call, params={{{name!r}: …}}"
