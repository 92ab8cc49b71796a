"""Models in the form of Ollama's lists.

Ollama's names have a tag. Its clients add `:latest` to a name without one, so the lists have it too, and
`named_model` removes it from the name in a request.
"""

from __future__ import annotations

from collections.abc import Collection
from hashlib import sha256
from typing import Any

from turnstream.providers.capabilities import Capabilities
from turnstream.providers.catalog import ListedModel

SPOKEN_VERSION = "0.12.6"
"""Version of Ollama whose API clients find here."""
_LATEST = ":latest"
_NO_TIME = "1970-01-01T00:00:00Z"


def tagged(name: str) -> str:
    """Return the name of a model with a tag."""
    return name if ":" in name else name + _LATEST


def named_model(name: str, known: Collection[str]) -> str:
    """Return the model that a request names. `known`: names of the listed models."""
    return name if name in known else name.removesuffix(_LATEST)


def model_entry(model: ListedModel) -> dict[str, Any]:
    """Return a model of `/api/tags`. Its size and time are not known."""
    return {
        "name": tagged(model.id),
        "model": tagged(model.id),
        "modified_at": _NO_TIME,
        "size": 0,
        "digest": sha256(model.id.encode()).hexdigest(),
        "details": _details(model.provider),
    }


def model_description(provider: str, can: Capabilities) -> dict[str, Any]:
    """Return the answer of `/api/show` for a model of `provider`."""
    info: dict[str, Any] = {"general.architecture": provider}
    if can.context_tokens is not None:
        info[f"{provider}.context_length"] = can.context_tokens
    able = {
        "completion": True,
        "tools": can.tools,
        "vision": can.images,
        "thinking": can.thinks or can.thinking != "none",
    }
    return {
        "modelfile": "",
        "parameters": "",
        "template": "{{ .Prompt }}",
        "details": _details(provider),
        "model_info": info,
        "capabilities": [name for name, is_able in able.items() if is_able],
        "modified_at": _NO_TIME,
    }


def _details(provider: str) -> dict[str, Any]:
    return {
        "parent_model": "",
        "format": "",
        "family": provider,
        "families": [provider],
        "parameter_size": "",
        "quantization_level": "",
    }
