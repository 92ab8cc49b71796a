"""Make the animated picture of the README: an answer that continues while its page is reloaded.

    python scripts/page_animation.py [FILE]

It needs a built page (`make page`), Chromium, and Pillow, which is not a dependency of the project:
`uv run --with pillow python scripts/page_animation.py`. `web/app/tests/browser/reload_pictures.ts` takes
pictures of the real page. The file is an animated WebP.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image  # pyright: ignore[reportMissingImports]

PROJECT = Path(__file__).parents[1]
NODE = PROJECT / ".tools" / "clients" / "node" / "wheel" / "bin" / "node"
PICTURES = PROJECT / "web" / "app" / "tests" / "browser" / "reload_pictures.ts"
TARGET = PROJECT / "docs" / "images" / "reload.webp"
MOST_BYTES = 600_000
MILLISECONDS = 120
LAST_MILLISECONDS = 2500
"""Time of the last picture: the complete answer."""


def main() -> None:
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else TARGET
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([NODE, PICTURES, folder], check=True, timeout=120, cwd=PICTURES.parent)
        frames = [Image.open(path).convert("RGB") for path in sorted(Path(folder).glob("*.png"))]
    times = [MILLISECONDS] * (len(frames) - 1) + [LAST_MILLISECONDS]
    frames[0].save(
        target, save_all=True, append_images=frames[1:], duration=times, loop=0, quality=60, method=6
    )
    size = target.stat().st_size
    if size > MOST_BYTES:
        raise SystemExit(f"{target} has {size} bytes, more than {MOST_BYTES}: take fewer or smaller pictures")
    print(f"{target}: {len(frames)} pictures, {size} bytes")


if __name__ == "__main__":
    main()
