"""The param `cache`: marks a request so that the API caches everything before the marks for the next call.

The last tool, the system prompt, and the last markable block of the history get a mark: three of the four
marks that the API allows. A later call repeats this history, finds its mark, and reads from the cache up to
there.
"""

from __future__ import annotations

from typing import Any, TypeAlias, cast

from turnstream.wires.shared.json_values import is_one_of

Body: TypeAlias = dict[str, Any]

_MARK = {"type": "ephemeral"}
_UNMARKABLE = frozenset({"thinking", "redacted_thinking"})


def mark_for_cache(body: Body) -> None:
    """Set the marks in place. Keep marks that already exist."""
    if isinstance(system := body.get("system"), str):
        body["system"] = [{"type": "text", "text": system}]
    if tools := _objects(body.get("tools")):
        body["tools"] = [*tools[:-1], {"cache_control": _MARK, **tools[-1]}]
    if system := _objects(body.get("system")):
        body["system"] = [*system[:-1], {"cache_control": _MARK, **system[-1]}]
    content = _last_content(body)
    if (place := _last_markable(content)) is not None:
        content[place] = {"cache_control": _MARK, **content[place]}


def take_cache_marks(body: Body) -> Body | None:
    """Return `body` without its marks if they are exactly those that `mark_for_cache` sets, else None."""
    tools, system = _objects(body.get("tools")), _objects(body.get("system"))
    if body.get("system") and not system:
        return None
    content = _last_content(body)
    place = _last_markable(content)
    marked = [items[-1] for items in (tools, system) if items]
    marked += [] if place is None else [content[place]]
    if not marked or any(item.get("cache_control") != _MARK for item in marked):
        return None
    found = dict(body)
    if tools:
        found["tools"] = [*tools[:-1], _unmarked(tools[-1])]
    if system:
        found["system"] = [*system[:-1], _unmarked(system[-1])]
    if place is not None:
        messages = _objects(body.get("messages"))
        content = [*content[:place], _unmarked(content[place]), *content[place + 1 :]]
        found["messages"] = [*messages[:-1], {**messages[-1], "content": content}]
    return found


def _last_content(body: Body) -> list[Body]:
    """Return the blocks of the last message."""
    messages = _objects(body.get("messages"))
    return _objects(messages[-1].get("content")) if messages else []


def _last_markable(content: list[Body]) -> int | None:
    places = range(len(content) - 1, -1, -1)
    return next((place for place in places if not is_one_of(content[place].get("type"), _UNMARKABLE)), None)


def _unmarked(item: Body) -> Body:
    return {key: value for key, value in item.items() if key != "cache_control"}


def _objects(value: Any) -> list[Body]:
    """Return `value` if it is a list of objects, else an empty list."""
    items: list[Any] = cast(list[Any], value) if isinstance(value, list) else []
    return items if all(isinstance(item, dict) for item in items) else []
