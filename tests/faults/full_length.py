"""The sixteen faults at full length, twice: with the baseline that gateways are compared with (two retries,
30 s), and with our defaults.

`python -m tests.faults.full_length` prints how each turn ended, and exits with 1 if one did not end as it
must. It takes about two minutes: every wait is real, and all faults run at once. With `--alone` each fault
also runs without a fallback, with the baseline. Our defaults are more patient with a model that is alone.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple

from tests.faults.survival import Faces, asked, check, faces_of, outlive
from tests.faults.survival_faults import BASELINE, FAULTS, FULL, OTHER_WORDS, Fault
from tests.server import live

FACES = ("server", "library", "chat")
_LONGEST_TRY = 600.0


class Line(NamedTuple):
    """One line of the table."""

    fault: str
    face: str
    fallback: str
    ended: str
    calls: str
    seconds: float
    verdict: str


async def try_fault(faces: Faces, fault: Fault, face: str, *, with_fallback: bool) -> Line:
    label = f"{fault.name.replace(',', '')} {face} {with_fallback}"
    models = asked(fault, faces.scale, label)
    outcome = await getattr(faces, face)(models, with_fallback=with_fallback)
    try:
        check(fault, faces, models, outcome, with_fallback=with_fallback)
        verdict = "ok"
    except AssertionError as error:
        verdict = f"WRONG: {error}"[:300]
    calls = " + ".join(str(len(faces.requests(name))) for name in models.names)
    return Line(
        fault.name,
        face,
        "yes" if with_fallback else "no",
        outcome.code or "complete",
        calls,
        outcome.seconds,
        verdict,
    )


async def try_outage(faces: Faces, face: str) -> Line:
    began = asyncio.get_running_loop().time()
    try:
        outage = await outlive(faces, face, f"outage {face}", between=2.0)
        verdict = "ok" if outage.skipped and outage.answered_by[-1].startswith("primary") else "WRONG"
        ended = f"{len(outage.answered_by)} turns, {outage.skipped} without a call of it"
        calls = f"{outage.called} failed"
    except AssertionError as error:
        verdict, ended, calls = f"WRONG: {error}"[:300], "", ""
    seconds = asyncio.get_running_loop().time() - began
    return Line("down for a minute, then healthy", face, "yes", ended, calls, seconds, verdict)


async def try_all(faces: Faces, *, alone: bool) -> list[Line]:
    tries: list[Coroutine[Any, Any, Line]] = [
        try_fault(faces, fault, face, with_fallback=with_fallback)
        for fault in (*FAULTS, *OTHER_WORDS)
        for face in FACES
        for with_fallback in ((True, False) if alone else (True,))
    ]
    return await asyncio.gather(*tries, *(try_outage(faces, face) for face in FACES))


async def try_both(folders: dict[str, Path], *, alone: bool) -> dict[str, list[Line]]:
    async with AsyncExitStack() as held:
        made = [
            await held.enter_async_context(faces_of(folder, FULL[setting]._replace(within=_LONGEST_TRY)))
            for setting, folder in folders.items()
        ]
        tried = await asyncio.gather(
            *(try_all(faces, alone=alone and faces.scale.timeouts == BASELINE.timeouts) for faces in made)
        )
    return dict(zip(folders, tried, strict=True))


def show(setting: str, lines: list[Line]) -> bool:
    """Print the table of one setting. Return True if every row is as it must be."""
    print(f"\n== {setting}")
    print(f"{'fault':46} {'face':8} {'fallback':8} {'ended':40} {'calls':9} {'s':>6}  verdict")
    for line in lines:
        print(
            f"{line.fault:46} {line.face:8} {line.fallback:8} {line.ended:40} {line.calls:9} "
            f"{line.seconds:6.1f}  {line.verdict}"
        )
    wrong = {line.fault for line in lines if line.verdict != "ok"}
    sixteen = {line.fault for line in lines} - {fault.name for fault in OTHER_WORDS}
    longest = max(line.seconds for line in lines if line.fallback == "yes" and "minute" not in line.fault)
    print(
        f"{len(sixteen - wrong)} of {len(sixteen)} faults end as they must, "
        f"{len(wrong - sixteen)} of {len(OTHER_WORDS)} answers in other words do not; with a fallback after "
        f"{longest:.0f} s at the latest"
    )
    return not wrong


def main() -> int:
    live.SECONDS = _LONGEST_TRY
    with tempfile.TemporaryDirectory() as folder:
        folders = {setting: Path(folder) / setting for setting in FULL}
        for one in folders.values():
            one.mkdir()
        tried = asyncio.run(try_both(folders, alone="--alone" in sys.argv[1:]))
    as_they_must = [show(setting, lines) for setting, lines in tried.items()]
    return 0 if all(as_they_must) else 1


if __name__ == "__main__":
    sys.exit(main())
