"""A process that writes blocks until it is killed, and prints a line `turn sequence` for each stored block.

python endless_writer.py URL WRITERS
"""

from __future__ import annotations

import asyncio
import os
import sys

from tests.store.samples import running_turn, save
from turnstream.store.base import TurnRecord
from turnstream.store.sql import SqlStore


async def write_endlessly(store: SqlStore, turn: TurnRecord) -> None:
    sequence = 0
    while True:
        await store.write(save(turn, sequence, f"block {sequence} " * 20))
        os.write(1, f"{turn.id} {sequence}\n".encode())
        sequence += 1


async def main(url: str, writers: int) -> None:
    store = SqlStore(url)
    await store.open()
    turns = [await running_turn(store) for _ in range(writers)]
    await asyncio.gather(*(write_endlessly(store, turn) for turn in turns))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
