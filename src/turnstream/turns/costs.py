"""The cost fields of an ended turn, from its row."""

from __future__ import annotations

from typing import TypedDict

import msgspec

from turnstream.core.usage import Usage
from turnstream.store.base import TurnRecord


class CostFields(TypedDict):
    """Cost fields of a terminal event."""

    cost: str | msgspec.UnsetType
    estimated: bool | msgspec.UnsetType
    unpriced: bool | msgspec.UnsetType


def cost_fields(turn: TurnRecord) -> CostFields:
    """Return the cost fields of an ended turn's terminal event, from the turn's row."""
    return {
        "cost": msgspec.UNSET if turn.cost is None else turn.cost,
        "estimated": turn.cost_estimated or msgspec.UNSET,
        "unpriced": is_unpriced(turn) or msgspec.UNSET,
    }


def is_unpriced(turn: TurnRecord) -> bool:
    """Return True if the turn has usage but no cost, because a model's price is not known."""
    return turn.cost is None and any(
        step.model is not None and step.cost is None and step.usage != Usage() for step in turn.steps
    )
