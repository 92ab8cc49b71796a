"""An agent over a folder of notes: it searches, reads, answers, and asks you if it finds too little.

python examples/agent.py NOTES "What did we decide?"                                # simulated, no key
python examples/agent.py NOTES "What did we decide?" anthropic/claude-sonnet-5-5    # a real model
"""

import asyncio
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from turnstream import LLM, BlockDelta, Data, Engine
from turnstream.workflow import ContextItem, Workflow


class Notes:
    def __init__(self, folder: Path) -> None:
        self._texts = {file.stem: file.read_text(encoding="utf-8") for file in sorted(folder.glob("*.md"))}

    def search_notes(self, words: str) -> list[str]:
        """Return the names of the notes that have the most of these words."""
        asked = set(re.findall(r"\w{3,}", words.lower()))
        found = {n: len(asked & {*re.findall(r"\w+", f"{n} {t}".lower())}) for n, t in self._texts.items()}
        return [name for name, hits in sorted(found.items(), key=lambda item: -item[1]) if hits][:5]

    def read_note(self, name: str) -> str:
        """Return the text of a note."""
        return self._texts.get(name, "there is no such note")

    async def retrieve(self, request: str) -> Sequence[ContextItem]:
        return [ContextItem(self.read_note(name), "notes", name) for name in self.search_notes(request)]


async def main(folder: Path, question: str, model: str = "sim/demo:pace=0.001") -> int:
    notes = Notes(folder)
    agent = Workflow(LLM(model), tools=[notes.search_notes, notes.read_note], retrieve=notes.retrieve)
    state = agent.new_state(question)
    async with Engine("sqlite:///agent.sqlite") as engine:
        while True:
            turn = await engine.start(agent.source(state))
            async for event in turn.events():
                match event:
                    case Data(name="workflow", data={"type": "thinking" | "running", "content": step}):
                        print(f"[{step}]", file=sys.stderr)
                    case BlockDelta(block_type="text", value=text):
                        print(text, end="", flush=True)
                    case _:
                        pass
            end = (await turn.wait()).turn
            tokens = f"{end.usage.input_tokens or 0} + {end.usage.output_tokens or 0} tokens"
            print(f"\n[{end.error_message or end.status}, {tokens}, ${end.cost or 0}]", file=sys.stderr)
            if state.question is None or not sys.stdin.isatty():
                return 0 if end.status == "complete" else 1
            state.answered(await asyncio.to_thread(input, "> "))


if __name__ == "__main__":
    sys.exit(asyncio.run(main(Path(sys.argv[1]), *sys.argv[2:])) if len(sys.argv) > 2 else __doc__)
