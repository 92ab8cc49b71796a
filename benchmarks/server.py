"""turnstream as `serve` runs it, with one provider, for measurement: all parts on, the database on disk.

python -m benchmarks.server UPSTREAM_PORT DIRECTORY [--ring BYTES] [--tools]
"""

from __future__ import annotations

import argparse
import asyncio
import signal

import uvloop

from benchmarks.processes import SERVER_CORE, give_back_memory, pin
from turnstream.config import EngineSettings, ProviderSettings
from turnstream.engine import Engine
from turnstream.server.uvicorn_server import bind, run_application
from turnstream.tools.builtin import calculator, clock

PROVIDER = "bench"


async def main(given: argparse.Namespace) -> None:
    pin(SERVER_CORE)
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, give_back_memory)
    provider = ProviderSettings(wire="anthropic", base_url=f"http://127.0.0.1:{given.upstream_port}")
    engine = Engine(
        f"sqlite:///{given.directory}/benchmark.sqlite",
        settings=EngineSettings(ring_bytes=given.ring),
        providers={PROVIDER: provider},
        tools=(calculator, clock) if given.tools else (),
    )
    bound = bind("127.0.0.1", 0)
    port = bound[0].getsockname()[1]
    async with engine:
        await run_application(
            engine.application(),
            bound,
            drain=engine.drain,
            grace=0,
            on_listening=lambda: print("ready", port, flush=True),
        )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("upstream_port", type=int)
    parser.add_argument("directory")
    parser.add_argument("--ring", type=int, default=EngineSettings().ring_bytes)
    parser.add_argument("--tools", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    uvloop.run(main(arguments()))
