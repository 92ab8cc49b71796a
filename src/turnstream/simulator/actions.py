"""What a simulated provider can do to its caller."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias


class Send(NamedTuple):
    """Wait `delay` seconds, then write `data` of the answer's body."""

    delay: float
    data: bytes


class Refuse(NamedTuple):
    """Answer with an error in place of a stream."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Stall(NamedTuple):
    """Fall silent for ever, in mid-answer; every `every` seconds (0: never) write `ping`."""

    ping: bytes
    every: float


class Hang(NamedTuple):
    """Take the request and never answer, not even with headers."""


class CutConnection(NamedTuple):
    """Close the connection in the middle of the body."""


class ResetConnection(NamedTuple):
    """Reset the connection; as the first action, before any header."""


Action: TypeAlias = Send | Refuse | Stall | Hang | CutConnection | ResetConnection
