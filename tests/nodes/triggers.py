"""Places in a connection's bytes at which the proxy lets a fault happen."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

from tests.nodes.messages import ClientMessage

DEADLINE = 20.0

Action: TypeAlias = Literal["cut", "stall", "half_open"]
"""Reset the connection; deliver nothing until `resume`; close the server's end without a word to the client.
"""


class AtByte(NamedTuple):
    """After `offset` bytes of a connection in one direction."""

    direction: Literal["to_server", "to_client"]
    offset: int


class AtMessage(NamedTuple):
    """At a message of the client that contains `text`.

    Attributes:
        moment: Before the server gets it, with half of it delivered, or in place of the server's answer.
        of: Text that the SQL of its transaction contains.
        occurrence: Number of the message among those that meet the rest, from 1, over all connections.
    """

    text: bytes
    moment: Literal["before", "within", "after"]
    of: bytes = b""
    occurrence: int = 1

    def is_met(self, message: ClientMessage) -> bool:
        """Return True if a message is like this one, whatever its number."""
        return self.text in message.data and self.of in message.transaction


Trigger: TypeAlias = AtByte | AtMessage


@dataclass(eq=False)
class Armed:
    """A fault that will happen, or has happened."""

    trigger: Trigger
    action: Action
    seen: int = 0
    """Number of messages that met an `AtMessage`, whatever their number."""
    fired: threading.Event = field(default_factory=threading.Event)

    def wait(self, seconds: float = DEADLINE) -> None:
        """Return after the fault has happened."""
        assert self.fired.wait(seconds), f"{self.trigger} was not reached within {seconds:g} s"
