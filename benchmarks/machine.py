"""A description of the machine."""

from __future__ import annotations

import os
import platform
import tempfile
import time
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

import psutil

_PACKAGES = ("uvloop", "uvicorn", "aiohttp", "msgspec", "fastapi", "anthropic", "openai")
_SYNCS = 30


def describe() -> str:
    """Return the machine, the date, the interpreter, the libraries, and the load of other work."""
    memory = psutil.virtual_memory().total / 2**30
    load = os.getloadavg()[0]
    return (
        f"{date.today().isoformat()}, {_processor()}, {os.cpu_count()} cores, {memory:.0f} GiB, "  # noqa: DTZ011
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}\n"
        f"{', '.join(f'{name} {_version(name)}' for name in _PACKAGES)}\n"
        f"load average {load:.1f}; fdatasync of 4 KiB on this disk takes {sync_milliseconds():.2f} ms"
    )


def sync_milliseconds() -> float:
    """Return the median seconds that this disk takes to make a write durable."""
    seen: list[float] = []
    with tempfile.NamedTemporaryFile() as file:
        for _ in range(_SYNCS):
            file.write(bytes(4096))
            file.flush()
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            seen.append(time.perf_counter() - began)
    return median(seen) * 1000


def _processor() -> str:
    names = Path("/proc/cpuinfo")
    if names.exists():
        for line in names.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "(not installed)"
