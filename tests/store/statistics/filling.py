"""Many stored answers with their calls, for tests of statistics.

python -m tests.store.statistics.filling URL    fills a new database
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeAlias

import msgspec
from sqlalchemy import Connection

from tests.store.samples import make_chat, make_turn
from turnstream.core.usage import CallAttempt, Usage
from turnstream.server.auth import LOCAL
from turnstream.store.base import Operation, TurnRecord
from turnstream.store.database import driver_of
from turnstream.store.rows import attempt_row, chat_rows, turn_rows
from turnstream.store.schema import attempts, chats, turns
from turnstream.store.sql import SqlStore

Answer: TypeAlias = tuple[TurnRecord, tuple[CallAttempt, ...]]

DAY = 86_400_000_000
"""Microseconds."""
MODELS = ("acme/one", "acme/two", "other/large", "sim/demo")
PER_CHAT = 500


class StoreRows(Operation[None], frozen=True, kw_only=True):
    """Stores rows as they are, without the checks of the engine's writes."""

    rows: tuple[Answer, ...]
    owner: str

    def apply(self, connection: Connection) -> None:
        chat = make_chat(self.owner)
        driver = driver_of(connection)
        driver.insert(connection, chats, [(*chat_rows.row(chat), None)])
        stored = [msgspec.structs.replace(turn, chat_id=chat.id) for turn, _ in self.rows]
        driver.insert(connection, turns, [(*turn_rows.row(turn), None, None) for turn in stored])
        calls = [attempt_row(turn.id, call) for turn, made in self.rows for call in made]
        driver.insert(connection, attempts, calls)


def answers(number: int, *, first_day: int, days: int, owner: str, seed: int = 1) -> Iterator[Answer]:
    """Yield answers, evenly over the days, each with one call, or with a failed call and its successor."""
    chance = random.Random(seed)
    chat = make_chat(owner)
    for place in range(number):
        moment = first_day * DAY + place * days * DAY // number
        turn = make_turn(chat, "assistant", created_at=moment)
        ends = chance.random()
        status = "complete" if ends < 0.9 else "error" if ends < 0.97 else "cancelled"
        made: list[CallAttempt] = []
        if chance.random() < 0.05 or status == "error":
            made.append(_call(1, chance, outcome=chance.choice(("rate_limited", "overloaded", "api_error"))))
        if status != "error":
            made.append(_call(len(made) + 1, chance, outcome=status))
        yield msgspec.structs.replace(turn, status=status), tuple(made)


def _call(number: int, chance: random.Random, *, outcome: str) -> CallAttempt:
    """Return a call. Some are without a price, some without a known first output."""
    failed = outcome not in {"complete", "cancelled"}
    seconds = chance.uniform(0.1, 20.0)
    usage = (
        Usage()
        if failed
        else Usage(chance.randrange(1, 5000), chance.randrange(1, 2000), chance.choice((None, 7)))
    )
    return CallAttempt(
        0,
        number,
        chance.choice(MODELS),
        outcome,
        5,
        round(seconds, 6),
        usage,
        None if failed or chance.random() < 0.1 else f"{chance.uniform(0, 0.2):.6f}",
        outcome == "cancelled",
        None if failed or chance.random() < 0.1 else round(seconds * chance.uniform(0.01, 0.9), 6),
    )


async def fill(store: SqlStore, rows: Iterable[Answer], owner: str) -> None:
    """Store answers, in chats and transactions of `PER_CHAT`."""
    remaining = iter(rows)
    while portion := tuple(islice(remaining, PER_CHAT)):
        await store.write(StoreRows(rows=portion, owner=owner))


async def fill_database(url: str) -> None:
    """Fill a new database with answers of the local user of the last thirty days."""
    store = SqlStore(url)
    await store.open()
    today = int(time.time()) // 86_400
    await fill(store, answers(3000, first_day=today - 29, days=30, owner=LOCAL.owner), LOCAL.owner)
    await store.close()


if __name__ == "__main__":
    asyncio.run(fill_database(sys.argv[1]))
