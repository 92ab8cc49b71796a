"""Capabilities of models, so that a model is not sent a request that it refuses.

A small table holds them, the most specific row first. A model without a row gets the cautious default of its
wire. `[capabilities."provider/model"]` in the settings overrides single fields.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar, cast

import msgspec

from turnstream.config import CapabilitySettings

Value = TypeVar("Value")
ThinkingControl: TypeAlias = Literal["budget", "effort", "switch", "none"]
"""Ways to control thinking: a budget of tokens, an effort, a switch, or none."""


class Capabilities(msgspec.Struct, frozen=True):
    """Capabilities of one model on one wire. None means unknown."""

    prefill: bool = False
    """True if the model continues a history that ends with its own text."""
    images: bool = False
    documents: bool = False
    """True if the model reads PDF files."""
    tools: bool = True
    thinking: ThinkingControl = "none"
    thinks: bool | None = None
    """True if the model thinks by default. None: this follows from `thinking`."""
    thinking_bound: bool = False
    """True if thinking blocks must not be exchanged with other models, in either direction."""
    reasoning_field: str | None = None
    """Field in which the history must return the thinking of tool calls, or None if it need not.

    On the wire `anthropic` the thinking is returned in thinking blocks, although the model signs none.
    """
    structured_output: bool = False
    context_tokens: int | None = None
    """Tokens that a request and its answer may have together."""
    max_output_tokens: int | None = None
    """Tokens that an answer may have, thinking included."""

    def may_prefill(self, params: Mapping[str, Any]) -> bool:
        """Return True if a call with these params may end with the model's own text.

        Thinking rules it out.
        """
        thinking: Any = params.get("thinking")
        disabled = isinstance(thinking, dict) and thinking == {"type": "disabled"}
        return self.prefill and (not thinking or disabled)

    def may_think(self, params: Mapping[str, Any]) -> bool:
        """Return True if the model may think silently before it answers a call with these params."""
        thinking: Any = params.get("thinking")
        if isinstance(thinking, dict):
            asked = cast("dict[str, Any]", thinking)
            is_disabled = asked.get("type") == "disabled" or asked.get("effort") in _NO_EFFORT
            return not is_disabled and asked.get("budget_tokens") != 0
        if thinking is not None:
            return bool(thinking)
        effort: Any = params.get("reasoning_effort")
        if isinstance(effort, str):
            return effort not in _NO_EFFORT
        return self.thinking in _THINKS_BY_DEFAULT if self.thinks is None else self.thinks


def capabilities_of(
    provider_name: str,
    wire_name: str,
    model: str,
    own: Mapping[str, CapabilitySettings] | None = None,
) -> Capabilities:
    """Return the capabilities of `model`.

    Args:
        provider_name: The provider's name in the settings.
        wire_name: The wire that the provider speaks.
        model: The model's name at the provider.
        own: Tables of the settings by `provider/model`, where `*` matches any characters. If several match,
            the most exact name wins, field by field.
    """
    found = _known(wire_name, model.lower())
    if not own:
        return found
    name = f"{provider_name}/{model}".lower()
    fitting = [given for pattern, given in most_exact_first(own) if pattern.fullmatch(name)]
    changes: dict[str, Any] = {}
    for given in reversed(fitting):
        changes.update(given.model_dump(exclude_unset=True, exclude_none=True))
    return msgspec.structs.replace(found, **changes) if changes else found


class _Row(NamedTuple):
    """A family of models.

    `pattern` matches anywhere in the model's name. `wires` is None for all wires.
    """

    pattern: re.Pattern[str]
    wires: frozenset[str] | None
    capabilities: Capabilities


@lru_cache(maxsize=1024)
def _known(wire_name: str, model: str) -> Capabilities:
    for row in _TABLE:
        if (row.wires is None or wire_name in row.wires) and row.pattern.search(model):
            found = row.capabilities
            break
    else:
        found = _DEFAULTS.get(wire_name, Capabilities())
    may_prefill = found.prefill and wire_name in _PREFILLING_WIRES
    return found if may_prefill == found.prefill else msgspec.structs.replace(found, prefill=False)


def _row(pattern: str, capabilities: Capabilities, *wires: str) -> _Row:
    return _Row(re.compile(pattern), frozenset(wires) or None, capabilities)


_NO_EFFORT = frozenset({"none", "off"})
_THINKS_BY_DEFAULT = frozenset({"effort", "switch"})
"""Controls of models that think by default. Models with a budget do not."""
_PREFILLING_WIRES = frozenset({"anthropic", "ollama"})
_K = 1000
_M = 1_000_000

_OLLAMA = Capabilities(prefill=True, structured_output=True)
"""Defaults on Ollama: its server continues an opened answer, and enforces a schema for any model.

The context size is a setting of the server, not of the model.
"""

_DEFAULTS = {
    "ollama": _OLLAMA,
    "openai-responses": Capabilities(images=True, documents=True, structured_output=True),
    "gemini": Capabilities(images=True, documents=True, structured_output=True),
}


def _claude(context: int, output: int, **more: Any) -> Capabilities:
    return Capabilities(images=True, documents=True, context_tokens=context, max_output_tokens=output, **more)


_CLAUDE_WITH_EFFORT: dict[str, Any] = {"thinking": "effort", "structured_output": True}
_CLAUDE_WITH_BUDGET: dict[str, Any] = {"thinking": "budget", "prefill": True}


def _openai(context: int, output: int, **more: Any) -> Capabilities:
    reading: dict[str, Any] = {"images": True, "documents": True, "structured_output": True}
    return Capabilities(context_tokens=context, max_output_tokens=output, **{**reading, **more})


_TABLE = (
    # Ollama has a table of its own: its model names are those of files.
    _row(r"gpt-oss", msgspec.structs.replace(_OLLAMA, thinking="effort"), "ollama"),
    _row(
        r"qwen3(\.\d)?-vl|gemma4|qwen3\.[5-9]",
        msgspec.structs.replace(_OLLAMA, images=True, thinking="switch"),
        "ollama",
    ),
    _row(
        r"qwen3(?!-coder)|deepseek-(r1|v3\.[1-9])|magistral",
        msgspec.structs.replace(_OLLAMA, thinking="switch"),
        "ollama",
    ),
    _row(
        r"llava|gemma3(?!:(1b|270m))|qwen2\.5-?vl|llama3\.2-vision|llama4|mistral-small3\.[1-9]|minicpm-v",
        msgspec.structs.replace(_OLLAMA, images=True),
        "ollama",
    ),
    _row(r"", _OLLAMA, "ollama"),
    # Claude: from 4.6 on the user's message must be last; from 4.7 on a thinking budget is refused.
    _row(
        r"claude-(opus|sonnet|haiku|fable|mythos)-(5[.-]\d(?!\d)|[6-9]|\d\d(?!\d))",
        _claude(_M, 128 * _K, thinking_bound=True, **_CLAUDE_WITH_EFFORT),
    ),
    _row(r"claude-(opus|sonnet|haiku|fable|mythos)-5", _claude(_M, 128 * _K, **_CLAUDE_WITH_EFFORT)),
    _row(r"claude-opus-4[.-][678]", _claude(_M, 128 * _K, **_CLAUDE_WITH_EFFORT)),
    _row(r"claude-sonnet-4[.-]6", _claude(_M, 64 * _K, **_CLAUDE_WITH_EFFORT)),
    _row(
        r"claude-(opus|sonnet|haiku)-4[.-]5",
        _claude(200 * _K, 64 * _K, structured_output=True, **_CLAUDE_WITH_BUDGET),
    ),
    _row(r"claude-(opus-4|4-opus)(?![.-][2-9](?!\d))", _claude(200 * _K, 32 * _K, **_CLAUDE_WITH_BUDGET)),
    _row(r"claude-(sonnet-4|4-sonnet)(?![.-][1-9](?!\d))", _claude(200 * _K, 64 * _K, **_CLAUDE_WITH_BUDGET)),
    _row(r"claude-3[.-]7", _claude(200 * _K, 64 * _K, **_CLAUDE_WITH_BUDGET)),
    _row(r"claude-3[.-]5", _claude(200 * _K, 8192, prefill=True)),
    _row(
        r"claude-3-", Capabilities(images=True, prefill=True, context_tokens=200 * _K, max_output_tokens=4096)
    ),
    _row(r"claude", Capabilities(images=True, documents=True, thinking="effort")),
    # OpenAI: no model continues its own text.
    _row(r"gpt-oss", Capabilities(thinking="effort", structured_output=True, context_tokens=131_072)),
    _row(
        r"gpt-(image|audio|realtime|live|transcribe)|gpt-4o.*-(audio|realtime|transcribe|tts)", Capabilities()
    ),
    _row(
        r"gpt-6|gpt-5[.-]6|gpt-5\.4(-pro)?(?!-(mini|nano|image))",
        _openai(1_050_000, 128 * _K, thinking="effort"),
    ),
    _row(r"gpt-5\.5", _openai(_M, 128 * _K, thinking="effort")),
    _row(r"gpt-5([.-]\d)?-chat", _openai(128 * _K, 16_384)),
    _row(r"gpt-5", _openai(400 * _K, 128 * _K, thinking="effort")),
    _row(r"gpt-4\.1", _openai(1_047_576, 32_768)),
    _row(r"chatgpt-4o|gpt-4o-2024-05-13", _openai(128 * _K, 4096, structured_output=False)),
    _row(r"gpt-4o", _openai(128 * _K, 16_384)),
    _row(r"\bo3-mini", _openai(200 * _K, 100 * _K, thinking="effort", images=False, documents=False)),
    _row(r"\bo1-(mini|preview)", Capabilities(tools=False, thinks=True, context_tokens=128 * _K)),
    _row(r"\b(o1|o3|o4-mini)\b", _openai(200 * _K, 100 * _K, thinking="effort")),
    _row(r"gpt-4-turbo", Capabilities(images=True, context_tokens=128 * _K, max_output_tokens=4096)),
    _row(r"gpt-3\.5-turbo", Capabilities(context_tokens=16_385, max_output_tokens=4096)),
    # Others, if they behave the same at every provider.
    _row(r"gemini-[3-9]", _openai(1_048_576, 65_536, thinking="effort")),
    _row(r"gemini-2\.5", _openai(1_048_576, 65_536, thinking="budget", thinks=True)),
    _row(r"gemini-2\.0", _openai(1_048_576, 8192)),
    _row(
        r"nova-2-lite",
        Capabilities(
            images=True, documents=True, thinking="effort", context_tokens=_M, max_output_tokens=64 * _K
        ),
    ),
    # These models refuse their own tool calls without the thinking before them (DeepSeek's guide to thinking
    # mode, Kimi's to thinking models). The others of a family do so only if thinking is on.
    _row(
        r"deepseek-(reasoner|v[4-9])|kimi-(k2[.-](?:thinking|[5-9])|k[3-9]|thinking|for-coding)",
        Capabilities(thinks=True, reasoning_field="reasoning_content"),
        "openai-chat",
        "anthropic",
    ),
    _row(
        r"deepseek-(chat|v3[.-][1-9])",
        Capabilities(reasoning_field="reasoning_content"),
        "openai-chat",
        "anthropic",
    ),
    _row(r"deepseek-(r1|reasoner)-?(?!distill)", Capabilities(thinking="none", thinks=True)),
    _row(r"facebook/opt", Capabilities(tools=False)),
    _row(
        r"(?<!non-)reason|thinking|\bqwq\b|-r1\b|magistral|grok-(3-mini|4)(?!.*non-reason)",
        Capabilities(thinks=True),
    ),
)


def most_exact_first(named: Mapping[str, Value]) -> list[tuple[re.Pattern[str], Value]]:
    """Return the entries with compiled names, the most exact name first.

    `*` in a name matches any characters. Call `fullmatch` of a pattern with a name in lower case.
    """
    ordered = sorted(named.items(), key=lambda item: _exactness(item[0]), reverse=True)
    return [(_matcher(pattern), value) for pattern, value in ordered]


def _exactness(pattern: str) -> tuple[int, bool]:
    return len(pattern.replace("*", "")), "*" not in pattern


def _matcher(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in pattern.lower().split("*")), re.DOTALL)
