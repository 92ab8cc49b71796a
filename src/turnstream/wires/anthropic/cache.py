"""The hint `cache`: where a request is marked so that the API keeps what stands before for the next call.

Marked are the last tool, the system prompt, and the last block of the history that can be: three of the four marks that
the API takes. A later call finds the mark of this one's history on its way and reads up to there from the cache.
"""

from __future__ import annotations

from typing import Any, TypeAlias, cast

from turnstream.wires.shared.json_values import is_one_of

Body: TypeAlias = dict[str, Any]

_MARK = {"type": "ephemeral"}
_UNMARKABLE = frozenset({"thinking", "redacted_thinking"})


def mark_for_cache(body: Body) -> None:
    """Set the marks, in place. A mark that is there already stays as it is."""
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
    """`body` without the marks, where it has exactly those that `mark_for_cache` sets; else None."""
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
    """The blocks of the last message."""
    messages = _objects(body.get("messages"))
    return _objects(messages[-1].get("content")) if messages else []


def _last_markable(content: list[Body]) -> int | None:
    places = range(len(content) - 1, -1, -1)
    return next((place for place in places if not is_one_of(content[place].get("type"), _UNMARKABLE)), None)


def _unmarked(item: Body) -> Body:
    return {key: value for key, value in item.items() if key != "cache_control"}


def _objects(value: Any) -> list[Body]:
    """A list of objects, or nothing."""
    items: list[Any] = cast(list[Any], value) if isinstance(value, list) else []
    return items if all(isinstance(item, dict) for item in items) else []
