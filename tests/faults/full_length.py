"""The sixteen faults once, at full length: `python -m tests.faults.full_length` prints how each ended, and exits with 1 where
one did not end as it must. It takes about two minutes: every wait is a true one, and all faults are tried at once."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from tests.faults.survival import FAULTS, FULL, Faces, Fault, asked, check, faces_of, outlive
from tests.server import live

FACES = ("server", "library")
_LONGEST_TRY = 300.0


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
    models = asked(fault, FULL, f"{fault.name.replace(',', '')} {face} {with_fallback}")
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


async def try_all(folder: Path) -> list[Line]:
    async with faces_of(folder, FULL) as faces, asyncio.timeout(_LONGEST_TRY):
        tries = [
            try_fault(faces, fault, face, with_fallback=with_fallback)
            for fault in FAULTS
            for face in FACES
            for with_fallback in (True, False)
        ]
        return await asyncio.gather(*tries, *(try_outage(faces, face) for face in FACES))


def main() -> int:
    live.SECONDS = _LONGEST_TRY
    with tempfile.TemporaryDirectory() as folder:
        lines = asyncio.run(try_all(Path(folder)))
    print(f"{'fault':42} {'face':8} {'fallback':8} {'ended':40} {'calls':9} {'s':>6}  verdict")
    for line in lines:
        print(
            f"{line.fault:42} {line.face:8} {line.fallback:8} {line.ended:40} {line.calls:9} "
            f"{line.seconds:6.1f}  {line.verdict}"
        )
    wrong = [line for line in lines if line.verdict != "ok"]
    print(f"{len(lines) - len(wrong)} of {len(lines)} as they must be")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
