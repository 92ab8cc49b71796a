"""The calls of a turn after the host application has prepared them."""

from __future__ import annotations

from typing import NamedTuple

from turnstream.core.blocks import Message
from turnstream.core.turn_events import Notice
from turnstream.providers.plan import CallPlan
from turnstream.wires.base import ModelRequest


class PreparedCalls(NamedTuple):
    """The calls of a turn after their preparation.

    Attributes:
        plan: Calls the models.
        request: The first call.
        context: Messages that precede those of each later call. They are in the first call already.
        notice: Notice for watchers, or None.
    """

    plan: CallPlan
    request: ModelRequest
    context: tuple[Message, ...] = ()
    notice: Notice | None = None
