"""Lists of items, in pages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.requests import Request

from turnstream.dialects.openai_responses.items import StoredItem
from turnstream.errors import InvalidRequest
from turnstream.limits import MAX_LISTED_ITEMS

DEFAULT_LIMIT = 20


def item_page(request: Request, items: Sequence[StoredItem]) -> dict[str, Any]:
    """Return the page of a list that a request asks for. Raises InvalidRequest.

    Args:
        items: All items, oldest first. The newest are shown first, unless `order` is `asc`.
    """
    query = request.query_params
    order = query.get("order", "desc")
    if order not in {"asc", "desc"}:
        raise InvalidRequest("order must be asc or desc")
    limit = query.get("limit", str(DEFAULT_LIMIT))
    if not (limit.isascii() and limit.isdigit() and len(limit) < 5 and 1 <= int(limit) <= MAX_LISTED_ITEMS):
        raise InvalidRequest(f"limit must be a number from 1 to {MAX_LISTED_ITEMS}")
    ordered = list(items if order == "asc" else reversed(items))
    if (after := query.get("after")) is not None:
        place = next((place for place, item in enumerate(ordered) if item.identity == after), None)
        if place is None:
            raise InvalidRequest("after is not the id of an item of this list")
        ordered = ordered[place + 1 :]
    return item_list(ordered[: int(limit)], has_more=len(ordered) > int(limit))


def item_list(items: Sequence[StoredItem], *, has_more: bool = False) -> dict[str, Any]:
    """Return a list of items as JSON."""
    return {
        "object": "list",
        "data": [item.raw for item in items],
        "first_id": items[0].identity if items else "",
        "last_id": items[-1].identity if items else "",
        "has_more": has_more,
    }
