"""References in a request's input to items that are stored here (`item_reference`)."""

from __future__ import annotations

from typing import Any

from turnstream.dialects.openai_responses.ids import turn_of_item
from turnstream.dialects.openai_responses.items import items_of
from turnstream.errors import InvalidRequest, NotFound
from turnstream.limits import MAX_REFERENCES
from turnstream.server.context import ServerContext
from turnstream.wires.shared.json_values import JsonObject, is_list, is_object
from turnstream.wires.shared.lenient_json import encode_json
from turnstream.wires.shared.request_bodies import read_body


async def with_referenced_items(context: ServerContext, owner: str, raw: bytes) -> bytes:
    """Return the body with each reference replaced by its item. Raises InvalidRequest, StoreError."""
    if b"item_reference" not in raw:
        return raw
    body = read_body(raw)
    given: Any = body.get("input")
    if not is_list(given):
        return raw
    references = [item for item in given if _is_reference(item)]
    if len(references) > MAX_REFERENCES:
        raise InvalidRequest(f"the input has more than {MAX_REFERENCES} references to items: send fewer")
    found = [
        await _item(context, owner, str(item.get("id"))) if _is_reference(item) else item for item in given
    ]
    return encode_json({**body, "input": found})


def _is_reference(item: Any) -> bool:
    return is_object(item) and item.get("type") == "item_reference"


async def _item(context: ServerContext, owner: str, identity: str) -> JsonObject:
    turn_id = turn_of_item(identity)
    if turn_id is not None:
        try:
            state = await context.commands.state(owner, turn_id)
        except NotFound:
            pass
        else:
            seal = await context.origin_key.seal()
            for item in items_of(state.turn, [row.block for row in state.blocks], seal):
                if item.identity == identity:
                    return item.raw
    raise InvalidRequest(f"there is no item with the id {identity[:100]!r}", code="item_not_found")
