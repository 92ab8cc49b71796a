"""Writes the stored pictures of the chat window anew, in tests/terminal/snapshots.

    python scripts/terminal_snapshots.py [--svg FOLDER] [STATE …]

Without states, all are written. With --svg, the script also keeps pictures to look at in FOLDER.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.terminal.pictures import SIZES, picture, store
from tests.terminal.scenes import SCENES

SAME = 10
"""Equal pictures in a row after which a state counts as drawn."""
LIMIT = 1_000


async def write(state: str, svg: Path | None) -> None:
    """Write the pictures of a state."""
    pictures: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        async with SCENES[state](Path(folder)) as shown:
            for size in SIZES:
                await shown.pilot.resize_terminal(*size)
                seen: list[str] = []
                while len(seen) < SAME or len(set(seen[-SAME:])) > 1:
                    await shown.pilot.pause(0.05)
                    seen.append(picture(shown))
                    if len(seen) > LIMIT:
                        raise RuntimeError(f"{state} does not come to rest")
                pictures.append(seen[-1])
                if svg is not None:
                    name = f"{state}-{size[0]}x{size[1]}.svg"
                    (svg / name).write_text(shown.app.export_screenshot(), encoding="utf-8")
    store(state, pictures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("states", nargs="*", metavar="STATE", help=", ".join(SCENES))
    parser.add_argument("--svg", type=Path, metavar="FOLDER", help="keep SVG pictures here")
    arguments = parser.parse_args()
    if arguments.svg is not None:
        arguments.svg.mkdir(parents=True, exist_ok=True)
    for state in arguments.states or SCENES:
        asyncio.run(write(state, arguments.svg))
        sys.stdout.write(f"{state}\n")


if __name__ == "__main__":
    main()
