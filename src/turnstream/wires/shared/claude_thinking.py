"""Thinking parameters of Claude models, on any API. Older models take a budget of tokens, newer models an
effort."""

from __future__ import annotations

import re
from typing import Any, cast

from turnstream.wires.shared.normal_params import budget_for, budget_of, effort_for, effort_of

_ONLY_BUDGETS = re.compile(r"claude-(3|4-|(opus|sonnet|haiku)-4(?![.-][6-9]))")
"""Models that accept only a budget."""

_REFUSES_BUDGETS = re.compile(r"claude-(opus-4[.-][78]|(opus|sonnet|haiku|fable|mythos)-([5-9]|\d\d)(?!\d))")
"""Models that refuse a budget."""

_THINKS_BY_DEFAULT = re.compile(r"claude-(opus|sonnet|haiku|fable|mythos)-([5-9]|\d\d)(?!\d)")


def dump_thinking(model: str, thinking: Any) -> tuple[dict[str, Any] | None, str | None]:
    """Return the field `thinking` and the effort for the param `thinking`, in the form that the model
    accepts.

    An object with a `type` is passed through unchanged. Raises InvalidRequest for an unknown effort.
    """
    if not isinstance(thinking, dict) or not thinking:
        return None, None
    fields = cast(dict[str, Any], thinking)
    if "type" in fields:
        return fields, None
    rest = {key: value for key, value in fields.items() if key not in ("budget_tokens", "effort")}
    budget, effort = budget_of(thinking), effort_of(thinking)
    if budget is not None and _REFUSES_BUDGETS.search(model):
        effort, budget = effort_for(budget), None
    if effort is not None and _ONLY_BUDGETS.search(model):
        effort, budget = None, budget_for(effort)
    if effort is not None:
        return {"type": "adaptive", **rest}, effort
    return {"type": "enabled", **rest, **({} if budget is None else {"budget_tokens": budget})}, None


def room_for_thinking(model: str, thinking: dict[str, Any] | None, effort: str | None) -> int:
    """Return the tokens of the answer's limit that thinking may use.

    Args:
        model: Name of the model. Newer models think by default.
        thinking: The request's field `thinking`, or None.
        effort: The request's effort, or None.
    """
    budget: Any = (thinking or {}).get("budget_tokens")
    if isinstance(budget, int):
        return budget
    if effort is not None:
        return budget_for(effort)
    return budget_for("high") if thinking is None and _THINKS_BY_DEFAULT.search(model) else 0
