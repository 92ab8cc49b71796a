"""Protocols of model providers. `WIRES` maps the names used in configuration and on the command line to
wires."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from turnstream.errors import ConfigurationError
from turnstream.wires.base import Wire


def _anthropic() -> Wire:
    from turnstream.wires.anthropic.wire import WIRE

    return WIRE


def _openai_chat() -> Wire:
    from turnstream.wires.openai_chat.wire import WIRE

    return WIRE


def _openai_responses() -> Wire:
    from turnstream.wires.openai_responses.wire import WIRE

    return WIRE


def _ollama() -> Wire:
    from turnstream.wires.ollama.wire import WIRE

    return WIRE


def _gemini() -> Wire:
    from turnstream.wires.gemini.wire import WIRE

    return WIRE


def _bedrock() -> Wire:
    from turnstream.wires.bedrock.wire import bedrock_wire

    return bedrock_wire(_anthropic())


class WireTable(Mapping[str, Wire]):
    """Wires by name. The modules of a wire load at its first use: most programs use one wire."""

    def __init__(self, loaders: Mapping[str, Callable[[], Wire]]) -> None:
        self._loaders = loaders
        self._loaded: dict[str, Wire] = {}

    def __getitem__(self, name: str) -> Wire:
        wire = self._loaded.get(name)
        if wire is None:
            wire = self._loaded[name] = self._loaders[name]()
        return wire

    def __contains__(self, name: object) -> bool:
        return name in self._loaders

    def __iter__(self) -> Iterator[str]:
        return iter(self._loaders)

    def __len__(self) -> int:
        return len(self._loaders)


WIRES: Mapping[str, Wire] = WireTable(
    {
        "anthropic": _anthropic,
        "openai-chat": _openai_chat,
        "openai-responses": _openai_responses,
        "ollama": _ollama,
        "gemini": _gemini,
        "bedrock": _bedrock,
    }
)


def usable_wires() -> Iterator[Wire]:
    """Yield the wires that can decode answers here. A wire is skipped if it needs a library that is not
    installed."""
    for wire in WIRES.values():
        try:
            wire.decoder()
        except ConfigurationError:
            continue
        yield wire
