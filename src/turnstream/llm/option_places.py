"""Errors for options that are given in the wrong place. They name the right place."""

from __future__ import annotations

from collections.abc import Iterable

from turnstream.config import ProviderSettings, RetrySettings, Timeouts

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


def misplaced_in_model(names: Iterable[str], model: str | None, call_options: Iterable[str]) -> TypeError:
    """Return the error for options that `LLM()` does not take. It says where they belong.

    Args:
        names: The options.
        model: Name of the model, for the example.
        call_options: Options of a call.
    """
    calls = {*call_options, *_CALLS}
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
