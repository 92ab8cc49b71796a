"""The library `llm` against a server. Each case prints one line of JSON: its name and outcome.

Arguments: the address of the server, and the addresses of proxies that cut their first connection.
Each case asks a question of its own, by which the test finds the stored turns.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable
from typing import Any

import llm
from llm.default_plugins.openai_models import Chat

URL, *CUTTERS = sys.argv[1:]
STORY = "sim/story:events=30,pace=0"
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def model_of(model: str, url: str = URL) -> Chat:
    return Chat(
        model,
        key="any",
        model_name=model,
        api_base=url + "/v1",
        vision=True,
        supports_schema=True,
        supports_tools=True,
    )


def read(name: str, model: str = STORY, url: str = URL, **given: Any) -> dict[str, Any]:
    """Return the text of an answer, or the failure with the text before it."""
    text = ""
    try:
        for piece in model_of(model, url).prompt(f"question of {name}", **given):
            text += piece
    except Exception as error:  # noqa: BLE001 - the library passes the errors of its client on
        return {"error": type(error).__name__, "status": getattr(error, "status_code", None), "part": text}
    return {"text": text}


def tools(name: str) -> dict[str, Any]:
    def weather(city: str) -> str:
        """Tell the weather."""
        return f"clear sky in {city}"

    chain = model_of("sim/tools:pace=0").chain(f"question of {name}", tools=[weather])
    responses = list(chain.responses())
    return {"text": responses[-1].text(), "rounds": len(responses)}


def structured(name: str) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    answer = model_of("sim/echo:pace=0").prompt(json.dumps({"city": name}), schema=schema)
    return json.loads(answer.text())


CASES: dict[str, Callable[[str], Any]] = {
    "llm plain": lambda name: read(name, stream=False),
    "llm streamed": read,
    "llm tools": tools,
    "llm structured": structured,
    "llm image": lambda name: read(
        name, "sim/echo:pace=0", attachments=[llm.Attachment(content=base64.b64decode(PNG))]
    ),
    "llm faultBefore": lambda name: read(name, "sim/story:events=9,pace=0,fault=error-before,status=401"),
    "llm faultAfter": lambda name: read(name, "sim/story:events=9,pace=0,fault=cut,after=6"),
}
for place, cutter in enumerate(CUTTERS):
    CASES[f"llm cut {place}"] = lambda name, url=cutter: read(name, "sim/story:events=40,pace=0.002", url)

for case, run in CASES.items():
    json.dump({"name": case, "outcome": run(case)}, sys.stdout)
    sys.stdout.write("\n")
