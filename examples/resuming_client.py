"""A question from a script, answered in full whatever happens on the way. Run a server (`make serve`), then

python examples/resuming_client.py "Why is the sky blue?"

and restart the server, or take the network away, while the answer comes.
"""

import asyncio
import sys

from turnstream.client import AsyncClient
from turnstream.core.turn_events import BlockCatchup, BlockDelta, BlockReset, Notice


async def ask(url: str, question: str) -> int:
    async with AsyncClient(url) as client, await client.send(question) as turn:
        async for event in turn:
            match event:
                case BlockDelta(block_type="text", field="text", value=text):
                    print(text, end="", flush=True)
                case BlockCatchup() | BlockReset() | Notice(code="truncated"):
                    # What was printed of a block no longer holds: `turn` has what does.
                    print(f"\n--- so far:\n{turn.text}", end="", flush=True)
                case _:
                    pass
        print(f"\n[{turn.status}, {turn.usage}, {turn.losses} connections lost]", file=sys.stderr)
        return 0 if turn.status == "complete" else 1


if __name__ == "__main__":
    question = sys.argv[1] if len(sys.argv) > 1 else "Why is the sky blue?"
    address = sys.argv[2] if len(sys.argv) > 2 else "http://127.0.0.1:8089"
    sys.exit(asyncio.run(ask(address, question)))
