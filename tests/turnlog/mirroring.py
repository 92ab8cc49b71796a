"""Entries of a feed, and logs that they feed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.turnlog.scripted import TURN_ID
from turnstream.core.cursor import first_generation
from turnstream.core.turn_events import (
    Notice,
)
from turnstream.turnlog.feed import Feed, LocalFeed, LogEntry

G = first_generation(TURN_ID)
SECONDS = 20.0
FEEDS: list[Callable[[], Feed]] = [LocalFeed]
every_feed = pytest.mark.parametrize("make", FEEDS, ids=lambda make: make.__name__)


def entry(after: int, last: int, text: str = "", generation: int = G) -> LogEntry:
    """An entry of text, and of passing notices for the numbers that have none."""
    count = last - after - (1 if text else 0)
    return LogEntry(generation, after, last, text, tuple(Notice("passing", "on") for _ in range(count)))
