"""What an ended turn's row says of its cost."""

from __future__ import annotations

from typing import TypedDict

import msgspec

from turnstream.core.usage import Usage
from turnstream.store.base import TurnRecord


class CostFields(TypedDict):
    cost: str | msgspec.UnsetType
    estimated: bool | msgspec.UnsetType
    unpriced: bool | msgspec.UnsetType


def cost_fields(turn: TurnRecord) -> CostFields:
    """What a terminal event says of an ended turn's cost, from its row."""
    return {
        "cost": msgspec.UNSET if turn.cost is None else turn.cost,
        "estimated": turn.cost_estimated or msgspec.UNSET,
        "unpriced": is_unpriced(turn) or msgspec.UNSET,
    }


def is_unpriced(turn: TurnRecord) -> bool:
    """Whether the turn has no cost because the price of a model is not known, though its usage is."""
    return turn.cost is None and any(
        step.model is not None and step.cost is None and step.usage != Usage() for step in turn.steps
    )
