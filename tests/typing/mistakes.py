"""Mistakes that both checkers must refuse, one a line, each with a mark of its kind."""

# pyright: strict, reportUnusedExpression=false

from __future__ import annotations

import msgspec

import turnstream as ts


class City(msgspec.Struct):
    name: str


async def mistakes(llm: ts.LLM) -> None:
    llm.stream("Why?", temprature=1)  # WRONG: no such option
    llm.stream(3)  # WRONG: no prompt
    llm.stream("Why?", output=3)  # WRONG: no type
    async with llm.stream("Why?", output=City) as stream:
        city: int = await stream.final_output()  # WRONG: it is a City
        print(city)
        (await stream.final_message()).txt  # noqa: B018 # WRONG: no such attribute
    with llm.stream("Why?"):  # WRONG: it is async
        pass
