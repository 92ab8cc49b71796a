"""Actions of a simulated provider."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

from turnstream.errors import ProviderError
from turnstream.wires.base import Wire


class Send(NamedTuple):
    """Wait `delay` seconds, then write `data` to the body."""

    delay: float
    data: bytes


class Refuse(NamedTuple):
    """Answer with an error instead of a stream."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @classmethod
    def of(cls, error: ProviderError, wire: Wire) -> Refuse:
        """Return the refusal that reports `error` as the wire's provider does."""
        status, body = wire.encode_error(error)
        return cls(status, {}, body)


class Stall(NamedTuple):
    """Send nothing more, and do not end the answer. Write `ping` every `every` seconds (0: never)."""

    ping: bytes
    every: float


class Hang(NamedTuple):
    """Accept the request and never answer, not even with headers."""


class CutConnection(NamedTuple):
    """Close the connection in the middle of the body."""


class ResetConnection(NamedTuple):
    """Reset the connection. As the first action: before any header."""


Action: TypeAlias = Send | Refuse | Stall | Hang | CutConnection | ResetConnection
