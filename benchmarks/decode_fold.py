"""Decode and fold: provider bytes to blocks, in this process, compared with the official SDKs.

No network is used. The unit is µs of one core per delta: the least of several passes, which alternate between
turnstream and the SDKs.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from benchmarks.bodies import recorded_bodies, text_body, tool_body
from benchmarks.report import Line
from benchmarks.sdk_folds import SDK_FOLDS, Fold
from turnstream.core.accumulator import Accumulator
from turnstream.core.stream_events import StreamEvent
from turnstream.errors import ProviderError
from turnstream.wires import WIRES

READ_SIZE = 64 * 1024
FEW, MANY = 2_000, 8_000
ONE_PER_READ = ", one event per read"
GOAL = 1.5
LINEAR = 1.2


class Case(NamedTuple):
    """Pieces of a body as reads bring them, and the number of events to divide by."""

    name: str
    pieces: Sequence[bytes]
    events: int
    fold: Fold


def our_fold(wire: str) -> Fold:
    """Fold the pieces of a body into blocks and turn events, as the server does.

    `extend_shown` takes deltas that only add text to the shown block. All other events are folded.
    """

    def fold(pieces: Sequence[bytes]) -> object:
        decoder = WIRES[wire].decoder()
        accumulator = Accumulator()
        blocks: list[object] = []
        for piece in pieces:
            events = decoder.feed(piece)
            if not events or accumulator.extend_shown(events) is None:
                _take(accumulator, events, blocks)
        _take(accumulator, decoder.close(), blocks)
        return blocks

    return fold


def _take(accumulator: Accumulator, events: Sequence[StreamEvent], blocks: list[object]) -> None:
    position = 0
    while True:
        position = accumulator.fold(events, position)
        accumulator.take_changes()
        if accumulator.finished is None:
            return
        blocks.append(accumulator.finished)
        accumulator.release()


def joined(frames: Sequence[bytes]) -> list[bytes]:
    """Return the body in reads of 64 KiB."""
    body = b"".join(frames)
    return [body[start : start + READ_SIZE] for start in range(0, len(body), READ_SIZE)]


def cases(wire: str) -> list[Case]:
    ours = our_fold(wire)
    text = text_body(wire, MANY)
    few, many = tool_body(wire, FEW), tool_body(wire, MANY)
    found = [
        Case("text, 64 KiB reads", joined(text), MANY, ours),
        Case(f"text{ONE_PER_READ}", text, MANY, ours),
        Case(f"tool arguments, {FEW:,}", joined(few), FEW, ours),
        Case(f"tool arguments, {MANY:,}", joined(many), MANY, ours),
        Case(f"tool arguments, {FEW:,}{ONE_PER_READ}", few, FEW, ours),
        Case(f"tool arguments, {MANY:,}{ONE_PER_READ}", many, MANY, ours),
    ]
    found.extend(_recorded(wire, ours))
    sdk = SDK_FOLDS[wire]()
    found.append(Case("SDK: text, 64 KiB reads", joined(text_body(wire, FEW)), FEW, sdk))
    found.append(Case(f"SDK: tool arguments, {FEW:,}", joined(few), FEW, sdk))
    return found


def _recorded(wire: str, fold: Fold) -> list[Case]:
    """Return all complete recordings as one case. They are short, so their beginnings and ends matter."""
    bodies = [joined([body]) for body in recorded_bodies(wire)]
    good = [pieces for pieces in bodies if _folds(fold, pieces)]
    if not good:
        return []
    events = sum(piece.count(b"data:") for pieces in good for piece in pieces)

    def fold_all(_pieces: Sequence[bytes]) -> object:
        return [fold(pieces) for pieces in good]

    return [Case(f"{len(good)} recordings, 64 KiB reads", [], events, fold_all)]


def _folds(fold: Fold, pieces: Sequence[bytes]) -> bool:
    try:
        fold(pieces)
    except ProviderError:
        return False
    return True


def measure(some: Sequence[Case], passes: int) -> dict[str, float]:
    """Return the µs per event of each case.

    As in the server, the objects that exist at the start are frozen. Otherwise each system would pay for the
    modules of all.
    """
    gc.collect()
    gc.freeze()
    best = {case.name: float("inf") for case in some}
    for _ in range(passes):
        for case in some:
            best[case.name] = min(best[case.name], _timed(case))
    return best


def _timed(case: Case) -> float:
    gc.collect()
    began = time.process_time()
    case.fold(case.pieces)
    return (time.process_time() - began) / case.events * 1e6


def run(*, quick: bool) -> Iterator[Line]:
    """Yield all lines of this benchmark."""
    for wire in SDK_FOLDS:
        some = cases(wire)
        seen = measure(some, 3 if quick else 15)
        for case in some:
            goal = None if case.name.startswith("SDK") or "recordings" in case.name else GOAL
            yield Line(f"{wire}: {case.name}", seen[case.name], "µs", goal, note="per event")
        for tail in ("", ONE_PER_READ):
            few, many = (seen[f"tool arguments, {count:,}{tail}"] for count in (FEW, MANY))
            yield Line(f"{wire}: tool arguments{tail}, {MANY:,} over {FEW:,}", many / few, "times", LINEAR)
