"""An agent over a folder of notes: it searches, reads, answers, and asks if it finds too little.

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
        self._files = {file.stem: file for file in sorted(folder.glob("*.md"))}

    def search_notes(self, words: str) -> list[str]:
        """Return the names of the notes that have the most of these words."""
        asked = set(re.findall(r"\w{3,}", words.lower()))
        found = {name: len(asked & set(self._words(name))) for name in self._files}
        return [name for name, hits in sorted(found.items(), key=lambda item: -item[1]) if hits][:5]

    def read_note(self, name: str) -> str:
        """Return the text of a note."""
        return (
            self._files[name].read_text(encoding="utf-8") if name in self._files else "there is no such note"
        )

    async def retrieve(self, request: str) -> Sequence[ContextItem]:
        return [ContextItem(self.read_note(name), "notes", name) for name in self.search_notes(request)]

    def _words(self, name: str) -> list[str]:
        return re.findall(r"\w+", f"{name} {self.read_note(name)}".lower())


async def main(folder: Path, question: str, model: str = "sim/demo") -> int:
    notes = Notes(folder)
    agent = Workflow(LLM(model), tools=[notes.search_notes, notes.read_note], retrieve=notes.retrieve)
    async with Engine("sqlite:///agent.sqlite") as engine:
        turn = await engine.start(agent.source(question))
        async for event in turn.events():
            match event:
                case Data(name="workflow", data={"type": "thinking" | "running" as kind, "content": content}):
                    print(f"[{kind}: {content}]", file=sys.stderr)
                case BlockDelta(block_type="text", value=text):
                    print(text, end="", flush=True)
                case _:
                    pass
        ended = (await turn.wait()).turn
    print(f"\n[{ended.status}, {ended.usage}, ${ended.cost}]", file=sys.stderr)
    return 0 if ended.status == "complete" else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main(Path(sys.argv[1]), *sys.argv[2:])))
