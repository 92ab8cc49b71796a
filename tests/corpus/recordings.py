"""The recorded provider streams, and the cuts of tests."""

from __future__ import annotations

import gzip
import json
import os
import random
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from turnstream.wires.base import Wire
from turnstream.wires.recording import frame_line

SHORT = 3000
"""Bytes up to which a body is cut at every place."""


class Recording(NamedTuple):
    """One file of the corpus, named by its path below the corpus folder. `entry` is its row of the index."""

    folder: Path
    name: str
    entry: dict[str, Any]

    @property
    def data(self) -> bytes:
        return (self.folder / self.name).read_bytes()

    @property
    def expected(self) -> dict[str, Any]:
        path = self.folder / self.name
        stem = path.name.removesuffix(".gz").rpartition(".")[0]
        return json.loads((path.parent / f"{stem}.expected.json").read_text(encoding="utf-8"))

    def body(self, wire: Wire) -> bytes:
        """Return the answer's body, framed like the provider's."""
        data = gzip.decompress(self.data) if self.name.endswith(".gz") else self.data
        if ".jsonl" not in self.name:
            return data
        return b"".join(frame_line(wire, line) for line in data.split(b"\n") if line.strip())


def recordings(wire_name: str) -> list[Any]:
    """Return every recording of a wire as parameters of a test, or one parameter that skips if there is no
    corpus."""
    folder = os.environ.get("TURNSTREAM_CORPUS")
    if not folder:
        return [
            pytest.param(None, id="no-corpus", marks=pytest.mark.skip(reason="TURNSTREAM_CORPUS is not set"))
        ]
    index = json.loads((Path(folder) / "index.json").read_text(encoding="utf-8"))
    return [
        pytest.param(Recording(Path(folder), entry["file"], entry), id=entry["file"])
        for entry in index
        if entry["wire"] == wire_name
    ]


def every_cut(body: bytes) -> Iterator[tuple[bytes, bytes]]:
    for place in range(1, len(body)):
        yield body[:place], body[place:]


def random_cuts(body: bytes, *, times: int, seed: str) -> Iterator[list[bytes]]:
    """Return cuts of every density. They are the same in every run."""
    chance = random.Random(seed)
    for _ in range(times):
        count = min(len(body) - 1, int(2 ** chance.uniform(0, 9)))
        yield pieces_at(body, chance.sample(range(1, len(body)), count))


def single_bytes(body: bytes) -> Iterator[bytes]:
    return (body[place : place + 1] for place in range(len(body)))


def pieces_at(body: bytes, places: Iterable[int]) -> list[bytes]:
    bounds = [0, *sorted(places), len(body)]
    return [body[start:end] for start, end in pairwise(bounds)]
