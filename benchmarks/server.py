"""turnstream as it serves, with one provider, for measurement: everything on, database on disk.

python -m benchmarks.server UPSTREAM_PORT DIRECTORY [RING_BYTES]
"""

from __future__ import annotations

import asyncio
import signal
import sys

import uvloop

from benchmarks.processes import SERVER_CORE, give_back_memory, pin
from turnstream.config import EngineSettings, ProviderSettings
from turnstream.engine import Engine
from turnstream.server.running import bind, run_application

PROVIDER = "bench"


async def main(upstream_port: int, directory: str, ring_bytes: int) -> None:
    pin(SERVER_CORE)
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, give_back_memory)
    provider = ProviderSettings(wire="anthropic", base_url=f"http://127.0.0.1:{upstream_port}")
    engine = Engine(
        f"sqlite:///{directory}/benchmark.sqlite",
        settings=EngineSettings(ring_bytes=ring_bytes),
        providers={PROVIDER: provider},
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


if __name__ == "__main__":
    ring = int(sys.argv[3]) if len(sys.argv) > 3 else EngineSettings().ring_bytes
    uvloop.run(main(int(sys.argv[1]), sys.argv[2], ring))
