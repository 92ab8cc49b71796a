"""A conversation without asyncio; and several questions at once, from threads.

python examples/library_sync.py ollama/qwen3:8b "Why is the sky blue?" "And at night?"

Without a model's name a simulated one answers, which needs no key.
"""

# pyright: strict

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import turnstream as ts


def converse(llm: ts.LLM, questions: list[str]) -> None:
    """Ask one question after another. The model gets the earlier messages with each."""
    chat = llm.conversation()
    for question in questions:
        with chat.stream_sync(question) as stream:
            print(f"\n> {question}")
            for text in stream.text:
                print(text, end="", flush=True)
    print()


def ask_all(llm: ts.LLM, questions: list[str]) -> list[str]:
    """Ask all of them at once."""

    def ask(question: str) -> str:
        return llm.collect_sync(question).text

    with ThreadPoolExecutor() as pool:
        return list(pool.map(ask, questions))


def main(model: str, questions: list[str]) -> int:
    llm = ts.LLM(model)
    converse(llm, questions)
    for answer in ask_all(llm, questions):
        print(f"- {answer[:60]}")
    return 0


if __name__ == "__main__":
    chosen = sys.argv[1] if len(sys.argv) > 1 else "sim/echo"
    sys.exit(main(chosen, sys.argv[2:] or ["Why is the sky blue?", "And at night?"]))
