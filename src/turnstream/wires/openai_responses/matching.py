"""Finds the output item of an event. Providers identify items differently, and some are wrong:

    llama.cpp                   no `output_index`; items interleave, and all of them end with the response
    LiteLLM's bridge            a message at the index of reasoning that has ended, or that is still open
    transformers serve          an item that has ended is announced again
    Copilot, OpenRouter         another id for the same item in each event
    OpenAI's Agents SDK         one generated id for all items of a chat model

An event is matched by the item's id, then by its index, then by its type. An event with the id of an ended
item is a repetition. An id of several items is ignored. Calls with different `call_id` or names are always
different items.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from turnstream.errors import StreamBroken
from turnstream.wires.openai_responses.parts import NO_INDEX, Item
from turnstream.wires.shared.json_values import JsonObject, as_text

MAX_ITEMS = 65_536
"""Most output items of one response."""


class ItemMention(NamedTuple):
    """The index and id by which an event names its item."""

    output_index: int | None = None
    item_id: str = ""


class Items:
    """The output items of one response, in the order in which they began."""

    def __init__(self) -> None:
        self.all: list[Item] = []
        self._named: dict[tuple[str, str], Item | None] = {}
        """Items by kind and id, or by kind and call_id. None if several items have the name."""
        self._at: dict[int, Item] = {}
        self._last: dict[str, Item] = {}
        self._unended: dict[str, deque[Item]] = {}

    def at(self, place: ItemMention) -> Item | None:
        """Return the last item at an index, of any kind."""
        return None if place.output_index is None else self._at.get(place.output_index)

    def begin(self, place: ItemMention, raw: JsonObject, *, announced: bool) -> Item:
        """Begin a new item. Raises StreamBroken if there are too many.

        Args:
            place: Index and id by which the event names the item.
            raw: The item, or an object with its `type` only.
            announced: True if the provider sent the item itself, and not only a piece of it.
        """
        if len(self.all) >= MAX_ITEMS:
            raise StreamBroken(
                f"the response has more than {MAX_ITEMS} output items",
                code="answer_too_large",
                retryable=False,
            )
        item = Item(len(self.all), place.output_index, raw, announced=announced)
        self.all.append(item)
        self._last[item.kind] = item
        self._unended.setdefault(item.kind, deque()).append(item)
        if place.output_index is not None:
            before = self._at.get(place.output_index)
            if before is not None and before.kind == item.kind:
                before.shares_index = item.shares_index = True
                for part in (*before.parts.values(), *((before.spare,) if before.spare else ())):
                    part.output_index = NO_INDEX
            self._at[place.output_index] = item
        self.name(item, place.item_id)
        return item

    def name(self, item: Item, *more: str) -> None:
        """Record the names of an item, and mark names that several items have."""
        for name in (item.identity, item.call_id, *more):
            if name and self._named.setdefault((item.kind, name), item) is not item:
                self._named[item.kind, name] = None

    def of_piece(self, place: ItemMention, kind: str, *, is_whole: bool = False) -> Item | None:
        """Return the open or ended item of a piece, or None if the piece begins an item.

        Args:
            place: Index and id by which the event names the item.
            kind: Type of the item.
            is_whole: True if the piece repeats what deltas have brought.
        """
        named = (kind, place.item_id)
        if (found := self._named.get(named)) is not None:
            found.addressed = True
            return found
        has_id = bool(place.item_id) and named not in self._named
        if place.output_index is None:
            found = self._last.get(kind)
            found = found if found is not None and found.open else None
        else:
            found = self._at.get(place.output_index)
            if found is not None and (found.kind != kind or (has_id and not (found.open or is_whole))):
                found = None
        return None if found is not None and has_id and found.addressed else found

    def of_added(self, place: ItemMention, raw: JsonObject) -> Item | None:
        """Return the item if it was announced before, or if a piece has begun it. None if it is new."""
        if (found := self._by_name(raw)) is not None:
            return found
        kind = str(raw.get("type"))
        found = self._last.get(kind) if place.output_index is None else self.at(place)
        begun = found is not None and found.kind == kind and found.open and not found.announced
        return found if begun else None

    def of_done(self, place: ItemMention, raw: JsonObject) -> Item | None:
        """Return the item that ends or has ended, or None for an item that comes as a whole."""
        if (found := self._by_name(raw)) is not None:
            return found
        kind = str(raw.get("type"))
        if place.output_index is not None:
            found = self.at(place)
            return found if found is not None and found.kind == kind and not _is_other(found, raw) else None
        waiting = self._unended.get(kind)
        while waiting and not waiting[0].open:
            waiting.popleft()
        return waiting[0] if waiting and not _is_other(waiting[0], raw) else None

    def pair(self, items: Iterable[JsonObject]) -> list[tuple[Item | None, JsonObject]]:
        """Pair the items at the end of the response with the known items, or with None for an item that never
        came.

        Items are matched by id, then by their order, because a vendor may rename or move them.
        """
        whole = list(items)
        pairs: list[Item | None] = []
        taken: set[int] = set()
        for raw in whole:
            found = self._by_name(raw)
            found = None if found is None or found.number in taken else found
            if found is not None:
                taken.add(found.number)
            pairs.append(found)
        rest: dict[str, list[Item]] = {}
        for item in reversed(self.all):
            if item.number not in taken:
                rest.setdefault(item.kind, []).append(item)
        for place, raw in enumerate(whole):
            if pairs[place] is None and (waiting := rest.get(str(raw.get("type")))):
                pairs[place] = waiting.pop()
        return list(zip(pairs, whole, strict=True))

    def _by_name(self, raw: JsonObject) -> Item | None:
        kind = str(raw.get("type"))
        for field in ("call_id", "id"):
            name = as_text(raw.get(field))
            found = self._named.get((kind, name)) if name else None
            if found is not None and not _is_another_call(found, raw):
                return found
        return None


def _is_another_call(item: Item, raw: JsonObject) -> bool:
    call_id, name = as_text(raw.get("call_id")), as_text(raw.get("name"))
    other_name = bool(name and item.name and name != item.name)
    if call_id and item.call_id:
        return call_id != item.call_id or (other_name and not item.open)
    return other_name


def _is_other(item: Item, raw: JsonObject) -> bool:
    """Return True if a reliable id, or a call's id or name, shows that `raw` is another item than `item`."""
    identity = as_text(raw.get("id"))
    renamed = bool(identity and item.identity and identity != item.identity)
    return _is_another_call(item, raw) or (renamed and item.addressed)
