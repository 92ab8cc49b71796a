"""An answer that is a value of a type, shown while it is written.

python examples/library_output.py openai/gpt-6.1-sol "Three cities in Austria"

Without a model's name a simulated one answers, which repeats the question: give it JSON.
"""

# pyright: strict

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass

import turnstream as ts


@dataclass
class City:
    name: str
    people: int


@dataclass
class Cities:
    country: str
    cities: list[City]


async def ask(model: str, question: str) -> Cities:
    async with ts.LLM(model).stream(question, output=Cities) as stream:
        async for value in stream.partials:
            names = [city.get("name", "…") for city in value.get("cities", [])]
            print(f"\r{value.get('country', '…')}: {', '.join(names)}", end="", flush=True)
        print()
        return await stream.final_output()


async def main(model: str, question: str) -> int:
    try:
        cities = await ask(model, question)
    except ts.InvalidOutput as error:
        print(f"not what was asked for: {error.detail}", file=sys.stderr)
        return 1
    for city in cities.cities:
        print(f"{city.name:20} {city.people:>12,}")
    return 0


_EXAMPLE = '{"country": "Austria", "cities": [{"name": "Vienna", "people": 2014614}, {"name": "Graz", "people": 302749}]}'

if __name__ == "__main__":
    chosen = sys.argv[1] if len(sys.argv) > 1 else "sim/echo"
    asked = sys.argv[2] if len(sys.argv) > 2 else _EXAMPLE
    sys.exit(asyncio.run(main(chosen, asked)))
