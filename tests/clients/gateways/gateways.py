"""Gateways of others: between a client and turnstream, and between turnstream and a provider.

    client ─► gateway ─► turnstream ─► model            in front
    client ─► turnstream ─► gateway ─► simulator        behind

A gateway names the models that clients ask for, and the addresses that it calls. One process of each client
makes all calls.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from tests.cli.cutting_proxy import CuttingProxy
from tests.cli.programs import Program, listening
from tests.clients.dialects.witnesses import (
    CUTS,
    StoredTurn,
    Witness,
    outcomes_of,
    stored_chats,
)
from tests.clients.running import PROJECT

MODELS = {
    "story": "story:events=30,pace=0",
    "tools": "tools:pace=0",
    "thinking": "thinking:pace=0",
    "echo": "echo:pace=0",
    "long": "story:events=400,pace=0.005",
    "refusing": "story:events=9,pace=0,fault=error-before,status=401",
    "breaking": "story:events=9,pace=0,fault=cut,after=6",
    "paced": "story:events=60,pace=0.002",
}
"""Models of the simulator, by the names of these tests."""
PLACES = ("in front", "behind")
CUT = tuple(f"cut{number}" for number in range(len(CUTS)))
"""Names of the model `paced` behind a connection that is cut."""
PATHS = {"chat": "/v1", "messages": ""}
WIRES = {"chat": "openai-chat", "messages": "anthropic"}
MISSING = {"responses": ("image", "structured", "left", "plain_tools"), "messages": ("structured",)}
"""Kinds of calls that the clients' scripts do not have, by the protocol."""
SCRIPTS = {"openai": "openai_calls.py", "anthropic": "anthropic_calls.py"}
"""Scripts of the clients, by their environments."""


class Addresses(NamedTuple):
    """Addresses of the programs.

    Attributes:
        cut: Addresses of proxies before turnstream, by the protocol and a name of CUT. Each cuts its first
            connection.
    """

    turnstream: str
    simulator: str
    gateway: str
    cut: Mapping[str, Mapping[str, str]] = {}

    def turnstream_for(self, protocol: str, model: str) -> str:
        """Return the address at which a gateway calls a model of turnstream."""
        return self.cut[protocol].get(model, self.turnstream)


class Asked(NamedTuple):
    """A gateway's side of a call.

    Attributes:
        model: Name of the model for the gateway.
        headers: Headers that the gateway needs.
    """

    model: str
    headers: Mapping[str, str] = {}


class Gateway(Protocol):
    """A gateway of others.

    Attributes:
        environ: Variables of its process.
        is_ready: Pattern of its output when it listens.
        tells_errors: True if that is its standard error.
    """

    environ: Mapping[str, str]
    is_ready: str
    tells_errors: bool

    def command(self, addresses: Addresses, folder: Path) -> Sequence[str | Path]:
        """Return the command that starts the gateway. `folder`: for its settings."""
        ...

    def in_front(self, call: Call, addresses: Addresses) -> Asked:
        """Return the gateway's side of a client's call, which the gateway passes to turnstream."""
        ...

    def behind(self, protocol: str, model: str, addresses: Addresses) -> Asked:
        """Return the gateway's side of a call by turnstream, which the gateway passes to the simulator."""
        ...


class Call(NamedTuple):
    """A call of a client.

    Attributes:
        case: Name of the case.
        place: "in front" or "behind": the place of the gateway, as turnstream's clients see it.
        protocol: chat, messages or responses.
        kind: Method of the client's script that makes the call.
        model: A name of MODELS or CUT, or "safe": a model that is refused, with the fallback `story`.
    """

    case: str
    place: str
    protocol: str
    kind: str
    model: str

    @property
    def name(self) -> str:
        """The name of the call's outcome."""
        return f"{self.case} of {self.protocol} {self.place}"

    @property
    def environment(self) -> str:
        """Name of the client's environment."""
        return "anthropic" if self.protocol == "messages" else "openai"


def model_of_turnstream(name: str) -> str:
    """Return turnstream's name of a model in front of which the gateway is."""
    return name if name == "safe" else f"sim/{script_of(name)}"


def script_of(name: str) -> str:
    """Return the simulator's name of a model."""
    return MODELS["paced" if name in CUT else name]


async def run_calls(gateway: Gateway, calls: Sequence[Call], folder: Path) -> Witness:
    """Make the calls. Return their outcomes, and the chats that turnstream has stored."""
    environ = {"PYTHONPATH": str(PROJECT)}
    ports = [_free_port(), _free_port()]
    turnstream, address = (f"http://127.0.0.1:{port}" for port in ports)
    async with AsyncExitStack() as stack:
        simulate = Program("simulate", "--port", "0", cwd=folder, environ=environ)
        simulator = await listening(await stack.enter_async_context(simulate))
        front, behind = [
            {protocol: await _cutting(stack, port) for protocol in _protocols(calls, place)}
            for place, port in zip(PLACES, ports, strict=True)
        ]
        addresses = Addresses(turnstream, simulator, address, {key: _urls(cut) for key, cut in front.items()})
        before_gateway = {key: _urls(cut) for key, cut in behind.items()}
        (folder / "turnstream.toml").write_text(_settings(gateway, addresses, before_gateway))
        database = ("--database-url", f"sqlite:///{folder / 'witness.sqlite'}")
        serve = Program("serve", *database, "--port", str(ports[0]), cwd=folder, environ=environ)
        await listening(await stack.enter_async_context(serve))
        command = gateway.command(addresses, folder)
        program = Program(cwd=folder, command=command, environ=gateway.environ)
        await stack.enter_async_context(program)
        await program.until(gateway.is_ready, errors=gateway.tells_errors)
        each = [
            _outcomes(gateway, [call for call in calls if call.environment == environment], addresses)
            for environment in SCRIPTS
        ]
        outcomes = {name: outcome for found in await asyncio.gather(*each) for name, outcome in found.items()}
        for proxies in (*front.values(), *behind.values()):
            assert [proxy.cuts for proxy in proxies.values()] == [1] * len(CUT)
        return Witness(outcomes, await stored_chats(turnstream))


async def _outcomes(gateway: Gateway, calls: Sequence[Call], addresses: Addresses) -> dict[str, Any]:
    """Return the outcomes of calls of one client."""
    environment = calls[0].environment
    given = json.dumps([_asked(gateway, call, addresses) for call in calls]).encode()
    return await outcomes_of(str(Path(__file__).with_name(SCRIPTS[environment])), environment, given=given)


def _protocols(calls: Sequence[Call], place: str) -> list[str]:
    return sorted({call.protocol for call in calls if call.place == place})


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def _cutting(stack: AsyncExitStack, port: int) -> dict[str, CuttingProxy]:
    """Return proxies that cut their first POST to a port, by names of CUT."""
    proxies = [CuttingProxy(("127.0.0.1", port), [limit], "POST") for limit in CUTS]
    return dict(zip(CUT, [await stack.enter_async_context(proxy) for proxy in proxies], strict=True))


def _urls(proxies: Mapping[str, CuttingProxy]) -> dict[str, str]:
    return {name: proxy.url for name, proxy in proxies.items()}


def _settings(gateway: Gateway, addresses: Addresses, cutting: Mapping[str, Mapping[str, str]]) -> str:
    """Return turnstream's settings: a provider for each protocol of the gateway, and for each cut of it."""
    lines = ["[retry]\nattempts = 2\ndelay = 0.05\ncircuit_failures = 1000\nspacing = 0.01"]
    lines += _model("safe", "sim/" + MODELS["refusing"], "sim/" + MODELS["story"])
    for protocol, cut in cutting.items():
        refusing, story = (gateway.behind(protocol, name, addresses).model for name in ("refusing", "story"))
        lines += _model(f"safe-{protocol}", f"{protocol}/{refusing}", f"{protocol}/{story}")
        headers = gateway.behind(protocol, "story", addresses).headers
        entries = ", ".join(f"{_text(key)} = {_text(value)}" for key, value in headers.items())
        places = {protocol: addresses.gateway, **{f"{protocol}-{name}": url for name, url in cut.items()}}
        for name, url in places.items():
            lines += [
                f"[providers.{name}]\nwire = {_text(WIRES[protocol])}\nbase_url = {_text(url + PATHS[protocol])}"
            ]
            lines += [f"headers = {{ {entries} }}"]
    return "\n".join(lines)


def _model(name: str, model: str, fallback: str) -> list[str]:
    return [f"[models.{name}]\nmodel = {_text(model)}\nfallbacks = [{_text(fallback)}]"]


def _text(value: str) -> str:
    return json.dumps(value)


def _asked(gateway: Gateway, call: Call, addresses: Addresses) -> dict[str, Any]:
    asked: dict[str, Any] = {"name": call.name, "kind": f"{call.protocol} {call.kind}"}
    if call.place == "in front":
        asked |= gateway.in_front(call, addresses)._asdict()
        return asked | {"url": addresses.gateway}
    if call.model == "safe":
        model = f"safe-{call.protocol}"
    else:
        provider = f"{call.protocol}-{call.model}" if call.model in CUT else call.protocol
        model = f"{provider}/{gateway.behind(call.protocol, call.model, addresses).model}"
    return asked | {"url": addresses.turnstream, "model": model}


CASES = {
    "plain": ("plain", "story"),
    "streamed": ("streamed", "story"),
    "paced": ("streamed", "paced"),
    "tools": ("tools", "tools"),
    "plainTools": ("plain_tools", "tools"),
    "thinking": ("streamed", "thinking"),
    "image": ("image", "echo"),
    "structured": ("structured", "echo"),
    "fallback": ("streamed", "safe"),
    "refused": ("streamed", "refusing"),
    "plainRefused": ("plain", "refusing"),
    "broken": ("streamed", "breaking"),
    "plainBroken": ("plain", "breaking"),
    "left": ("left", "long"),
    **{name: ("streamed", name) for name in CUT},
}
"""Kind and model of the calls, by the name of the case."""
ANSWERED = tuple(CASES)[:9]
FAILED = tuple(CASES)[9:13]


def calls_of(place: str, *protocols: str, without: Collection[str] = ()) -> list[Call]:
    """Return the calls of all cases that the clients' scripts have.

    `without`: Names of cases that are left out.
    """
    return [
        Call(case, place, protocol, kind, model)
        for protocol in protocols
        for case, (kind, model) in CASES.items()
        if case not in without and kind not in MISSING.get(protocol, ())
    ]


def check_answer(witness: Witness, call: Call) -> None:
    """The outcome of a call is what turnstream has stored."""
    found = witness.outcomes[call.name]
    outcomes = found if isinstance(found, list) else [found]
    answers = answers_of(witness, call)
    assert len(outcomes) == len(answers)
    for outcome, turn in zip(outcomes, answers, strict=True):
        assert turn.status == "complete"
        assert "error" not in outcome, outcome
        calls = [block["content"] for block in turn.blocks if block["block_type"] == "tool_use"]
        assert outcome["text"] == stored(turn, "text")
        assert outcome["thinking"] == stored(turn, "thinking")
        assert outcome["calls"] == [
            [content["tool_use_id"], content["tool_name"], content["input"]] for content in calls
        ]
    if call.model == "tools":
        assert len(outcomes[0]["calls"]) == 2
        assert outcomes[1]["text"] == "The tools say: clear sky 0; clear sky 1"


def check_failure(witness: Witness, call: Call) -> None:
    """The client of a call fails in its own way. It has no text that turnstream has not stored."""
    outcome = witness.outcomes[call.name]
    assert "error" in outcome or outcome["reason"] == "failed", outcome
    (turn,) = answers_of(witness, call)
    assert turn.status in {"error", "cancelled"}
    assert stored(turn, "text").startswith(outcome.get("part") or outcome.get("text") or "")


def check_cut(witness: Witness, call: Call, *, may_lack_end: bool = False) -> None:
    """A cut connection is an error, or the whole answer came by another call.

    `may_lack_end`: The gateway ends a cut stream cleanly. Then the answer has no reason of its end.
    """
    outcome = witness.outcomes[call.name]
    if "error" in outcome or (may_lack_end and outcome["reason"] is None):
        return
    whole = witness.outcomes[call._replace(case="paced").name]
    assert (outcome["text"], outcome["reason"]) == (whole["text"], whole["reason"])
    assert stored(answers_of(witness, call)[-1], "text") == outcome["text"]


def answers_of(witness: Witness, call: Call) -> list[StoredTurn]:
    """Return the stored answers of a call, of all its chats."""
    question = f"question of {call.name}"
    return [
        turn
        for turns in witness.chats
        if turns[0].blocks and stored(turns[0], "text") in {question, json.dumps({"city": question})}
        for turn in turns
        if turn.raw["role"] == "assistant"
    ]


def stored(turn: StoredTurn, block_type: str) -> str:
    """Return the text of the turn's blocks of a type."""
    return "".join(block["text_content"] for block in turn.blocks if block["block_type"] == block_type)
